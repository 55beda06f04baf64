"""Tables of numbers: data frames of any make."""

import difflib
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vaekit.data.dataset import Dataset
from vaekit.data.kinds import TABLES
from vaekit.data.readers.typed import PADDED
from vaekit.data.readers.vectors import is_vectors, spread, vectors, widths
from vaekit.data.reading import Reading, notice
from vaekit.errors import ColumnError, DataError, WordsError
from vaekit.frames import cells, text_columns

if TYPE_CHECKING:
    from narwhals.typing import IntoFrame

    from vaekit.frames import Frame, Series

Place = Callable[[int], str]  # where a row stands, for messages
_LIKE_A_NUMBER = re.compile(r"[+-]?[\d., ']*\d")
_UNNAMED = re.compile(r"Unnamed: \d+(\.\d+)*(_level_\d+)?|__index_level_\d+__|\.\.\.\d+")  # of pandas, arrow, R's readr


def from_frame(
    frame: "IntoFrame",
    label: str | None = None,
    *,
    key: str | None = None,
    name: str = "frame",
    source: str = "memory",
    reading: Reading | None = None,
) -> Dataset:
    """Turn a data frame of numbers (pandas, polars, pyarrow, ... : what narwhals knows) into a data set.

    Bools become 0 and 1, empty cells NaN, a column of vectors of length D the columns name_0 ... name_(D-1). x is int64
    if all columns are whole numbers without empty cells, else float64.

    Args:
        frame: The data frame, eager or lazy.
        label: Name of the column with the labels (integers or strings), which does not enter x.
        key: Name of the column with the identifiers of the rows, which does not enter x.
        name: What to call the set.
        source: Where the frame came from.
        reading: Which columns are data, and which of their cells mean "not observed".

    Returns:
        A table with one column of x for each other column of the frame.

    Raises:
        DataError: `frame` is no data frame, there is no column `label` or `key`, or a column does not hold numbers.

    Warns:
        ReadingWarning: A column "Unnamed: 0", an index that was written with the data, is left out.

    Example:
        >>> import pyarrow as pa
        >>> from_frame(pa.table({"a": [1, 2], "b": [0.5, None], "kind": ["u", "v"]}), label="kind").x
        array([[1. , 0.5],
               [2. , nan]])
    """
    return table_of(frame, label, key, name=name, source=source, reading=reading or Reading())


def table_of(
    frame: "IntoFrame",
    label: str | None,
    key: str | None,
    *,
    name: str,
    source: str,
    reading: Reading,
    place: Place = "row {}".format,
) -> Dataset:
    """See `from_frame`; `place` says where a row stands, for messages."""
    import narwhals as nw

    try:
        wrapped = nw.from_native(frame)
        table = wrapped.collect() if isinstance(wrapped, nw.LazyFrame) else wrapped
        columns = [str(column) for column in table.columns]
    except (TypeError, nw.exceptions.NarwhalsError) as error:  # no frame, or two columns of one name
        raise DataError(f"{name!r} is not a data frame that can be read: {error}.") from error
    if len(table) == 0:
        raise DataError(f"{name!r} must have at least one row; got none.")
    indices, chosen = without(columns, label, key, name, reading)
    if not indices:
        raise DataError(f"{name!r} has no columns of numbers{' beside the label' if label else ''}.")
    labels, keys = annotations(table.select([columns[i] for i in chosen]), label, key, name)
    weights = weights_in(table, reading, name, place)
    series = list(table.iter_columns())
    x = numbers([series[i] for i in indices], name, reading, place)
    names = spread([columns[i] for i in indices], widths([series[i] for i in indices]))
    return Dataset(
        x,
        labels,
        name,
        names,
        kind=TABLES.name,
        source=source,
        keys=keys,
        key=key or "row",
        reading=reading,
        weights=weights,
        beside=context_columns(table, reading),
    )


def without(
    columns: list[str], label: str | None, key: str | None, name: str, reading: Reading
) -> tuple[list[int], list[int]]:
    """Where the columns of numbers stand, in the order of x, and where those that are no data do."""
    weight = reading.weight if "weight" in reading.given or reading.weight in columns else None
    named = [("label", label), ("key", key), ("weight", weight), *(("context", each) for each in reading.context)]
    chosen = [_position_of(columns, column, name, option) for option, column in named if column is not None]
    if reading.columns is not None:
        indices = [_position_of(columns, column, name, "columns") for column in reading.columns]
        indices = [i for i in dict.fromkeys(indices) if columns[i] not in reading.drop]
    else:
        indices = [i for i, column in enumerate(columns) if column not in reading.drop]
        indices = _without_unnamed(columns, indices, chosen, name)
    if "drop" in reading.given:
        for column in reading.drop:
            _position_of(columns, column, name, "drop")
    return [i for i in indices if i not in chosen], sorted(set(chosen))


def _without_unnamed(columns: list[str], indices: list[int], chosen: list[int], name: str) -> list[int]:
    """Without the columns that pandas calls "Unnamed": an index that was written with the data, or an empty column."""
    kept = [i for i in indices if i in chosen or not _UNNAMED.fullmatch(columns[i])]
    if "" in [columns[i] for i in kept]:
        raise DataError(
            f"Column {columns.index('') + 1} of {name!r} has no name; it may be an index that was written with the "
            "data. Name it or drop it (pandas: frame.to_csv(path, index=False))."
        )
    left_out = [columns[i] for i in sorted(set(indices) - set(kept))]
    if left_out and kept:
        notice(
            f"{name!r}: left out {', '.join(map(repr, left_out))}, an index that was written with the data (pandas: "
            "frame.to_csv(path, index=False)). If it is data, name it among --columns."
        )
    return kept


def annotations(
    table: "Frame", label: str | None, key: str | None, name: str
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Labels and keys of a narwhals frame that holds their columns, each as `Dataset` takes them."""
    labels = None if label is None else _label_values(table[label], name)
    return labels, None if key is None else _key_values(table[key], name)


def context_columns(table: "Frame", reading: Reading) -> "Frame | None":
    """The columns of a narwhals frame that a model is given; None where there are none."""
    return table.select(list(reading.context)) if reading.context else None


def weights_in(table: "Frame", reading: Reading, name: str, place: Place = "row {}".format) -> np.ndarray | None:
    """What each row counts, shape (N,), float64, by the column that is asked for; None without one, or a guessed one.

    Raises:
        DataError: A cell is empty, no number, infinite or negative; with its row. All are 0.
    """
    if reading.weight is None or "weight" in reading.guessed:
        return None
    column = table[reading.weight]
    if text_columns([column]) or is_vectors(column):
        raise DataError(f"Column {column.name!r} of {name!r} holds {column.dtype}, and weights are numbers.")
    weights: np.ndarray = cells(column, name).astype(np.float64)
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        cell = "is empty" if np.isnan(weights[bad[0]]) else f"is {weights[bad[0]]:g}"
        more = f" ({len(bad) - 1} more are like it)" if len(bad) > 1 else ""
        raise DataError(
            f"Column {column.name!r} of {name!r} {cell} in {place(int(bad[0]))}{more}; weights are finite and not "
            "negative. Mend the cell, or drop the row."
        )
    if not weights.any():
        raise DataError(f"Column {column.name!r} of {name!r} is 0 in each row: none would count.")
    return weights


def numbers(columns: "list[Series]", name: str, reading: Reading, place: Place = "row {}".format) -> np.ndarray:
    """Columns of a narwhals frame side by side, shape (N, D), int64 or float64; a `DataError` if one holds none."""
    columns = [_without_marks(column, reading.missing) for column in columns]
    _refuse_text(columns, name, place)
    x = np.column_stack([_numbers(column, name) for column in columns])
    marks = [float(mark) for mark in reading.missing if _is_float(mark)]
    holes = np.isin(x, marks) if marks else np.array(False)
    return np.where(holes, np.nan, x) if holes.any() else x


def _without_marks(column: "Series", marks: Sequence[str]) -> "Series":
    """A column of text as numbers, where it holds nothing but numbers and marks of what was not observed."""
    import narwhals as nw

    if not marks or column.dtype != nw.String:
        return column
    cells = [None if cell is None or cell in marks else cell for cell in column.to_list()]
    if not all(cell is None or _is_float(cell) for cell in cells):
        return column
    values = [None if cell is None else float(cell) for cell in cells]
    return nw.new_series(column.name, values, nw.Float64, backend=column.implementation)


def _position_of(columns: list[str], column: str, name: str, option: str) -> int:
    """Where the column stands that was named as a label, a key, or data."""
    if column in columns:
        return columns.index(column)
    near = difflib.get_close_matches(column, columns, n=3, cutoff=0.5) or columns[:5]
    nearest = ", ".join(map(repr, near))
    purpose = f" for the {option}s" if option in ("label", "key", "weight") else f" (--{option})"
    raise ColumnError(f"{name!r} has no column {column!r}{purpose}. Nearest: {nearest}.", option)


def _refuse_text(columns: "list[Series]", name: str, place: Place) -> None:
    refused = [column for column in text_columns(columns) if not is_vectors(column)]
    if refused:
        first = refused[0]
        others = ", ".join(repr(column.name) for column in refused[1:6]) + (", ..." if len(refused) > 6 else "")
        nor = f" (nor do {others})" if others else ""
        odd = _odd_cell(first, place)
        raise WordsError(
            f"Column {first.name!r} of {name!r} holds {first.dtype}, not numbers{nor}.{odd} "
            f"If it is the label, say so (--label {first.name}, or label={first.name!r}); if it names the rows, so too "
            f"(--key {first.name}, or key={first.name!r}); otherwise drop it (--drop {first.name}) or encode it as "
            "numbers.",
            next((mark for mark in (_odd_mark(column) for column in refused) if mark is not None), None),
        )


def _odd_cell(column: "Series", place: Place) -> str:
    """Which cells of a column of text are no numbers, where most of them are."""
    mark = _odd_mark(column)
    if mark is None:
        return _padding(column)
    odd = _no_numbers(column.to_list())
    more = f" (and {len(odd) - 1} more that are no numbers)" if len(odd) > 1 else ""
    return (
        f" If {mark!r} in {place(odd[0])}{more} means that nothing was observed, say so (--missing "
        f"{shlex.quote(mark)}); if it is a number, look at --decimal and --delimiter."
    )


def _padding(column: "Series") -> str:
    """Why a column of nothing but numbers is one of text, where leading zeros are the reason."""
    import narwhals as nw

    cells = [] if column.dtype != nw.String else [cell for cell in column.to_list() if cell is not None]
    if not cells or not all(map(_is_float, cells)):
        return ""
    padded = next((cell for cell in cells if re.fullmatch(PADDED, cell)), None)
    if padded is None:
        return f" Its cells look like numbers, such as {cells[0]!r}; look at --decimal and --delimiter."
    return f" Its cells are digits, and leading zeros as in {padded!r} would be lost in numbers."


def _odd_mark(column: "Series") -> str | None:
    """The first cell of a column of text that is no number, where most of them are, or it looks like one."""
    import narwhals as nw

    if column.dtype != nw.String:
        return None
    cells = column.to_list()
    odd = _no_numbers(cells)
    if not odd or (2 * len(odd) > len(cells) and not _LIKE_A_NUMBER.fullmatch(cells[odd[0]])):
        return None
    return str(cells[odd[0]])


def _no_numbers(cells: Sequence[str | None]) -> list[int]:
    return [i for i, cell in enumerate(cells) if cell is not None and not _is_float(cell)]


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(column: "Series", name: str) -> np.ndarray:
    """The values of one column, shape (N,), as `frames.cells` has them; (N, D) of vectors."""
    return vectors(column) if is_vectors(column) else cells(column, name)


def _label_values(column: "Series", name: str) -> np.ndarray:
    """The values of the column with the labels, as `Dataset` takes them: None or NaN where there is none."""
    import narwhals as nw

    has_holes = bool(column.is_null().any())
    if column.is_null().all():
        raise ColumnError(
            f"Column {column.name!r} of {name!r} has no label in any row. Leave it out (--drop).", "label"
        )
    if column.dtype.is_integer() or column.dtype == nw.Boolean:
        return cells(column, name)
    if column.dtype in (nw.Categorical, nw.Enum):
        column = column.cast(nw.String)
    if has_holes and column.dtype in (nw.String, nw.Object):
        return np.array(column.to_list(), dtype=object)
    values: np.ndarray = column.to_numpy()
    if values.dtype.kind == "f" and (values != np.round(values))[~np.isnan(values)].any():
        message = f"Column {column.name!r} of {name!r} holds {column.dtype}; labels must be integers or strings."
        raise ColumnError(message, "label")
    return values.astype(np.str_) if column.dtype in (nw.String, nw.Object) else values


def _key_values(column: "Series", name: str) -> np.ndarray:
    """The identifiers of the rows: integers as they are, all others as text."""
    import narwhals as nw

    num_missing = int(column.is_null().sum())
    if num_missing:
        raise DataError(
            f"Column {column.name!r} of {name!r} has {num_missing} row(s) without a key. Fill or drop them."
        )
    # Not by way of numpy: pyarrow imports pandas for that.
    return cells(column, name) if column.dtype.is_integer() else np.array(column.cast(nw.String).to_list(), np.str_)


def from_records(
    records: Sequence[Mapping[str, object]],
    label: str | None = None,
    *,
    key: str | None = None,
    name: str = "records",
    reading: Reading | None = None,
) -> Dataset:
    """Turn a list of dictionaries, one for each row, into a table as `from_frame` does; what a row lacks is NaN."""
    import pyarrow as pa

    columns = dict.fromkeys(column for record in records for column in record)
    try:
        frame = pa.table({column: [record.get(column) for record in records] for column in columns})
    except (pa.ArrowException, TypeError) as error:  # values of several kinds in one column
        raise DataError(f"the records {name!r} are no table: {error}. Give each name values of one kind.") from error
    return from_frame(frame, label, key=key, name=name, reading=reading)
