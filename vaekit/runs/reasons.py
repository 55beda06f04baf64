"""Why rows are odd, in words: the cells that the others of their row do not lead one to expect."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from vaekit.data import Dataset
from vaekit.data.column import WITH_LEVELS, Column
from vaekit.queries import ElementScores, score_elements
from vaekit.runs.drift import cell_text, number

MOST_ROWS = 1000
"""Rows that are explained at most, the oddest: each takes a pass of the model for each column."""
_MOST_CELLS = 3
_RARE = 0.05  # of a level, given the other cells
_NUMBERS_END = 1.96  # standard deviations of a normal number to the end of the interval that holds 95% of it


def reasons(model: object, rows: Dataset, names: Sequence[str], *, num_samples: int, seed: int) -> list[str]:
    """What makes each row odd: up to three cells, the oddest first, with what was to be expected.

    A cell is named where it lies outside the interval that holds 95% of p(x_j | the other cells), or is a level with
    less than 5% of it. Where no cell does, the one that comes nearest stands for a row odd only as a whole.

    Args:
        model: the model.
        rows: the rows.
        names: of the elements of a row.
        num_samples: see `queries.score_elements`.
        seed: of the noise.

    Raises:
        ConfigError: if the model knows no density of single cells.
    """
    noise = torch.Generator().manual_seed(seed)
    found = score_elements(model, rows, num_samples, generator=noise)
    columns = rows.schema.modelled if rows.schema is not None else [None] * len(names)
    odd = np.stack([_oddness(column, found, rows.x, j) for j, column in enumerate(columns)], axis=1)
    return [_in_words(i, odd[i], found, rows.x, columns, names) for i in range(len(rows))]


def new_cells(rows: Dataset, i: int) -> list[str]:
    """The cells of a row that the schema does not have, in words, and what it has."""
    if rows.excluded is None or rows.frame is None:
        return []
    return [_new_cell(rows, i, int(j)) for j in np.flatnonzero(rows.excluded[i])]


def _new_cell(rows: Dataset, i: int, j: int) -> str:
    assert rows.schema is not None
    assert rows.frame is not None
    column = rows.schema.modelled[j]
    cell = rows.frame[column.name][i]
    if has_levels(column):
        return f"{column.name} = {cell!r}: a level that the fit never met"
    low = None if column.low is None else f"{in_words(column, column.low)} or more"
    low = "above 0" if column.kind == "positive" else low
    high = None if column.high is None else f"{in_words(column, column.high)} or less"
    bounds = " and ".join(end for end in (low, high) if end) or "whole, 0 or more"
    return f"{column.name} = {cell}: expected {bounds}"


def has_levels(column: Column | None) -> bool:
    """Whether the cells of a column are codes of levels."""
    return column is not None and column.kind in WITH_LEVELS


def _oddness(column: Column | None, found: ElementScores, x: np.ndarray, j: int) -> np.ndarray:
    r"""How odd the cells of a column are, on one scale for all columns, shape (N,); -inf in holes.

    Of levels \( -\log P(x_j|\cdot) + \log 0.05 \); of numbers \( (t^2 - 1.96^2) / 2 \) with t the distance from what
    was expected, in units in which the end of the interval lies at 1.96. Above 0 is odd.
    """
    if has_levels(column):
        return _known(found.surprisal[:, j].numpy() + math.log(_RARE))
    value, expected, lower, upper = (
        _on_its_scale(column, np.asarray(part[:, j], np.float64))
        for part in (x, found.expected, found.lower, found.upper)
    )
    end = np.where(value > expected, upper, lower)
    reach = np.maximum(np.abs(end - expected), 1e-9 * (1 + np.abs(expected)))
    t = np.minimum(_NUMBERS_END * np.abs(value - expected) / reach, 1e6)
    return _known((t**2 - _NUMBERS_END**2) / 2)


def _on_its_scale(column: Column | None, values: np.ndarray) -> np.ndarray:
    """Positive numbers as logarithms: their distances are ratios."""
    return np.log(np.maximum(values, 1e-300)) if column is not None and column.kind == "positive" else values


def _known(oddness: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(oddness), -np.inf, oddness)


def _in_words(
    i: int,
    odd: np.ndarray,
    found: ElementScores,
    x: np.ndarray,
    columns: Sequence[Column | None],
    names: Sequence[str],
) -> str:
    order = [int(j) for j in np.argsort(-odd, kind="stable") if odd[j] > -np.inf]
    named = [j for j in order if odd[j] > 0][:_MOST_CELLS]
    said = [_cell(i, j, found, x, columns[j], names[j]) for j in named or order[:1]]
    return "; ".join(said) if named or not said else f"the cells together; most of all {said[0]}"


def _cell(i: int, j: int, found: ElementScores, x: np.ndarray, column: Column | None, name: str) -> str:
    expected, lower, upper = (float(part[i, j]) for part in (found.expected, found.lower, found.upper))
    cell = f"{name} = {in_words(column, float(x[i, j]))}"
    if has_levels(column):
        share = math.exp(-float(found.surprisal[i, j]))
        how = (
            f"{100 * share:.0f}%"
            if share >= _RARE
            else f"1 in {1 / share:,.0f}"
            if share > 1e-9
            else "1 in 1e9 or less"
        )
        return f"{cell} ({how}): expected {in_words(column, expected)}"
    ends = [in_words(column, end) for end in (lower, upper)]
    return f"{cell}: expected {ends[0]}" if ends[0] == ends[1] else f"{cell}: expected {ends[0]} to {ends[1]}"


def in_words(column: Column | None, value: float) -> str:
    """A value of x as the cell that it stands for.

    Example:
        >>> in_words(None, 1234567.0), in_words(None, 4016.4), in_words(None, 0.00012345)
        ('1,234,567', '4016', '0.0001234')
    """
    if column is None:
        return number(value)
    return cell_text(column, float(round(value)) if column.whole else value)
