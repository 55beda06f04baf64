"""Parquet files: read whole, or a piece at a time where they are large."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vaekit.data.dataset import Dataset, StoredDataset
from vaekit.data.disk_cache import DecodedRows, has_disk_room, no_room, stays_in_memory
from vaekit.data.kinds import TABLES
from vaekit.data.readers.safe_reading import reading, refuse_bomb
from vaekit.data.readers.tables import annotations, from_frame, numbers, weights_in, without
from vaekit.data.reading import Reading, parsed
from vaekit.errors import DataError, ReadingWarning
from vaekit.paths import as_text

INDEX = re.compile(r"__index_level_\d+__")
_PIECE_VALUES = 2**20


def parquet_dataset(
    path: Path,
    label: str | None = None,
    in_memory: bool | None = None,
    key: str | None = None,
    how: Reading | None = None,
) -> Dataset:
    """Read a parquet file; an index that pandas stored with it is left out, a column of vectors is D columns.

    A file that stays on disk is decoded once, a piece at a time, into a file of the cache from which rows are taken in
    any order: row groups would have to be decoded whole for each row of a shuffled batch.

    Args:
        path: The file.
        label: Name of the column with the labels.
        in_memory: Whether all rows are held in memory; None where they take no more than a quarter of what is free.
        key: Name of the column with the identifiers of the rows.
        how: Which columns are data, and which of their cells mean "not observed".

    Returns:
        A table, as `from_frame` makes it.

    Raises:
        DataError: The file cannot be read, is a decompression bomb, does not hold numbers, or should stay on disk and
            there is no room for it.
    """
    how = how or Reading()
    with _opened(path) as (file, names, num_bytes):
        if in_memory is None:
            in_memory = stays_in_memory(num_bytes)
        if not in_memory and file.metadata.num_rows > 1:
            return _stored(file, names, path, label, key, how)
    frame = parsed(("parquet", str(path)), lambda: parquet_table(path))
    return from_frame(frame, label, key=key, name=as_text(path.stem), source=str(path), reading=how)


def parquet_table(path: Path) -> Any:
    """A parquet file as a table of pyarrow, without an index that pandas stored with it.

    Raises:
        DataError: The file cannot be read, or is a decompression bomb.
    """
    with _opened(path) as (file, names, _):
        return file.read().select(names)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, list[str], int]]:
    """The open file, its columns without the index of pandas, and the bytes of its values."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with reading(path), open(path, "rb") as stream, parquet.ParquetFile(stream) as file:
            num_bytes = 8 * _num_values(file.metadata)
            refuse_bomb(num_bytes, path)
            yield file, [name for name in file.schema_arrow.names if not INDEX.fullmatch(name)], num_bytes
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a readable parquet file: {error}. Write it again.") from error


def _num_values(metadata: Any) -> int:
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    return sum(group.column(j).num_values for group in groups for j in range(metadata.num_columns))


def _stored(file: Any, names: list[str], path: Path, label: str | None, key: str | None, how: Reading) -> StoredDataset:
    import narwhals as nw
    import pyarrow as pa

    from vaekit.data.disk_rows import StoredRows

    first = pa.Table.from_batches([next(file.iter_batches(2, columns=names))])
    name = as_text(path.stem)
    like = from_frame(first, label, key=key, name=name, reading=how)  # refuses names and types as in memory
    with warnings.catch_warnings():  # said already
        warnings.simplefilter("ignore", ReadingWarning)
        indices, chosen = without(names, label, key, name, how)
    about = nw.from_native(file.read(columns=[names[i] for i in chosen]), eager_only=True)
    labels, keys, weights = *annotations(about, label, key, name), weights_in(about, how, name)
    names = [names[i] for i in indices]
    shape = (file.metadata.num_rows, *like.event_shape)
    num_bytes = 8 * shape[0] * shape[1]
    if not has_disk_room(num_bytes):
        raise DataError(f"{path} is too large for memory, and there is no room to keep it: {no_room(num_bytes)}.")
    dtype = _common_dtype(file, names, name, how)
    rows = StoredRows(DecodedRows(shape, dtype, _pieces(file, names, name, how)), name=name)
    about_keys: dict[str, Any] = {"keys": keys, "key": key or "row", "reading": how}
    about_keys["weights"] = weights
    about_rows: dict[str, Any] = {"name": name, "columns": like.columns, "source": str(path)}
    return StoredDataset(rows, labels=labels, kind=TABLES.name, **about_rows, **about_keys)


def _pieces(file: Any, names: list[str], name: str, how: Reading) -> Iterator[np.ndarray]:
    """The rows in order, about 8 MiB at a time."""
    import narwhals as nw
    import pyarrow as pa

    for batch in file.iter_batches(max(1, _PIECE_VALUES // len(names)), columns=names):
        frame = nw.from_native(pa.Table.from_batches([batch]).select(names), eager_only=True)
        yield numbers(list(frame.iter_columns()), name, how)


def _common_dtype(file: Any, names: list[str], name: str, how: Reading) -> np.dtype:
    """int64 if every column is whole and without empty cells, else float64: the dtype of the table as a whole."""
    import pyarrow as pa

    fields = [file.schema_arrow.field(column) for column in names]
    kinds = [getattr(field.type, "value_type", field.type) for field in fields]  # of a vector, that of its numbers
    if not all(pa.types.is_integer(kind) or pa.types.is_boolean(kind) for kind in kinds):
        return np.dtype(np.float64)
    return np.result_type(*{piece.dtype for piece in _pieces(file, names, name, how)})
