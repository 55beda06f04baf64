"""Tables that are larger than memory: decoded once, a piece at a time, into a file of the cache."""

import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from vaekit.data.dataset import StoredDataset
from vaekit.data.disk_cache import decoded, has_disk_room, no_room
from vaekit.data.kinds import TABLES
from vaekit.data.once_here import Beat, computed_once
from vaekit.data.readers.tables import annotations, from_frame, numbers, weights_in, without
from vaekit.data.reading import Reading
from vaekit.errors import DataError, ReadingWarning

if TYPE_CHECKING:
    import pyarrow as pa

    from vaekit.frames import Frame

_PIECE_VALUES = 2**20


class Pieces(Protocol):
    """A table that gives some of its rows at a time.

    Attributes:
        num_rows: how many rows there are.
        schema: names and types of the columns, as pyarrow has them.
    """

    num_rows: int
    schema: "pa.Schema"

    def batches(self, num_rows: int, columns: Sequence[str]) -> Iterator["pa.Table"]:
        """Tables of pyarrow of at most so many rows each, in order."""
        ...


def stored(table: Pieces, label: str | None, key: str | None, how: Reading, *, name: str, source: str) -> StoredDataset:
    """Rows of a table of numbers that stay on disk.

    Rows are decoded into a file of the cache from which they are taken in any order: the pieces of the table would have
    to be decoded whole for each row of a shuffled batch.

    Args:
        table: the table.
        label: name of the column with the labels.
        key: name of the column with the identifiers of the rows.
        how: which columns are data, and which of their cells mean "not observed".
        name: what to call the data.
        source: where they are.

    Raises:
        DataError: if columns do not hold numbers, or the disk has no room.
    """
    from vaekit.data.disk_rows import StoredRows

    names = table.schema.names
    first = next(table.batches(2, names))
    like = from_frame(first, label, key=key, name=name, reading=how)  # refuses names and types as in memory
    with warnings.catch_warnings():  # said already
        warnings.simplefilter("ignore", ReadingWarning)
        indices, chosen = without(names, label, key, name, how)
    beside = [names[i] for i in chosen]
    about = columns_beside(table, beside)
    labels, keys, weights = *annotations(about, label, key, name), weights_in(about, how, name)
    names = [names[i] for i in indices]
    shape = (table.num_rows, *like.event_shape)
    num_bytes = 8 * shape[0] * shape[1]
    if not has_disk_room(num_bytes):
        raise DataError(f"{source} is too large for memory, and there is no room to keep it: {no_room(num_bytes)}.")
    dtype = _common_dtype(table, names, name, how)
    rows = StoredRows(decoded(shape, dtype, _pieces(table, names, name, how)), name=name)
    return StoredDataset(
        rows,
        labels=labels,
        name=name,
        columns=like.columns,
        kind=TABLES.name,
        source=source,
        keys=keys,
        key=key or "row",
        reading=how,
        weights=weights,
    )


def columns_beside(table: Pieces, names: Sequence[str]) -> "Frame":
    """Some columns of a table as a frame of narwhals, in memory."""
    import narwhals as nw
    import pyarrow as pa

    pieces = [piece.select(list(names)) for piece in table.batches(_PIECE_VALUES, names)] if names else []
    return nw.from_native(pa.concat_tables(pieces) if pieces else pa.table({}), eager_only=True)


def _pieces(table: Pieces, names: list[str], name: str, how: Reading) -> Iterator[np.ndarray]:
    """The rows in order, about 8 MiB at a time."""
    import narwhals as nw

    start = 0
    for piece in table.batches(max(1, _PIECE_VALUES // len(names)), names):
        frame = nw.from_native(piece.select(names), eager_only=True)
        yield numbers(list(frame.iter_columns()), name, how, partial(_place, start))
        start += len(piece)


def _place(start: int, row: int) -> str:
    return f"row {start + row}"


def _of_cells(kind: "pa.DataType") -> "pa.DataType":
    """The type itself; of a column of vectors or of levels, that of these."""
    import pyarrow as pa

    types = pa.types
    is_vector = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return kind.value_type if is_vector or types.is_dictionary(kind) else kind


def _common_dtype(table: Pieces, names: list[str], name: str, how: Reading) -> np.dtype:
    """int64 if every column is whole and without empty cells, else float64: the dtype of the table as a whole."""
    import pyarrow as pa

    fields = [table.schema.field(column) for column in names]
    kinds = [_of_cells(field.type) for field in fields]
    if not all(pa.types.is_integer(kind) or pa.types.is_boolean(kind) for kind in kinds):
        return np.dtype(np.float64)

    def look(beat: Beat) -> bytes:
        found: set[np.dtype] = set()
        for piece in _pieces(table, names, name, how):
            found.add(piece.dtype)
            beat()
        return np.result_type(*found).str.encode()

    return np.dtype(computed_once(look).decode())
