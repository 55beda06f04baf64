"""The kind of a column from its cells, with the reason in words."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vaekit.data.column import MOST_EXACT, WITH_LEVELS, Called, Cell, Column, Kind
from vaekit.data.column_cells import (
    DAY,
    Place,
    as_arrow,
    dtype_text,
    encoded_levels,
    floats,
    native_text,
    odd_date,
    seconds,
)
from vaekit.data.column_shapes import as_count, as_density
from vaekit.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

    from vaekit.frames import Arrow, Series

MIN_COUNT = 5  # a level seen fewer times ...
MIN_SHARE = 0.01  # ... and in less than this share of the rows is rare: small tables keep what large ones lump
MOST_LEVELS = 1000  # the less frequent levels beyond these share the code of the rare ones: the head stays small
MOST_DISTINCT = 0.5  # of text, levels by cell: above it most cells say nothing of the others
MIN_COVERED = 0.5  # share of the cells that levels which are not rare must have: else the column is free text
FEW_ROWS = 20  # below them, that all cells differ proves nothing
MOST_ORDINAL = 12  # levels of whole numbers in a row: months and grades from 1 to 10 are; ages and pixels are numbers
MOST_SPREAD_ORDINAL = 6  # levels of numbers with gaps, such as doses
ROWS_PER_LEVEL = 5  # that numbers need to count as levels
ID_SHARE = 0.9  # distinct cells of a column that is called an identifier: people come twice
ID_TEXT_SHARE = 0.95  # distinct cells of a column of single words that are identifiers whatever its name
MOST_DECIMALS = 8  # numbers with more are taken for unrounded
_ID = re.compile(r"(^|[\W_])(id|key|index|idx|uuid|guid|row|nr|no|number|rownames)$", re.IGNORECASE)
_DIGITS = re.compile(r"[0-9]+")
_ID_CAMEL = re.compile(r"[a-z](ID|Id|Key|No|Nr)$")
_STEPS = (DAY, 3600.0, 60.0, 1.0, 1e-3, 1e-6)


def found(series: "Series", told: Kind | None, order: Sequence[Cell] | None, place: Place) -> Column:
    """The column of a narwhals series.

    Args:
        series: Its cells, one at least.
        told: Its kind, where that is given.
        order: Its levels, the lowest first, where these are given.
        place: What to call a row in messages.

    Raises:
        DataError: It holds an infinity, values of several kinds, or none that the given kind has.
        ValidationError: What was found cannot be a column of the given kind.
    """
    import pyarrow as pa

    array = as_arrow(series)
    kind = array.type
    about: Called = {"name": series.name, "dtype": dtype_text(series, array), "native": native_text(series)}
    numbers = None if pa.types.is_dictionary(kind) or pa.types.is_boolean(kind) else floats(array)
    num_empty = int(np.isnan(numbers).sum()) if numbers is not None else array.null_count
    empty = f"; {num_empty} of {len(array)} cells are empty" if num_empty else ""
    if num_empty == len(array):
        return Column(kind="constant", why="all cells are empty", **about)
    if told in ("identifier", "text"):
        return Column(kind=told, why="as told", **about)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        values = seconds(array)
        column = of_times(*times_in(values[~np.isnan(values)]), about)
    elif numbers is not None:
        refuse_infinite(numbers, series.name, place)
        values = numbers[~np.isnan(numbers)]
        column = of_numbers(values, *np.unique(values, return_counts=True), about, told, order)
    elif pa.types.is_dictionary(kind) or pa.types.is_boolean(kind) or _is_text(kind):
        if told is None and order is None:
            refuse_odd_dates(array, series.name, place)
        rows, cells = encoded_levels(array)
        num = np.bincount(rows[~np.isnan(rows)].astype(np.int64), minlength=len(cells))
        column = of_levels(cells, num, kind, about, told, order)
    else:
        return Column(kind="text", why=f"{kind} is none of numbers, text, bools, levels and datetimes", **about)
    if told is not None and column.kind != told:
        raise DataError(f"Column {series.name!r} cannot be {told}: {column.why}. Name another kind.")
    return column.model_copy(update={"why": column.why + empty})


def refuse_odd_dates(array: "Arrow", name: str, place: Place) -> None:
    """Raise a `DataError` for text that holds dates, and a cell that is none."""
    odd = odd_date(array)
    if odd is not None:
        row, cell = odd
        raise DataError(
            f"Column {name!r} holds dates, but {cell!r} in {place(row)}, which is none. Mend the cell, say "
            f"that it was not observed (--missing), or say what the column is (--kind {name}=categorical)."
        )


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def refuse_infinite(values: np.ndarray, name: str, place: Place) -> None:
    """Raise a `DataError` for an infinity among numbers, with its row."""
    rows = np.flatnonzero(np.isinf(values))
    if len(rows):
        more = f"; {len(rows) - 1} more cells are infinite" if len(rows) > 1 else ""
        raise DataError(
            f"Column {name!r} is {values[rows[0]]} in {place(int(rows[0]))}{more}. Fill or drop such cells."
        )


def is_named_identifier(name: str) -> bool:
    """Whether a column is called as identifiers are: "id", "customer_id", "CustomerID", "row"."""
    return bool(_ID.search(name) or _ID_CAMEL.search(name))


# --- Datetimes -------------------------------------------------------------------------------------------------------


def times_in(values: np.ndarray) -> tuple[float, float, float]:
    """The first and the last of some instants, in seconds, and the longest usual step that all are multiples of."""
    step = next((step for step in _STEPS if _are_multiples(values, step)), _STEPS[-1])
    return float(values.min()), float(values.max()), step


def of_times(low: float, high: float, step: float, about: Called) -> Column:
    """The column of instants of which `times_in` says so much."""
    first, last = (_instant(end) + " UTC" * ("," in about["dtype"]) for end in (low, high))
    if low == high:
        return Column(kind="constant", why=f"one value: {first}", value=low, **about)
    words = {DAY: "days", 3600.0: "hours", 60.0: "minutes", 1.0: "seconds", 1e-3: "milliseconds", 1e-6: "microseconds"}
    why = f"from {first} to {last}, in {words[step]}"
    return Column(kind="datetime", why=why, step=step, **about)


def _instant(second: float) -> str:
    text = str(np.datetime64(int(second // 1), "s")).replace("T", " ")
    return text.removesuffix(" 00:00:00")


def _are_multiples(values: np.ndarray, step: float) -> bool:
    if step >= 1:
        return not np.any(values % step)
    ticks = (values - np.floor(values)) / step
    return bool((np.abs(ticks - np.rint(ticks)) * step < 5e-7).all())  # float64 holds half a microsecond until 2106


# --- Levels ----------------------------------------------------------------------------------------------------------


def of_levels(
    cells: list[Cell],
    num: np.ndarray,
    kind: "pa.DataType",
    about: Called,
    told: Kind | None = None,
    order: Sequence[Cell] | None = None,
) -> Column:
    """The column of distinct cells.

    Args:
        cells: The distinct cells; of a dictionary all that it lists, in its order.
        num: How often each of them stands in the column.
        kind: The type of the column in pyarrow.
        about: Name and dtype of the column.
        told: Its kind, where that is given.
        order: Its levels, the lowest first, where these are given.
    """
    column = _of_levels(cells, num, kind, about, told, order)
    code = _padded(column.levels or (column.value,)) if _is_text(kind) else None
    if code is None:
        return column
    return column.model_copy(
        update={"why": f"{column.why}; digits, as leading zeros ({code}) would be lost in numbers"}
    )


def _of_levels(
    cells: list[Cell],
    num: np.ndarray,
    kind: "pa.DataType",
    about: Called,
    told: Kind | None,
    order: Sequence[Cell] | None,
) -> Column:
    import pyarrow as pa

    is_listed = pa.types.is_dictionary(kind)
    if not is_listed:
        at = sorted(range(len(cells)), key=lambda i: cells[i])
        cells, num = [cells[i] for i in at], num[at]
    if not all(isinstance(cell, str | int | float) for cell in cells):
        why = f"levels such as {cells[0]!r} are none of text, numbers and bools"
        return Column(kind="text", why=why, **about)
    listed = tuple(cells) if is_listed and about["native"] != "Categorical" else ()  # polars lists what others used
    seen = [cell for cell, count in zip(cells, num, strict=True) if count]
    if len(seen) == 1 and told is None:
        return Column(kind="constant", why=f"one value: {seen[0]!r}", value=seen[0], categories=listed, **about)
    if pa.types.is_boolean(kind):
        return Column(kind="binary", why="bools", levels=(False, True), **about)
    if about["dtype"] == "Enum" and told in (None, "ordinal") and order is None and len(cells) > 2:
        return Column(kind="ordinal", why=f"{len(cells)} levels in order: {_some(cells)}", levels=tuple(cells), **about)
    if not is_listed and told is None:
        dropped = _dropped([cell for cell in seen if isinstance(cell, str)], num[num > 0], about)
        if dropped is not None:
            return dropped
    return _with_levels(seen, num[num > 0], about, told, order, listed)


def _with_levels(
    seen: list[Cell],
    num: np.ndarray,
    about: Called,
    told: Kind | None,
    order: Sequence[Cell] | None,
    listed: tuple[Cell, ...] = (),
) -> Column:
    """A binary, categorical or ordinal column, rare levels told apart."""
    if told == "ordinal":
        if order is None and isinstance(seen[0], str):
            raise DataError(
                f"Column {about['name']!r} is ordinal: say its levels from the lowest up; it has {seen[:5]}."
            )
        unknown = [cell for cell in seen if cell not in (order or seen)]
        if unknown:
            raise DataError(f"Column {about['name']!r} holds {unknown[0]!r}, which is not among its levels {order}.")
        levels = tuple(order or seen)
        return Column(kind="ordinal", why=f"{len(levels)} levels, as told", levels=levels, categories=listed, **about)
    if len(seen) == 2 and told in (None, "binary"):
        categories = listed if listed != tuple(seen) else ()
        times = ", ".join(f"{_short(cell)} {count} times" for cell, count in zip(seen, num, strict=True))
        return Column(kind="binary", why=f"two values: {times}", levels=tuple(seen), categories=categories, **about)
    rare = _rare(num)
    kept = tuple(cell for cell, is_rare in zip(seen, rare, strict=True) if not is_rare)
    categories = listed if listed != kept else ()
    why = f"{len(seen)} levels: {_some(seen)}"
    if rare.any():
        why += f"; {int(rare.sum())} of them, seen {int(num[rare].sum())} times in all, share the code of other levels"
    kind: Kind = told if told in WITH_LEVELS else "categorical"
    return Column(kind=kind, why=why, levels=kept, other=bool(rare.any()), categories=categories, **about)


def _padded(cells: Sequence[object]) -> str | None:
    """The first of some cells of text that has leading zeros, where all are digits."""
    texts = [cell for cell in cells if isinstance(cell, str) and _DIGITS.fullmatch(cell)]
    if len(texts) < len(cells):
        return None
    return next((text for text in texts if len(text) > 1 and text[0] == "0"), None)


def _rare(num: np.ndarray) -> np.ndarray:
    """Which levels share one code: those seldom seen, and those beyond the number of levels that a head has."""
    rare: np.ndarray = (num < MIN_COUNT) & (num < MIN_SHARE * num.sum())
    if len(num) - rare.sum() > MOST_LEVELS:
        rare[np.argsort(-num, kind="stable")[MOST_LEVELS:]] = True
    return rare


def _dropped(seen: list[str], num: np.ndarray, about: Called) -> Column | None:
    """A column of text that is no data: identifiers, or free text; None for one of levels."""
    total, share = int(num.sum()), len(seen) / num.sum()
    covered = num[~_rare(num)].sum() / total
    if total < FEW_ROWS or len(seen) == 2 or (share <= MOST_DISTINCT and covered >= MIN_COVERED):
        return None
    facts = f"{len(seen)} different texts in {total} cells, such as {_short(seen[0])!r}"
    words = float(np.mean([len(cell.split()) for cell in seen[:1000]]))
    is_single = words <= 1.1
    named = share >= ID_SHARE and is_named_identifier(about["name"])
    if (share >= ID_TEXT_SHARE and is_single) or named or _padded(seen) is not None:
        return Column(kind="identifier", why=facts, **about)
    if share > MOST_DISTINCT:
        return Column(kind="text", why=facts, **about)
    return Column(kind="text", why=f"{facts}; those seen {MIN_COUNT} times or more have {covered:.0%} of them", **about)


def _some(cells: Sequence[object]) -> str:
    return ", ".join(_short(cell) for cell in cells[:4]) + (", ..." if len(cells) > 4 else "")


def _short(cell: object, most: int = 24) -> str:
    text = str(cell)
    return text if len(text) <= most else text[: most - 3] + "..."


# --- Numbers ---------------------------------------------------------------------------------------------------------


def of_numbers(
    values: np.ndarray,
    distinct: np.ndarray,
    num: np.ndarray,
    about: Called,
    told: Kind | None = None,
    order: Sequence[Cell] | None = None,
) -> Column:
    """The column of numbers, without its empty cells.

    Args:
        values: The numbers, or a fair sample of them, on which shapes are measured.
        distinct: The different numbers, ascending.
        num: How often each of them stands in the column.
        about: Name and dtype of the column.
        told: Its kind, where that is given.
        order: Its levels, the lowest first, where these are given.
    """
    is_whole = bool((distinct == np.rint(distinct)).all())
    as_int = is_whole and "Int" in about["dtype"]
    beyond = as_int and max(abs(distinct[0]), abs(distinct[-1])) > MOST_EXACT
    if len(distinct) == 1 and told in (None, "constant") and not beyond:
        return Column(kind="constant", why=f"one value: {distinct[0]:.6g}", value=_cell(distinct[0], as_int), **about)
    if told is None:
        why = _why_identifier(distinct, num, beyond, as_int, about["name"])
        if why:
            return Column(kind="identifier", why=why, **about)
        if _are_levels(distinct, num, is_whole):
            return _few_numbers(distinct, num, as_int, is_whole, about)
    elif told in WITH_LEVELS:
        return _with_levels([_cell(value, as_int) for value in distinct], num, about, told, order)
    if beyond:
        raise DataError(f"Column {about['name']!r} holds numbers beyond 2**53, which float64 does not tell apart.")
    decimals = 0 if is_whole else _decimals(distinct, about["dtype"])
    count = as_count(distinct, num, told) if is_whole else None
    shape = count or as_density(values, distinct, num, told, is_whole)
    return Column(**about, whole=is_whole, decimals=decimals, **shape)


def _cell(value: float, as_int: bool) -> Cell:
    return int(value) if as_int else float(value)


def _why_identifier(distinct: np.ndarray, num: np.ndarray, beyond: bool, as_int: bool, name: str) -> str:
    """Why whole numbers are identifiers; nothing where they are not."""
    total, span = int(num.sum()), distinct[-1] - distinct[0] + 1
    if beyond:
        return "whole numbers beyond 2**53, which float64 does not tell apart"
    if not as_int or total < FEW_ROWS:
        return ""
    if len(distinct) == total == span:
        return f"{total} whole numbers without a gap, from {distinct[0]:.0f} to {distinct[-1]:.0f}, each once"
    if is_named_identifier(name) and len(distinct) >= ID_SHARE * total:
        return f"{len(distinct)} different whole numbers in {total} cells, under the name of an identifier"
    return ""


def _are_levels(distinct: np.ndarray, num: np.ndarray, is_whole: bool) -> bool:
    """Whether numbers are so few that each is better a level of its own."""
    total, span = int(num.sum()), distinct[-1] - distinct[0] + 1
    if len(distinct) == 2:
        return is_whole or total >= FEW_ROWS
    if total < ROWS_PER_LEVEL * len(distinct):
        return False
    if is_whole and len(distinct) >= 5 and distinct[0] == 0 and as_count(distinct, num, None) is not None:
        return False
    is_tight = is_whole and span <= min(2 * len(distinct), MOST_ORDINAL)
    return is_tight or (len(distinct) <= MOST_SPREAD_ORDINAL and total >= 4 * ROWS_PER_LEVEL * len(distinct))


def _few_numbers(distinct: np.ndarray, num: np.ndarray, as_int: bool, is_whole: bool, about: Called) -> Column:
    if len(distinct) == 2:
        return _with_levels([_cell(value, as_int) for value in distinct], num, about, None, None)
    span = distinct[-1] - distinct[0] + 1
    if is_whole and span <= MOST_ORDINAL:
        distinct = np.arange(distinct[0], distinct[-1] + 1)  # a level between two others may come
        why = f"whole numbers from {distinct[0]:.0f} to {distinct[-1]:.0f}"
    else:
        why = f"{len(distinct)} values: {_some([f'{value:g}' for value in distinct])}"
    levels = tuple(_cell(value, as_int) for value in distinct)
    return Column(kind="ordinal", why=why, levels=levels, **about)


def _decimals(distinct: np.ndarray, dtype: str) -> int | None:
    """The fewest decimals that give back each number; None where no few do."""
    narrow = np.float32 if dtype == "Float32" else np.float64
    for decimals in range(1, MOST_DECIMALS + 1):
        if (np.round(distinct[:1000], decimals).astype(narrow) == distinct[:1000]).all() and (
            np.round(distinct, decimals).astype(narrow) == distinct
        ).all():
            return decimals
    return None
