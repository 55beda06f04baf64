"""Answers as JSON: columns of numbers about rows, or rows again in the form in which requests send them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic_core import to_json

from vaekit.frames import json_cells
from vaekit.runs import Table

NUMBERED = "row"
"""The key of rows that have none of their own: their number among the rows that were asked together."""
_BEYOND = "a number is beyond the largest one that there is"


def parts(table: Table, lengths: Sequence[int]) -> Iterator[Table]:
    """The answers for so many rows each, in the order of the rows."""
    start = 0
    for length in lengths:
        yield _part(table, slice(start, start + length))
        start += length


def _part(table: Table, rows: slice) -> Table:
    if rows == slice(0, len(table)):
        return table

    def some(columns: Any) -> dict[str, np.ndarray]:
        return {name: values[rows] for name, values in columns.items()}

    return replace(
        table,
        values=table.values[rows],
        keys=None if table.keys is None else table.keys[rows],
        reasons=some(table.reasons),
        beside=some(table.beside),
        front=some(table.front),
        behind_key=some(table.behind_key),
        frame=None if table.frame is None else table.frame[list(range(rows.start, rows.stop))],
    )


def encoded(table: Table, answers_rows: bool, event_shape: Sequence[int] | None) -> bytes:
    """The answer as JSON; null stands where there is no number, and `reasons` then says why, for each row.

    Args:
        table: the answer.
        answers_rows: whether it is rows, and not columns of numbers about rows.
        event_shape: of a row; rows of named columns are objects, all others nested lists.
    """
    if answers_rows and not np.isfinite(table.values).all():
        table = _finite(table)
    answer: dict[str, Any] = _rows(table, event_shape) if answers_rows else _columns(table)
    reasons = [[text for text, bad in table.reasons.items() if bad[i]] for i in range(len(table))]
    if any(reasons):
        answer["reasons"] = reasons
    return to_json(answer, inf_nan_mode="null")


def _finite(table: Table) -> Table:
    """Rows without infinite cells, such as draws from p(x|z) at a code far from all others may have."""
    infinite = np.isinf(table.values)
    bad = infinite.reshape(len(table), -1).any(axis=1)
    reasons = {**table.reasons, _BEYOND: bad} if bad.any() else table.reasons
    return replace(table, values=np.where(infinite, np.nan, table.values), reasons=reasons)


def _columns(table: Table) -> dict[str, Any]:
    return {name: values.tolist() for name, values in table.to_dict().items() if not _is_number_of_row(table, name)}


def _is_number_of_row(table: Table, name: str) -> bool:
    return name == table.key == NUMBERED


def _rows(table: Table, event_shape: Sequence[int] | None) -> dict[str, Any]:
    if table.schema is not None:
        frame = table.to_frame("pyarrow")
        columns = {name: json_cells(frame[name]) for name in frame.column_names if not _is_number_of_row(table, name)}
    elif event_shape is not None and len(event_shape) == 1 and not _is_plain(table):
        columns = _columns(table)
    else:
        return {"rows": table.values.tolist()}
    cells = zip(*columns.values(), strict=True)
    return {"rows": [dict(zip(columns, row, strict=True)) for row in cells]}


def _is_plain(table: Table) -> bool:
    """Whether the columns have no names of their own."""
    return all(name == f"x{i}" for i, name in enumerate(table.columns))


def num_doubtful(table: Table) -> int:
    """How many rows have no number, or one that is not to be believed."""
    if not table.reasons:
        return 0
    return int(np.logical_or.reduce(list(table.reasons.values())).sum())
