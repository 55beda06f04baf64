"""Columns whose cells are vectors: D columns of a table each."""

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from vaekit.errors import DataError

if TYPE_CHECKING:
    from vaekit.frames import Frame, Series


def widths(columns: "list[Series]") -> list[int | None]:
    """Numbers in each cell of a column of vectors; None for a column of numbers."""
    return [len(column.head(1).to_list()[0]) if is_vectors(column) else None for column in columns]


def spread(columns: list[str], widths: list[int | None]) -> tuple[str, ...]:
    """Names of the columns of x: name_0, name_1, ... for a column of vectors."""
    return tuple(
        name
        for column, width in zip(columns, widths, strict=True)
        for name in ([column] if width is None else [f"{column}_{i}" for i in range(width)])
    )


def is_vectors(column: "Series") -> bool:
    """Whether the cells of a column are vectors, or lists."""
    import narwhals as nw

    return column.dtype in (nw.List, nw.Array) or (
        column.dtype == nw.Object and isinstance(column[0], np.ndarray | list | tuple)
    )


def vectors(column: "Series") -> np.ndarray:
    """A column of vectors as an array of shape (N, D); a `DataError` where their lengths differ."""
    import pyarrow as pa
    import pyarrow.compute as pc

    native = column.to_native()
    try:
        if isinstance(native, pa.ChunkedArray) and native.null_count == 0:
            sizes = np.unique(pc.list_value_length(native).to_numpy())
            flat = native.combine_chunks().flatten().to_numpy(zero_copy_only=False)
            rows: np.ndarray = flat.reshape(len(native), sizes[0]) if len(sizes) == 1 else flat
        else:
            rows = np.array([np.asarray(cell) for cell in column.to_list()])
        if rows.ndim == 2 and rows.shape[1] and rows.dtype.kind in "biuf":
            return rows.astype(np.float64 if rows.dtype.kind == "f" else np.int64)
    except ValueError:  # of several lengths
        pass
    raise DataError(
        f"Column {column.name!r} holds {column.dtype}: not a vector of as many numbers in each row. Drop it (--drop "
        f"{column.name}), or store vectors of one length."
    )


def with_vectors_spread(table: "Frame", beside: Collection[str]) -> "Frame":
    """A narwhals frame with D columns in the place of each column of vectors of length D.

    Lists of words or of several lengths stay as they are, and so do the columns `beside`.

    Raises:
        DataError: Another column has the name that one of these would get.
    """
    import narwhals as nw

    new: list[Series] = []
    names: list[str] = []
    for column in table.iter_columns():
        try:
            rows = None if column.name in beside or not is_vectors(column) else vectors(column)
        except DataError:
            rows = None
        if rows is None:
            names.append(column.name)
            continue
        parts = spread([column.name], [rows.shape[1]])
        taken = sorted({*parts} & {*table.columns})
        if taken:
            raise DataError(f"Column {column.name!r} holds vectors, and {taken[0]!r} stands beside it. Rename it.")
        backend = column.implementation
        new += [nw.new_series(part, values, backend=backend) for part, values in zip(parts, rows.T, strict=True)]
        names += parts
    return table.with_columns(*new).select(names) if new else table
