"""Cells of files that know numbers, bools and text apart, as columns of pyarrow: those of JSON and of workbooks.

The same table is read as the same columns, whatever the format of its file: text that means "not observed" is so
everywhere, ISO dates are dates, and text that holds nothing but numbers is numbers, unless leading zeros would be lost.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vaekit.data.reading import notice
from vaekit.errors import CellError, DataError

if TYPE_CHECKING:
    import pyarrow as pa

    from vaekit.frames import Arrow

Place = Callable[[int], str]  # where a row stands, for messages
Told = Mapping[str, Literal["text", "number"]]  # what the cells of some columns are, by a schema
HOLES_AMONG_NUMBERS = ("?", "-")  # holes in a column that otherwise holds numbers
PADDED = r"^\s*0[0-9]+\s*$"
"""Digits with leading zeros, as codes have them: as a number they would be another text."""
_WORDS = {bool: "bool", int: "number", float: "number", str: "text", dt.date: "date", dt.datetime: "date"}
_WORDS |= {dt.time: "time", dt.timedelta: "duration", type(None): "empty"}


def table_of_records(
    records: Iterable[Mapping[str, object]],
    name: str,
    place: Place = "row {}".format,
    told: Told | None = None,
    missing: Sequence[str] = (),
) -> "pa.Table":
    """Records, one for each row, as a table of pyarrow; what a record lacks is an empty cell.

    Args:
        records: The rows, names to cells.
        name: What to call the table in messages.
        place: What to call a row in messages.
        told: See `typed`.
        missing: See `typed`.

    Raises:
        DataError: A name is no text, or the cells of a column are of several kinds or nested; with row and column.
    """
    columns: dict[str, list[object]] = {}
    num_rows = 0
    for row, record in enumerate(records):
        for column, cell in record.items():
            if column not in columns:
                if not isinstance(column, str):
                    raise DataError(f"{name!r}: {place(row)} has the name {column!r}; names of columns are text.")
                columns[column] = []
            cells = columns[column]
            if len(cells) < row:
                cells.extend([None] * (row - len(cells)))
            cells.append(cell)
        num_rows = row + 1
    for cells in columns.values():
        cells.extend([None] * (num_rows - len(cells)))
    return table_of_columns(columns, name, place, told, missing)


def table_of_columns(
    columns: Mapping[str, Sequence[object]],
    name: str,
    place: Place = "row {}".format,
    told: Told | None = None,
    missing: Sequence[str] = (),
) -> "pa.Table":
    """Columns of one length as a table of pyarrow; see `typed`."""
    import pyarrow as pa

    told = told or {}
    try:
        return pa.table({c: typed(c, cells, name, place, told.get(c), missing) for c, cells in columns.items()})
    except UnicodeEncodeError as error:  # half of a pair
        raise DataError(f"{name!r} holds text that is no Unicode: {error}. Write it again.") from error


def typed(
    column: str,
    cells: Sequence[object],
    name: str,
    place: Place = "row {}".format,
    told: Literal["text", "number"] | None = None,
    missing: Sequence[str] = (),
) -> "Arrow":
    """The cells of one column as an array of pyarrow.

    Args:
        column: Its name.
        cells: None, NaN, bools, numbers, text, dates, datetimes, times or durations, of Python, numpy or pandas.
        name: What to call the table in messages.
        place: What to call a row in messages.
        told: Whether text stays text even where it holds numbers, or is numbers even with leading zeros.
        missing: Text that means "not observed", beside the words that it has in all text files.

    Raises:
        DataError: A cell is nested, or cells are of several kinds.

    Warns:
        ReadingWarning: Text is taken for numbers, or "?" or "-" for empty cells.

    Example:
        >>> typed("size", [1, None, 2.5, "NA"], "t").to_pylist()
        [1.0, None, 2.5, None]
        >>> typed("code", ["007", "12"], "t").to_pylist()
        ['007', '12']
    """
    import pyarrow as pa

    empty = _empty_words(missing)
    cells = [_plain(cell, empty) for cell in cells]
    first: dict[str, int] = {}
    for row, cell in enumerate(cells):
        kind = _WORDS.get(type(cell), "nested")
        if kind not in first:
            first[kind] = row
    first.pop("empty", None)
    if "nested" in first:
        row = first["nested"]
        raise CellError(
            f"{name!r}: column {column!r} holds {_short(cells[row])} in {place(row)}, which is no cell. A cell is a "
            "number, text, a bool or empty: write nested values as columns of their own.",
            row,
            column,
        )
    if set(first) == {"number", "text"} and told != "text":
        cells, first = _without_doubtful(cells, first, name, column)
    if len(first) > 1:
        parts = ", ".join(f"{cells[row]!r} in {place(row)}" for row in sorted(first.values())[:3])
        raise CellError(
            f"{name!r}: column {column!r} holds values of several kinds: {parts}. Give it values of one kind, or say "
            "which mean that nothing was observed (--missing).",
            sorted(first.values())[1],
            column,
        )
    if not first:
        return pa.nulls(len(cells))
    kind = next(iter(first))
    if kind == "text":
        return from_text(pa.array(cells, pa.string()), column, name, told)
    return _of_kind(kind, cells, column, name, place)


def _empty_words(missing: Sequence[str]) -> set[str]:
    from pyarrow.csv import ConvertOptions

    return {*ConvertOptions().null_values, *missing}


def _plain(cell: object, empty: set[str]) -> Any:
    """A cell as an object of Python alone: None for all that is empty, numpy's and pandas' scalars as Python's."""
    kind = type(cell)
    if kind is str:
        return None if cell in empty else cell
    if kind is float:
        return None if cell != cell else cell
    if kind in _WORDS:
        return cell
    if isinstance(cell, np.datetime64):
        cell = cell.astype("datetime64[us]")
    if isinstance(cell, np.generic):
        return _plain(cell.item(), empty)
    if kind.__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(cell, dt.datetime):  # such as pandas' own
        return cell.to_pydatetime(warn=False) if hasattr(cell, "to_pydatetime") else cell
    return float(cell) if isinstance(cell, Decimal) else cell


def _short(cell: object) -> str:
    text = repr(cell)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _without_doubtful(
    cells: list[object], first: dict[str, int], name: str, column: str
) -> tuple[list[object], dict[str, int]]:
    """Numbers with holes for "?" and "-", where no other text stands among them."""
    words = {cell for cell in cells if type(cell) is str}
    if not words <= set(HOLES_AMONG_NUMBERS):
        return cells, first
    say_holes(name, column, sum(type(cell) is str for cell in cells), sorted(words, key=HOLES_AMONG_NUMBERS.index))
    return [None if type(cell) is str else cell for cell in cells], {"number": first["number"]}


def say_holes(name: str, column: str, count: int, marks: Sequence[str]) -> None:
    """Say that cells among numbers are taken for empty ones."""
    said = " and ".join(map(repr, marks))
    notice(f"{name}: column {column!r} holds numbers, so its {count} cell(s) {said} are taken for empty ones.")


def _of_kind(kind: str, cells: Sequence[Any], column: str, name: str, place: Place) -> "pa.Array":
    import pyarrow as pa

    if kind == "number" and not any(type(cell) is float for cell in cells):
        for row, cell in enumerate(cells):
            if cell is not None and not -(2**63) <= cell < 2**63:
                raise CellError(
                    f"{name!r}: column {column!r} holds {_short(cell)} in {place(row)}, a whole number beyond 64 bits. "
                    "Write such numbers as text.",
                    row,
                    column,
                )
        return pa.array(cells, pa.int64())
    if kind == "number":
        return pa.array([None if cell is None else float(cell) for cell in cells], pa.float64())
    if kind == "date" and any(type(cell) is dt.datetime for cell in cells):
        midnight = dt.time()
        cells = [dt.datetime.combine(cell, midnight) if type(cell) is dt.date else cell for cell in cells]
    try:
        return pa.array(cells)
    except (pa.ArrowException, TypeError) as error:  # datetimes with and without a zone
        raise DataError(f"{name!r}: column {column!r} cannot be read: {error}. Write dates in one way.") from error


def from_text(text: "Arrow", column: str, name: str, told: Literal["text", "number"] | None = None) -> "Arrow":
    """A column of text as dates, datetimes or numbers, where all of its cells are; else as it is."""
    if told == "text":
        return text
    dates = with_dates(text)
    if not is_text(dates.type):
        return dates
    numbers = as_numbers(text, padded=told == "number")
    if numbers is None:
        return text
    notice(f"{name}: column {column!r} holds text, each cell of which is a number; it is read as numbers.")
    return numbers


def with_dates(text: "Arrow") -> "Arrow":
    """A column of text as dates or datetimes, where all of its cells are such in ISO 8601; else as it is."""
    import pyarrow as pa

    if text.null_count == len(text):
        return text
    for kind in (pa.date32(), pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            return text.cast(kind)
        except pa.ArrowInvalid:
            continue
    return text


def is_text(kind: "pa.DataType") -> bool:
    """Whether a type of pyarrow is one of text."""
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def as_numbers(column: "Arrow", decimal: str = ".", *, padded: bool = False) -> "Arrow | None":
    """A column of text as int64 or float64; None where a cell is no number, has leading zeros, or none is left.

    Args:
        column: Of pyarrow.
        decimal: The decimal mark.
        padded: Whether whole numbers with leading zeros are numbers all the same.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.null_count == len(column):
        return None
    column = pc.utf8_trim_whitespace(column)
    column = column if decimal == "." else pc.replace_substring(column, decimal, ".")
    for kind in (pa.int64(), pa.float64()):
        try:
            numbers = column.cast(kind)
        except pa.ArrowInvalid:
            continue
        return numbers if padded or not is_padded(column) else None
    return None


def is_padded(text: "Arrow") -> bool:
    """Whether a cell of a column of text holds digits with leading zeros."""
    import pyarrow.compute as pc

    return bool(pc.any(pc.match_substring_regex(text, PADDED)).as_py())
