"""Rows of tables as numbers and back, by the columns that `export.json` describes."""

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_LEVELS, _COUNTS = ("binary", "categorical", "ordinal"), ("count", "zero-inflated count")
_MOST_EXACT = 2**53
_DAY = 86400.0
_YEARS = -62_135_596_800, 253_402_300_800


class Columns:
    """The columns of a table.

    Args:
        columns: what `export.json` says of them: those that the model describes in their order, and constants.
    """

    def __init__(self, columns: Sequence[Mapping[str, Any]]) -> None:
        self.columns = list(columns)
        self.modelled = [column for column in self.columns if column["kind"] != "constant"]
        self.codes = [{level: code for code, level in enumerate(column.get("levels", ()))} for column in self.modelled]

    def encoded(self, rows: Any) -> np.ndarray:
        """Rows as numbers, shape (N, D), float64; NaN for empty cells.

        Args:
            rows: a list of dictionaries, a structured array, or a dictionary of columns.

        Raises:
            ValueError: A column is missing, or a cell is none that the column can hold.
        """
        cells = {c["name"]: _column(rows, c["name"]) for c in self.modelled if c["kind"] != "hole"}
        num = len(next(iter(cells.values()), []))
        x = np.full((num, len(self.modelled)), np.nan)
        for i, column in enumerate(self.modelled):
            if column["kind"] != "hole":
                x[:, i] = [self._number(i, cell, row) for row, cell in enumerate(cells[column["name"]])]
        at = {column["name"]: i for i, column in enumerate(self.modelled)}
        for i, column in enumerate(self.modelled):
            if column["kind"] == "hole":
                x[:, i] = np.isnan(x[:, at[column["of"]]])
        return x

    def _number(self, i: int, cell: Any, row: int) -> float:
        column = self.modelled[i]
        cell = cell.item() if isinstance(cell, np.generic) and not isinstance(cell, np.datetime64) else cell
        if cell is None or cell != cell or (isinstance(cell, str) and cell == "" and "" not in self.codes[i]):
            return math.nan
        if column["kind"] in _LEVELS:
            return self._code(i, cell, row)
        if column["kind"] == "datetime":
            value = _seconds(column, cell, row)
        elif isinstance(cell, str | bool):
            raise ValueError(f"row {row}: column {column['name']!r} holds numbers; got {cell!r}")
        else:
            value = float(cell)
        expected = _refused(column, value)
        if expected:
            raise ValueError(f"row {row}: each value of column {column['name']!r} is {expected}; got {cell!r}")
        return value

    def _code(self, i: int, cell: Any, row: int) -> float:
        column, codes = self.modelled[i], self.codes[i]
        if any(isinstance(level, str) for level in codes) and not isinstance(cell, str):
            word = str(cell)
            written = (word, word.lower(), word.upper()) if isinstance(cell, bool) else (word,)
            cell = next((text for text in written if text in codes), word)
        if cell in codes:
            return float(codes[cell])
        if column.get("other"):
            return float(len(codes))
        known = ", ".join(map(repr, list(codes)[:5])) + (", ..." if len(codes) > 5 else "")
        raise ValueError(f"row {row}: column {column['name']!r} has no level {cell!r}; its levels are {known}")

    def decoded(self, x: np.ndarray) -> list[dict[str, Any]]:
        """Numbers, shape (N, D), as rows of cells: levels by name, numbers rounded and clipped, None for NaN."""
        place = {column["name"]: i for i, column in enumerate(self.modelled)}
        shown = [column for column in self.columns if column["kind"] != "hole"]
        return [
            {
                c["name"]: c.get("value") if c["kind"] == "constant" else _cell(c, float(row[place[c["name"]]]))
                for c in shown
            }
            for row in np.asarray(x, np.float64)
        ]


def _column(rows: Any, name: str) -> Sequence[Any]:
    """The cells of a column."""
    try:
        if isinstance(rows, np.ndarray):
            found: Any = rows[name]
        elif isinstance(rows, Mapping):
            found = rows[name]
        else:
            found = [row[name] for row in rows]
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"the rows have no column {name!r}, or one of them has none; an empty cell is None") from error
    cells: Sequence[Any] = found
    return cells


def _refused(column: Mapping[str, Any], value: float) -> str | None:
    """What the values of a column are, where this one is none."""
    low, high, is_count = column.get("low"), column.get("high"), column["kind"] in _COUNTS
    low = 0.0 if is_count and low is None else low
    checks = [
        (math.isinf(value), "a finite number"),
        (not column["dtype"].startswith("Float") and abs(value) > _MOST_EXACT, "no number beyond 2**53"),
        (column["kind"] == "positive" and value <= 0, "above 0"),
        (is_count and value != round(value) if math.isfinite(value) else False, "whole"),
        (low is not None and value < low, f"{low} or more"),
        (high is not None and value > high, f"{high} or less"),
    ]
    return next((expected for bad, expected in checks if bad), None)


def _seconds(column: Mapping[str, Any], cell: Any, row: int) -> float:
    """Seconds since 1970 of a date or datetime, as Python, numpy or ISO text has it."""
    if isinstance(cell, np.datetime64):
        return math.nan if np.isnat(cell) else float(cell.astype("datetime64[us]").astype(np.int64)) / 1e6
    if isinstance(cell, str):
        try:
            cell = dt.datetime.fromisoformat(cell.strip())
        except ValueError as error:
            raise ValueError(f"row {row}: column {column['name']!r} holds dates; got {cell!r}") from error
    if not isinstance(cell, dt.date):
        raise ValueError(f"row {row}: column {column['name']!r} holds dates; got {cell!r}")
    if not isinstance(cell, dt.datetime):
        cell = dt.datetime(cell.year, cell.month, cell.day)
    if (cell.tzinfo is not None) != ("," in column["dtype"]):
        wanted = "a time zone" if "," in column["dtype"] else "no time zone"
        raise ValueError(f"row {row}: column {column['name']!r} has {wanted}; got {cell!r}")
    result: float = cell.replace(tzinfo=cell.tzinfo or dt.UTC).timestamp()
    return result


def _cell(column: Mapping[str, Any], value: float) -> Any:
    """A number as the cell of a column."""
    if math.isnan(value):
        return None
    if column["kind"] in _LEVELS:
        levels, code = column["levels"], round(value)
        if code < len(levels):
            return levels[code]
        return ("other" if "other" not in levels else "other (rare)") if isinstance(levels[0], str) else None
    if column["kind"] == "datetime":
        return _date(column, value)
    value = _clipped(column, value)
    if column.get("decimals") is not None or column.get("whole"):
        value = _clipped(column, float(np.round(value, column.get("decimals") or 0)))
    return round(value) if "Int" in column["dtype"] else value


def _clipped(column: Mapping[str, Any], value: float) -> float:
    low, high = column.get("low"), column.get("high")
    if column["kind"] == "positive":
        decimals = column.get("decimals")
        low = max(low or 0.0, float(np.finfo(np.float64).tiny) if decimals is None else 10.0**-decimals)
    elif column["kind"] in _COUNTS:
        low = max(low or 0.0, 0.0)
    value = value if low is None else max(value, low)
    return value if high is None else min(value, high)


def _date(column: Mapping[str, Any], value: float) -> dt.date:
    """Seconds as a date, or a datetime (UTC where the column has a time zone), rounded to the column's step."""
    is_day = column["dtype"] == "Date"
    step = _DAY if is_day else column.get("step") or 0.0
    value = min(max(_clipped(column, value), _YEARS[0]), _YEARS[1] - max(step, 1.0))
    if step >= 1:
        value = float(np.rint(value / step)) * step
    start = dt.datetime(1970, 1, 1, tzinfo=dt.UTC if "," in column["dtype"] else None)
    moment = start + dt.timedelta(seconds=math.floor(value), microseconds=round((value - math.floor(value)) * 1e6))
    return moment.date() if is_day else moment
