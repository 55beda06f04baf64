"""Tables with words, dates and levels that are larger than memory: encoded by pieces into a file of the cache."""

import tempfile
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vaekit.data.column_cells import Place
from vaekit.data.columns_seen import as_bytes, from_bytes, schema_seen
from vaekit.data.dataset import StoredDataset
from vaekit.data.disk_cache import decoded, has_disk_room, no_room, stays_in_memory
from vaekit.data.kinds import TABLES
from vaekit.data.once_here import Beat, computed_once
from vaekit.data.readers.frames import FRAMES, with_holes
from vaekit.data.readers.parquet import Files
from vaekit.data.readers.parts import name_of, parts_of, place_in_parts
from vaekit.data.readers.pieces import columns_beside
from vaekit.data.readers.tables import annotations, context_columns, weights_in, without
from vaekit.data.reading import Reading
from vaekit.data.schema import Schema
from vaekit.errors import DataError, ReadingWarning

_PIECE_VALUES = 2**19


def large_table(source: str | Path) -> Files | None:
    """A table of parquet that is to stay on disk: one that takes more than a quarter of the free memory.

    None for all others, and for a table with columns of vectors, which no schema describes.
    """
    path = Path(source).expanduser()
    files = parts_of(path, FRAMES) or [path]
    if any(file.suffix.lower() != ".parquet" or not file.is_file() for file in files):
        return None
    import pyarrow as pa

    table = Files(files)
    if any(pa.types.is_nested(field.type) for field in table.schema) or table.num_rows < 2:
        return None
    return None if stays_in_memory(table.size) else table


def load_large(
    table: Files,
    source: str | Path,
    schema: Schema | None,
    label: str | None,
    key: str | None,
    how: Reading,
    *,
    lenient: bool = False,
    model_holes: bool | Literal["self"] = False,
) -> StoredDataset:
    """As `by_schema.load_by_schema`, for rows that stay on disk; labels, keys, weights and contexts are in memory.

    A schema that is not given is found in one pass over all pieces; see `columns_seen`. The table itself is not kept
    beside the rows.
    """
    from vaekit.data.disk_rows import StoredRows

    name = name_of(source)
    all_names = table.schema.names
    indices, chosen = without(all_names, label, key, name, how)
    names, beside = [all_names[i] for i in indices], [all_names[i] for i in chosen]
    if not names:
        raise DataError(f"{name!r} has no columns beside {' and '.join(map(repr, beside))}.")
    about = columns_beside(table, beside)
    place = _place(table)
    labels, keys = annotations(about, label, key, name)
    of_rows: dict[str, Any] = {"weights": weights_in(about, how, name, place), "beside": context_columns(about, how)}
    pieces = _Pieces(table, names, how, Path(source))
    if schema is None:
        schema = _found(pieces, name, place, model_holes)
    else:
        for column in (how.weight, *how.context):
            schema = schema if column is None else schema.without(column)
        schema.require_columns(f"{name!r} ({table.num_rows:,} row(s))")
    shape = (table.num_rows, len(schema.modelled))
    num_bytes = 8 * shape[0] * shape[1]
    if not has_disk_room(num_bytes):
        raise DataError(f"{source} is too large for memory, and there is no room to keep it: {no_room(num_bytes)}.")
    excluded = _Excluded(shape) if lenient else None
    source_of_rows = decoded(shape, np.dtype(np.float64), _encoded(pieces, schema, name, place, excluded))
    of_rows |= {"excluded": excluded.cells if excluded else None, "keys": keys, "key": key or "row"}
    of_rows |= {"name": name, "columns": tuple(column.name for column in schema.modelled), "source": str(source)}
    of_rows |= {"reading": how, "schema": schema, "kind": TABLES.name}
    return StoredDataset(StoredRows(source_of_rows, name=name), labels=labels, **of_rows)


def _place(table: Files) -> Place:
    if len(table.paths) == 1:
        return "row {}".format
    return lambda row: place_in_parts(table.lengths, table.paths, row)


class _Pieces:
    """The columns of a table that are data, a bounded number of values at a time, with nulls for what is missing."""

    def __init__(self, table: Files, names: list[str], how: Reading, path: Path) -> None:
        self._table, self._names, self._how, self._path = table, names, how, path
        self.num_rows = table.num_rows

    def __iter__(self) -> Iterator[Any]:
        for piece in self._table.batches(max(1, _PIECE_VALUES // len(self._names)), self._names):
            for i, (name, column) in enumerate(zip(piece.column_names, piece.columns, strict=True)):
                if self._how.missing:
                    piece = piece.set_column(i, name, with_holes(name, column, self._path, self._how, True))
            yield piece


def _found(pieces: _Pieces, name: str, place: Place, model_holes: bool | Literal["self"]) -> Schema:
    """The schema of all pieces, found by one process of each machine."""

    def look(beat: Beat) -> bytes:
        return as_bytes(*schema_seen(pieces, pieces.num_rows, name, place, beat))

    schema, groups = from_bytes(computed_once(look))
    schema.require_columns(f"{name!r} ({pieces.num_rows:,} row(s))")
    return schema.with_holes_of(groups, model_holes == "self") if model_holes else schema


class _Excluded:
    """Which cells are no levels or numbers of a schema: a sparse file without a name, made when there is the first."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self.cells: np.ndarray | None = None

    def put(self, start: int, cells: np.ndarray) -> None:
        """Keep those of a piece, shape (B, D), bool, that begins at a row."""
        if not cells.any():
            return
        if self.cells is None:
            with tempfile.TemporaryFile() as file:
                self.cells = np.memmap(file, np.bool_, "w+", shape=self._shape)
        self.cells[start : start + len(cells)] = cells


def _behind(place: Place, start: int, row: int) -> str:
    return place(start + row)


def _encoded(
    pieces: _Pieces, schema: Schema, name: str, place: Place, excluded: _Excluded | None
) -> Iterator[np.ndarray]:
    """The rows in order; notices are those of the first piece."""
    start = 0
    for piece in pieces:
        bad = None if excluded is None else np.zeros((len(piece), len(schema.modelled)), bool)
        with warnings.catch_warnings():
            if start:
                warnings.simplefilter("ignore", ReadingWarning)
            rows = schema.encode(piece, name=name, place=partial(_behind, place, start), excluded=bad)
        if excluded is not None and bad is not None:
            excluded.put(start, bad)
        start += len(piece)
        yield rows
