"""Named columns as a data frame of the reader's own library, and data frames of any library as columns of numbers."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from numbers import Integral, Number
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from vaekit.errors import DataError

if TYPE_CHECKING:
    import narwhals as nw
    import pyarrow as pa

    Frame: TypeAlias = nw.DataFrame[Any]
    """An eager frame of narwhals, of whatever library the frame inside is."""
    Series: TypeAlias = nw.Series[Any]
    """A column of such a frame."""
    Arrow: TypeAlias = pa.Array | pa.ChunkedArray
    """A column of pyarrow, in one piece or in several."""


def to_frame(columns: Mapping[str, Sequence[object] | np.ndarray], backend: str | None = None) -> Any:
    """A data frame of these columns.

    Args:
        columns: name to values, all of one length.
        backend: any installed library that narwhals knows: "pandas", "polars", "pyarrow", ...; None takes the first of
            these three.
    """
    backend = backend or next(name for name in ("pandas", "polars", "pyarrow") if find_spec(name))
    import narwhals

    return narwhals.from_dict(dict(columns), backend=backend).to_native()  # type: ignore[arg-type]


def to_arrow(columns: Mapping[str, np.ndarray]) -> "pa.Table":
    """A table of pyarrow of arrays of numbers, bools or text, each of shape (N,).

    Numbers and text are handed over as memory: pyarrow's own conversion imports pandas wherever that is installed,
    which takes longer than writing a small file.
    """
    import pyarrow as pa

    return pa.table({name: _arrow(np.ascontiguousarray(values)) for name, values in columns.items()})


def _arrow(values: np.ndarray) -> "Arrow":
    import pyarrow as pa

    if values.dtype.kind in "iuf":
        kind = pa.from_numpy_dtype(values.dtype)
        return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])
    if values.dtype.kind != "U":
        return pa.array(values)
    words = [str(value).encode() for value in values]
    ends = np.cumsum([0, *map(len, words)], dtype=np.int64)
    text = pa.LargeStringArray.from_buffers(len(words), pa.py_buffer(ends), pa.py_buffer(b"".join(words)))
    return text.cast(pa.string()) if ends[-1] < 2**31 else text


def as_json(table: "pa.Table", *, lines: bool = False) -> bytes:
    r"""A table of pyarrow as JSON: a list of records, or one in each line; null for empty cells and NaN, ISO dates.

    Example:
        >>> as_json(to_arrow({"key": np.array(["u"]), "log_p": np.array([np.nan])}))
        b'[\n{"key": "u", "log_p": null}\n]\n'
    """
    columns = [json_cells(column) for column in table.columns]
    rows = [dict(zip(table.column_names, cells, strict=True)) for cells in zip(*columns, strict=True)]
    records = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows]
    text = "\n".join(records) if lines else "[\n" + ",\n".join(records) + "\n]"
    return f"{text}\n".encode()


def json_cells(column: "Arrow") -> list[object]:
    """The cells of a column of pyarrow as JSON has them: no NaN, no infinity, dates as ISO text."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":  # beyond what Python's datetimes hold
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    cells: list[Any] = column.to_pylist()
    if pa.types.is_floating(column.type):
        return [cell if cell is not None and math.isfinite(cell) else None for cell in cells]
    if pa.types.is_temporal(column.type):
        return [None if cell is None else cell.isoformat() for cell in cells]
    return cells


def as_frame(x: object) -> Any:
    """A narwhals frame (or series) of a data frame (or series) of any library, read where it is lazy; else None."""
    import narwhals as nw

    wrapped: Any = nw.from_native(x, pass_through=True, allow_series=True)
    if isinstance(wrapped, nw.LazyFrame):
        wrapped = wrapped.collect()
    return wrapped if isinstance(wrapped, nw.DataFrame | nw.Series) else None


def is_frame(x: object) -> bool:
    """Whether x is a data frame of any library, or a series, even one that cannot be read."""
    import narwhals as nw

    try:
        return as_frame(x) is not None
    except nw.exceptions.NarwhalsError:  # two columns of one name
        return True


def text_columns(columns: "Iterable[Series]") -> "list[Series]":
    """Those of some narwhals series that hold neither numbers nor bools, nor nothing at all."""
    return [c for c in columns if not (_is_number(c) or c.is_null().all())]


def _is_number(column: "Series") -> bool:
    import narwhals as nw

    if column.dtype == nw.Unknown:  # such as sparse columns of pandas, which numpy knows
        return np.asarray(column.to_native()).dtype.kind in "buif"
    if column.dtype == nw.Object:
        return _of_objects(column) is not None
    return bool(column.dtype.is_numeric() or column.dtype == nw.Boolean)


def _of_objects(column: "Series") -> np.ndarray | None:
    """A series of Python objects that are numbers or nothing, as pandas keeps bools beside None; None of others."""
    values = column.to_list()
    if not all(_is_nothing(value) or isinstance(value, Number | np.bool_) for value in values):
        return None
    if any(isinstance(value, complex | np.complexfloating) for value in values):
        return None
    if all(isinstance(value, Integral | np.bool_) and abs(int(value)) < 2**63 for value in values):
        return np.array([int(value) for value in values], np.int64)
    return np.array([np.nan if _is_nothing(value) else float(value) for value in values])


def _is_nothing(value: object) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def cells(column: "Series", name: str) -> np.ndarray:
    """The values of a narwhals series as int64 or, where some are missing or not whole, float64 with NaN.

    Args:
        column: a series of numbers or bools.
        name: what to call the frame in messages.

    Raises:
        DataError: if a value does not fit.
    """
    import narwhals as nw

    if column.dtype == nw.Unknown:
        values = np.asarray(column.to_native())
        return values.astype(np.int64 if values.dtype.kind in "bui" else np.float64)
    objects = _of_objects(column) if column.dtype == nw.Object else None
    if objects is not None:
        return objects
    has_missing = bool(column.is_null().any())
    if has_missing and column.is_null().all():
        return np.full(len(column), np.nan)
    whole = not has_missing and (column.dtype.is_integer() or column.dtype == nw.Boolean)
    try:
        return _plain(column.cast(nw.Int64 if whole else nw.Float64), np.int64 if whole else np.float64)
    except (ValueError, OverflowError, nw.exceptions.NarwhalsError) as error:
        kind = "int64" if whole else "float64"
        raise DataError(f"Column {column.name!r} of {name!r} cannot be held as {kind}: {error}. Rescale it.") from error


def _plain(column: "Series", dtype: type[np.generic]) -> np.ndarray:
    """A series of this dtype as an array of its own, NaN where there is no value.

    A column of pyarrow is read from its buffers: its own conversion imports pandas, which takes longer than the rest of
    reading a small file.
    """
    import narwhals as nw

    if not nw.dependencies.is_pyarrow_chunked_array(column.to_native()):
        return np.array(column.to_numpy(), dtype)
    return from_arrow(column.to_arrow(), dtype)


def from_arrow(array: "Arrow", dtype: type[np.generic]) -> np.ndarray:
    """An array of pyarrow that holds this dtype, as one of numpy; of floats NaN where there is no value."""
    values = _buffer(array, dtype).copy()
    if array.null_count:
        values[_buffer(array.is_null().cast("uint8"), np.uint8) == 1] = np.nan
    return values


def _buffer(array: "Arrow", dtype: type[np.generic]) -> np.ndarray:
    """The memory behind an array of pyarrow, whatever it holds where there is no value."""
    if not len(array):
        return np.empty(0, dtype)
    return np.frombuffer(array.buffers()[1], dtype)[array.offset : array.offset + len(array)]
