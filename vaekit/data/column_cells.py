"""The cells of one column as float64, by way of pyarrow."""

import datetime as dt
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vaekit.data.column import COUNTS, MOST_EXACT, WITH_LEVELS, Column
from vaekit.errors import CellError, DataError
from vaekit.frames import from_arrow

if TYPE_CHECKING:
    import pyarrow as pa

    from vaekit.frames import Arrow, Series

Place = Callable[[int], str]  # where a row stands, for messages
DAY = 86400.0
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # per second
_LIKE_A_DATE = r"^\s*\d{4}-\d{2}-\d{2}([T ][\d:.]+)?(Z|[+-]\d{2}:?\d{2})?\s*$"
DATETIME = re.compile(r"Datetime\[(\w+)(?:, (.+))?\]")


def dtype_text(series: "Series", array: "Arrow") -> str:
    """The dtype of a narwhals series that is this array of pyarrow, in short: "Datetime[us, UTC]", "Enum", "Int64"."""
    import narwhals as nw
    import pyarrow as pa

    kind = array.type
    if pa.types.is_timestamp(kind):
        return f"Datetime[{kind.unit}{f', {kind.tz}' if kind.tz else ''}]"
    if pa.types.is_date(kind):
        return "Date"
    if pa.types.is_dictionary(kind):
        return "Enum" if kind.ordered else "Categorical"
    if series.dtype in (nw.Object, nw.Unknown):
        series = nw.from_native(pa.chunked_array([array]), series_only=True)
    return type(series.dtype).__name__


def native_text(series: "Series") -> str:
    """The dtype of a narwhals series in the words of its library; objects of pandas with the kind of empty cell."""
    native = series.to_native()
    text = str(getattr(native, "type", None) or getattr(native, "dtype", ""))
    if text == "object" and series.is_null().any():
        empty = native[native.isna()].iloc[0]
        return "object" if empty is None else "object (NaN)"
    return text


def as_arrow(series: "Series") -> "pa.Array":
    """A narwhals series as one array of pyarrow; a dictionary where its dtype lists categories.

    Raises:
        DataError: It holds values of several kinds.
    """
    import narwhals as nw
    import pyarrow as pa

    try:
        if series.dtype == nw.Unknown and not nw.dependencies.is_pyarrow_chunked_array(series.to_native()):
            if series.is_null().all():
                return pa.nulls(len(series))
            return pa.array(np.asarray(series.to_native()))  # such as sparse columns of pandas
        array = series.to_arrow()
    except (pa.ArrowException, TypeError) as error:
        raise DataError(f"Column {series.name!r} {_kinds_of(series.to_list())}") from error
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _kinds_of(cells: list[object]) -> str:
    """What to say of cells of several types: the first of each, with its row."""
    first: dict[type, tuple[int, object]] = {}
    for row, cell in enumerate(cells):
        if cell is not None and cell == cell:
            first.setdefault(type(cell), (row, cell))
    parts = ", ".join(f"{cell!r} in row {row}" for row, cell in list(first.values())[:3])
    if len(first) == 1:
        return f"holds what is none of numbers, text, bools, levels and datetimes: {parts}. Convert or drop it."
    return f"holds values of several kinds: {parts}. Give it values of one kind."


def coded(
    column: Column, array: "Arrow", place: Place = "row {}".format, excluded: np.ndarray | None = None
) -> np.ndarray:
    """The cells of a column as float64, shape (N,): numbers, codes of levels, seconds since 1970; NaN for empty ones.

    Args:
        column: The column.
        array: Its cells, an array of pyarrow.
        place: What to call a row in messages.
        excluded: Shape (N,), bool: where it is handed in, unknown levels and numbers out of bounds are marked in it and
            become NaN, instead of being refused.

    Raises:
        DataError: A cell is none that the column can hold; the message names row, column and cell.
    """
    import pyarrow as pa

    if pa.types.is_null(array.type):
        return np.full(len(array), np.nan)
    if column.kind in WITH_LEVELS:
        return _codes(column, array, place, excluded)
    if column.kind == "datetime":
        return _checked(column, _seconds_of(column, array, place), place, excluded)
    return _checked(column, _numbers(column, array, place), place, excluded)


def _numbers(column: Column, array: "Arrow", place: Place) -> np.ndarray:
    import pyarrow as pa

    values = None if pa.types.is_boolean(array.type) and array.null_count < len(array) else floats(array)
    if values is None:
        row, cell = _first_word(array) or first_cell(array)
        raise CellError(
            f"Column {column.name!r} is {column.kind} and holds numbers; {place(row)} holds {cell!r}. Convert the "
            "column, or say that the cell was not observed (--missing).",
            row,
            column.name,
        )
    return values


def floats(array: "Arrow") -> np.ndarray | None:
    """An array of numbers or bools of pyarrow as float64, NaN where empty; None where it holds something else."""
    import pyarrow as pa

    kind = array.type
    if pa.types.is_dictionary(kind):
        array = array.dictionary_decode()
        kind = array.type
    if pa.types.is_boolean(kind):
        array = array.cast(pa.uint8())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        return np.full(len(array), np.nan) if array.null_count == len(array) else None
    return from_arrow(array.cast(pa.float64(), safe=False), np.float64)


def _first_word(array: "Arrow") -> tuple[int, str] | None:
    """The first cell of a column of text that is no number, and its row: one word makes a whole column text."""
    for row, cell in enumerate(array.to_pylist()):
        if isinstance(cell, str):
            try:
                float(cell)
            except ValueError:
                return row, cell
    return None


def first_cell(array: "Arrow") -> tuple[int, object]:
    """The first cell that is not empty, and its row."""
    row = int(np.flatnonzero(from_arrow(array.is_valid().cast("uint8"), np.uint8))[0])
    return row, array[row].as_py()


def _checked(column: Column, values: np.ndarray, place: Place, excluded: np.ndarray | None) -> np.ndarray:
    """The values, where each is one that the column can have."""
    low = 0.0 if column.kind in COUNTS and column.low is None else column.low
    refused = [(np.isinf(values), "a finite number; infinity is never one")]
    if not column.dtype.startswith("Float"):
        refused.append((np.abs(values) > MOST_EXACT, "no number beyond 2**53, which float64 does not tell from others"))
    num_unreadable = len(refused)
    if column.kind == "positive":
        refused.append((values <= 0, "above 0"))
    if column.kind in COUNTS:
        refused.append((values != np.round(np.where(np.isnan(values), 0, values)), "whole"))
        refused[-1] = (refused[-1][0] & ~np.isnan(values), "whole")
    if low is not None:
        refused.append((values < low, f"{low:g} or more"))
    if column.high is not None:
        refused.append((values > column.high, f"{column.high:g} or less"))
    if excluded is not None:
        for bad, _ in refused[num_unreadable:]:
            excluded |= bad
        values, refused = np.where(excluded, np.nan, values), refused[:num_unreadable]
    for bad, expected in refused:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            more = f" ({int(bad.sum()) - 1} more cells are like it)" if bad.sum() > 1 else ""
            raise CellError(
                f"Column {column.name!r} is {column.kind}, so each of its values must be {expected}; {place(row)} "
                f"holds {values[row]}{more}. Mend the cell, or edit the column's kind, low or high in the schema.",
                row,
                column.name,
            )
    return values


def _codes(column: Column, array: "Arrow", place: Place, excluded: np.ndarray | None) -> np.ndarray:
    """Codes of levels, each looked up once."""
    indices, cells = encoded_levels(array)
    is_text = any(isinstance(level, str) for level in column.levels)
    codes: dict[object, int] = {level: code for code, level in enumerate(column.levels)}
    unknown = float(len(column.levels)) if column.other else -1.0
    found = np.array([_code(cell, codes, is_text, unknown) for cell in cells] + [np.nan])
    values: np.ndarray = found[np.where(np.isnan(indices), len(cells), indices).astype(np.int64)]
    if excluded is not None:
        excluded |= values < 0
        return np.where(excluded, np.nan, values)
    if (values < 0).any():
        row = int(np.flatnonzero(values < 0)[0])
        known = ", ".join(map(repr, column.levels[:5])) + (", ..." if len(column.levels) > 5 else "")
        raise CellError(
            f"Column {column.name!r} has no level {cells[int(indices[row])]!r}, which {place(row)} holds; its levels "
            f"are {known}. Mend the cell, or add the level to the schema or set its 'other' and fit again.",
            row,
            column.name,
        )
    return values


def encoded_levels(array: "Arrow") -> tuple[np.ndarray, list[Any]]:
    """Which of the distinct cells stands in each row, shape (N,), NaN for none, and these cells."""
    import pyarrow as pa

    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
        indices, cells = encoded_levels(array)
        return indices, [bool(cell) for cell in cells]
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    return from_arrow(encoded.indices.cast(pa.float64()), np.float64), encoded.dictionary.to_pylist()


def _code(cell: object, codes: Mapping[object, int], is_text: bool, unknown: float) -> float:
    if cell is None or cell != cell:
        return np.nan
    if is_text and not isinstance(cell, str):  # a file whose rows of such a column all look like numbers or bools
        word = str(cell)
        written = (word, word.lower(), word.upper()) if isinstance(cell, bool) else (word,)
        cell = next((text for text in written if text in codes), word)
    try:
        return codes.get(cell, unknown)
    except TypeError:  # a list, say
        return unknown


def _seconds_of(column: Column, array: "Arrow", place: Place) -> np.ndarray:
    import pyarrow as pa

    kind, found = array.type, DATETIME.fullmatch(column.dtype)
    zone = found[2] if found else None
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        if array.null_count == len(array):
            return np.full(len(array), np.nan)
        row, cell = odd_date(array) or first_cell(array)
        raise CellError(
            f"Column {column.name!r} holds {column.dtype}; {place(row)} holds {cell!r}. Convert it to datetimes: in a "
            "file, dates that there are, such as 2026-01-31 or 2026-01-31T10:00:00.",
            row,
            column.name,
        )
    if pa.types.is_timestamp(kind) and (kind.tz is None) != (zone is None):
        raise DataError(
            f"Column {column.name!r} has {f'the time zone {zone}' if zone else 'no time zone'}, the new one has "
            f"{f'that of {kind.tz}' if kind.tz else 'none'}: which instants are meant cannot be told. Convert it."
        )
    return seconds(array)


def odd_date(array: "Arrow") -> tuple[int, object] | None:
    """The row and the text of the first cell that is no date, in a column of text of which half are like dates.

    None in any other column.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        return None
    num_alike = pc.sum(pc.match_substring_regex(array, _LIKE_A_DATE)).as_py() or 0
    if not num_alike or 2 * num_alike < len(array) - array.null_count:
        return None
    cells = enumerate(array.to_pylist())
    return next(((row, cell) for row, cell in cells if cell is not None and not _is_date(cell)), None)


def _is_date(text: str) -> bool:
    try:
        dt.datetime.fromisoformat(text.strip())
    except ValueError:
        return False
    return True


def seconds(array: "Arrow") -> np.ndarray:
    """Seconds since 1970 (UTC, local time without a zone) of dates or timestamps of pyarrow; NaN where empty."""
    import pyarrow as pa

    if pa.types.is_date(array.type):
        array = array.cast(pa.timestamp("s")) if pa.types.is_date32(array.type) else array.cast(pa.timestamp("ms"))
    per_second = UNITS[array.type.unit]
    empty = from_arrow(array.is_null().cast("uint8"), np.uint8) == 1
    whole, rest = np.divmod(from_arrow(array.cast(pa.int64()).fill_null(0), np.int64), per_second)
    return np.where(empty, np.nan, whole + rest / per_second)
