"""Whether rows that a run reads have drifted from those that it was fitted to."""

import math
from pathlib import Path

import numpy as np

from vaekit.columns import RowsAbout
from vaekit.data import Dataset
from vaekit.data.column import Column
from vaekit.data.column_restored import other_name, restored
from vaekit.data.kinds import TABLES
from vaekit.data.reading import notice
from vaekit.errors import DriftWarning
from vaekit.evaluation.health.drift import drifted
from vaekit.evaluation.results import plain
from vaekit.paths import as_text

_NAMED = 3  # columns that a notice names


def say_drift(about: RowsAbout | None, rows: Dataset, source: object, called: str) -> None:
    """Say which columns of a table have other distributions than those of the rows that a run was fitted to.

    Args:
        about: what the training rows were like; None says nothing.
        rows: the new rows.
        source: what they were read from.
        called: what to call the run.

    Warns:
        DriftWarning: Some have.
    """
    num_elements = math.prod(rows.event_shape)
    if about is None or rows.kind != TABLES.name or not about.per_element or len(about.columns) != num_elements:
        return
    columns = rows.schema.modelled if rows.schema is not None else None

    def cell(place: int, value: float) -> str:
        return number(value) if columns is None else cell_text(columns[place], value)

    found = drifted(about, rows.blocks(), len(rows), num_elements, cell)
    if found:
        more = f" (and {len(found) - _NAMED} more columns)" if len(found) > _NAMED else ""
        words = "; ".join(found[:_NAMED])
        name = as_text(source) if isinstance(source, str | Path) else repr(rows.name)
        notice(f"{name} has drifted from what {called} was fitted to: {words}{more}.", DriftWarning)


def number(value: float) -> str:
    """A number in a sentence: 8,100 and 0.07253."""
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e15 else plain(value)


def cell_text(column: Column, value: float) -> str:
    """A value of x as the cell of its column, in a sentence."""
    if column.levels:
        return repr([*column.levels, other_name(column)][min(int(value), len(column.levels))])
    if column.dtype.startswith("Date"):
        return str(restored(column, np.array([value]))[0].as_py())
    return number(value)
