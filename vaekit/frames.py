"""Named columns as a data frame of the reader's own library, and data frames of any library as columns of numbers."""

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from vaekit.errors import DataError


def to_frame(columns: Mapping[str, Any], backend: str | None = None) -> Any:
    """A data frame of these columns.

    Args:
        columns: name to values, all of one length.
        backend: any installed library that narwhals knows: "pandas", "polars", "pyarrow", ...; None takes the first of
            these three.
    """
    backend = backend or next(name for name in ("pandas", "polars", "pyarrow") if find_spec(name))
    import narwhals

    return narwhals.from_dict(dict(columns), backend=backend).to_native()  # type: ignore[arg-type]


def as_frame(x: object) -> Any:
    """A narwhals frame (or series) of a data frame (or series) of any library, read where it is lazy; else None."""
    import narwhals as nw

    wrapped: Any = nw.from_native(x, pass_through=True, allow_series=True)
    if isinstance(wrapped, nw.LazyFrame):
        wrapped = wrapped.collect()
    return wrapped if isinstance(wrapped, nw.DataFrame | nw.Series) else None


def text_columns(columns: Iterable[Any]) -> list[Any]:
    """Those of some narwhals series that hold neither numbers nor bools, nor nothing at all."""
    return [c for c in columns if not (_is_number(c) or c.is_null().all())]


def _is_number(column: Any) -> bool:
    import narwhals as nw

    if column.dtype == nw.Unknown:  # such as sparse columns of pandas, which numpy knows
        return np.asarray(column.to_native()).dtype.kind in "buif"
    return bool(column.dtype.is_numeric() or column.dtype == nw.Boolean)


def cells(column: Any, name: str) -> np.ndarray:
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
    has_missing = bool(column.is_null().any())
    if has_missing and column.is_null().all():
        return np.full(len(column), np.nan)
    whole = not has_missing and (column.dtype.is_integer() or column.dtype == nw.Boolean)
    try:
        values = column.cast(nw.Int64 if whole else nw.Float64).to_numpy()
        return np.array(values, np.int64 if whole else np.float64)
    except (ValueError, OverflowError, nw.exceptions.NarwhalsError) as error:
        kind = "int64" if whole else "float64"
        raise DataError(f"Column {column.name!r} of {name!r} cannot be held as {kind}: {error}. Rescale it.") from error
