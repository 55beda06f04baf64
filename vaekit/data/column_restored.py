"""Numbers of x as the cells of one column, by way of pyarrow."""

from typing import TYPE_CHECKING

import numpy as np

from vaekit.data.column import COUNTS, MOST_EXACT, WITH_LEVELS, Cell, Column
from vaekit.data.column_cells import DATETIME, DAY, UNITS
from vaekit.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

    from vaekit.frames import Arrow

OTHER = "other"  # what the shared code of rare and unseen levels is called on the way back
_MICRO = 1_000_000
_YEARS = -62_135_596_800, 253_402_300_800  # seconds of the years that Python's datetimes hold, and of the next one
_NANO = -9_223_372_036, 9_223_372_036  # seconds that 64 bits of nanoseconds hold


def restored(column: Column, values: np.ndarray) -> "pa.Array":
    """The cells of a column as an array of pyarrow of its dtype, from float64 of shape (N,).

    Raises:
        DataError: A value is infinite, or no code of a level.
    """
    import pyarrow as pa

    empty = np.isnan(values)
    if np.isinf(values).any():
        row = int(np.flatnonzero(np.isinf(values))[0])
        raise DataError(f"Column {column.name!r} of x is {values[row]} in row {row}. Give finite values.")
    if column.kind in WITH_LEVELS:
        return _levels(column, values, empty)
    values = np.where(empty, 0.0, values)
    if column.dtype.startswith("Date"):
        return _times(column, _clipped(column, values), empty)
    values = _clipped(column, values)
    if column.decimals is not None or column.whole:
        values = np.round(values, column.decimals or 0)
        values = _clipped(column, values)
    return _typed(column.dtype, values, empty) if not empty.all() else pa.nulls(len(values), arrow_type(column))


def with_filled(column: Column, cells: "Arrow", values: np.ndarray) -> "pa.Array":
    """The cells of a column as they are, and where they are empty those that the values stand for.

    Args:
        column: The column.
        cells: An array of pyarrow, as the column came.
        values: Numbers and codes, shape (N,), float64; NaN leaves an empty cell empty.

    Returns:
        An array of the dtype of the column; levels that it does not list come behind those that it does.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    filled = restored(column, values)
    plain, own = (part.dictionary_decode() if pa.types.is_dictionary(part.type) else part for part in (filled, cells))
    try:
        own = own.cast(plain.type)
    except pa.ArrowException:  # cells that were read as something else, such as numbers for the levels of a text
        own = pa.array([None if cell is None else str(cell) for cell in own.to_pylist()]).cast(plain.type)
    joined = pc.if_else(pc.is_null(own, nan_is_null=True), plain, own)
    if not pa.types.is_dictionary(filled.type):
        return joined
    names = list(dict.fromkeys([*filled.dictionary.to_pylist(), *pc.unique(joined.drop_null()).to_pylist()]))
    listed = pa.array(names, plain.type)
    indices = pc.index_in(joined, value_set=listed)
    return pa.DictionaryArray.from_arrays(indices.cast(pa.int32()), listed, ordered=filled.type.ordered)


def _clipped(column: Column, values: np.ndarray) -> np.ndarray:
    low = column.low
    if column.kind == "positive":
        low = max(low or 0.0, np.finfo(np.float64).tiny if column.decimals is None else 10.0**-column.decimals)
    elif column.kind in COUNTS:
        low = max(low or 0.0, 0.0)
    return values if low is None and column.high is None else np.clip(values, low, column.high)


def _typed(dtype: str, values: np.ndarray, empty: np.ndarray) -> "pa.Array":
    import pyarrow as pa

    kind = _ARROW.get(dtype, "float64")
    if "int" in kind:
        limits = np.iinfo(kind)
        values = np.rint(np.clip(values, max(limits.min, -MOST_EXACT), min(limits.max, MOST_EXACT)))
    return pa.array(values.astype(kind), mask=empty)


_ARROW = {f"{sign}Int{bits}": f"{sign.lower()}int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)}
_ARROW |= {"Float16": "float16", "Float32": "float32", "Float64": "float64"}


def arrow_type(column: Column) -> "pa.DataType":
    """The type of pyarrow that holds the cells of a column."""
    import pyarrow as pa

    found = DATETIME.fullmatch(column.dtype)
    if found:
        return pa.timestamp(found[1], found[2])
    if column.dtype in _ARROW:
        return pa.type_for_alias(_ARROW[column.dtype])
    known = {"Boolean": pa.bool_(), "Date": pa.date32(), "Unknown": pa.null()}
    if column.dtype in ("Categorical", "Enum"):
        kind = pa.array(list(column.categories or column.levels) or [""]).type
        return pa.dictionary(pa.int32(), kind, ordered=column.dtype == "Enum")
    return known.get(column.dtype, pa.float64() if column.dtype in ("Decimal",) else pa.string())


def _levels(column: Column, codes: np.ndarray, empty: np.ndarray) -> "pa.Array":
    import pyarrow as pa

    bad = ~empty & ~((codes == np.floor(codes)) & (codes >= 0) & (codes < column.num_codes))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"Column {column.name!r} of x has codes from 0 to {column.num_codes - 1}; got {codes[row]!r} in row {row}."
        )
    indices = pa.array(np.where(empty, 0, codes).astype(np.int32), mask=empty)
    is_text = all(isinstance(level, str) for level in column.levels)
    names: list[Cell | None] = [*column.levels]
    if column.other:
        names.append(other_name(column) if is_text else None)
    if column.dtype in ("Categorical", "Enum"):
        used = column.other and bool((codes == len(column.levels)).any())
        return _listed(column, names, indices, used)
    return pa.array(names, arrow_type(column)).take(indices)


def other_name(column: Column) -> str:
    """What the shared code of a column of text is called: "other", or "other (rare)" where a level has that name."""
    return OTHER if OTHER not in column.levels else f"{OTHER} (rare)"


def _listed(column: Column, names: list[Cell | None], indices: "pa.Array", used: bool) -> "pa.Array":
    """As a dictionary of all categories of the dtype, and of "other" where it is used."""
    import pyarrow as pa

    categories: list[Cell] = [*(column.categories or column.levels)]
    if used and names[-1] is not None:
        categories.append(names[-1])
    place = {name: i for i, name in enumerate(categories)}
    moved = pa.array([place.get(name) if name is not None else None for name in names], pa.int32()).take(indices)
    return pa.DictionaryArray.from_arrays(moved, pa.array(categories), ordered=column.dtype == "Enum")


def _times(column: Column, values: np.ndarray, empty: np.ndarray) -> "pa.Array":
    """Seconds as dates or timestamps, rounded to the column's step, within the years that its dtype holds."""
    import pyarrow as pa

    kind = arrow_type(column)
    unit = "s" if column.dtype == "Date" else kind.unit
    step = DAY if column.dtype == "Date" else column.step or 0.0
    values = np.clip(values, *(_NANO if unit == "ns" else (_YEARS[0], _YEARS[1] - max(step, 1.0))))
    if step >= 1:
        values = np.rint(values / step) * step
    whole = np.floor(values)
    ticks = _MICRO if unit in ("us", "ns") else UNITS[unit]  # seconds in float64 hold no more than microseconds
    if 0 < step < 1:
        ticks = min(ticks, round(1 / step))
    count = whole.astype(np.int64) * ticks + np.rint((values - whole) * ticks).astype(np.int64)
    count = count * (UNITS[unit] // ticks)
    if column.dtype == "Date":
        return pa.array((count // int(DAY)).astype(np.int32), mask=empty).cast(pa.date32())
    return pa.array(count, mask=empty).cast(kind)


def beside(column: Column, num_rows: int) -> "pa.Array":
    """Cells of a column that is no element of x: constants filled in, identifiers counted from 1, text empty."""
    import pyarrow as pa

    kind = arrow_type(column)
    if column.kind == "identifier" and (pa.types.is_string(kind) or pa.types.is_integer(kind)):
        return pa.array(np.arange(1, num_rows + 1)).cast(kind)
    if column.kind != "constant" or column.value is None:
        return pa.nulls(num_rows, kind)
    if column.dtype.startswith("Date"):
        return _times(column, np.full(num_rows, float(column.value)), np.zeros(num_rows, bool))
    categories = list(column.categories) or [column.value]
    place = categories.index(column.value)
    if pa.types.is_dictionary(kind):
        indices = pa.array(np.full(num_rows, place, np.int32))
        return pa.DictionaryArray.from_arrays(indices, pa.array(categories), ordered=column.dtype == "Enum")
    return pa.array([column.value], kind).take(pa.array(np.zeros(num_rows, np.int32)))
