"""Rows that are unlike the training data: what a model makes of them is no evidence about the model."""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vaekit.columns import LEVELS, RowsAbout, columns_of, misfits
from vaekit.evaluation.results import plain
from vaekit.models.rows import Rows, read, slices

MANY = 0.1
"""The share of unlike rows, beyond that among the training rows, from which on no verdict on the model is made."""
_NAMED = 3  # columns that a text names
_ROWS = 4096
_STILL, _FEWEST = 0.1, 5  # share of the spread of training rows; rows, below which that may be chance
_NORMAL = 3.29  # standard deviations between the quantiles 5% and 95%


@dataclass(frozen=True)
class Unlike:
    """Which of N rows are unlike the training data, by the rule of `vaekit.columns.misfits`.

    Attributes:
        rows: which rows, shape (N,), bool.
        columns: for each column with values outside the training data, the most frequent one first, in words.
        expected: the share of the training rows that the rule marks.
        spread: the greatest standard deviation of a column over that of the training data; NaN where none varies there.
    """

    rows: Tensor
    columns: tuple[str, ...]
    expected: float
    spread: float = math.nan

    @property
    def count(self) -> int:
        """Number of unlike rows."""
        return int(self.rows.sum())

    @property
    def are_many(self) -> bool:
        """Whether so many rows are unlike, or so few are left, that no verdict on the model follows from them."""
        return self.count > (MANY + self.expected) * len(self.rows) or (
            self.count > 0 and len(self.rows) < self.count + 2
        )

    @property
    def hardly_differ(self) -> bool:
        """Whether no column varies by a tenth of what it does over the training data: codes then do not vary either."""
        return len(self.rows) >= _FEWEST and self.spread < _STILL

    @property
    def evidence(self) -> str:
        """How many rows, which columns, and by how much, in words."""
        named, more = "; ".join(self.columns[:_NAMED]), len(self.columns) - _NAMED
        rest = f"; and {more} more columns" if more > 0 else ""
        return f"{self.count:,} of {len(self.rows):,} rows are unlike the training data: {named}{rest}."


def unlike(rows: Rows, about: RowsAbout) -> Unlike:
    """Hold rows against the description of the training data.

    Args:
        rows: in their own units, shape (N, *X).
        about: the description.
    """
    strange, columns, values, whole = [], [], [], []
    for part in read(rows, slices(len(rows), _ROWS)):
        block = columns_of(part.detach().cpu().double().numpy(), per_element=about.per_element)
        marked, where = misfits(about, block)
        strange.append(marked)
        whole.append(block)
        columns.append(where[marked])
        values.append(block[marked])
    where, outside = np.concatenate(columns), np.concatenate(values)
    order = np.argsort(-where.sum(0), kind="stable")
    words = tuple(_words(about, int(i), outside[where[:, i], i]) for i in order if where[:, i].any())
    spread = _spread(np.concatenate(whole), about)
    return Unlike(torch.from_numpy(np.concatenate(strange)), words, about.strange_share, spread)


def _spread(values: np.ndarray, about: RowsAbout) -> float:
    """The greatest standard deviation of a column over that of the training data, for values of shape (N, D)."""
    low, high = LEVELS.index(0.05), LEVELS.index(0.95)
    wide = [c.quantiles[high] - c.quantiles[low] if c.quantiles else 0.0 for c in about.columns]
    known = np.array(wide) > 0
    if not known.any():
        return math.nan
    middle = values[:1]  # a spread far from 0 is not lost to rounding
    with np.errstate(invalid="ignore", over="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # columns of holes alone
        found = np.nanstd(values[:, known] - middle[:, known], axis=0)
    return float(np.max(_NORMAL * found / np.array(wide)[known]))


def _words(about: RowsAbout, place: int, values: np.ndarray) -> str:
    column = about.columns[place]
    typical = plain(float(np.median(values)))
    if not column.quantiles:
        return f"{column.name} in {len(values):,} rows (about {typical})"
    low, high = column.quantiles[0], column.quantiles[-1]
    if low <= float(np.median(values)) <= high:
        return f"{column.name} in {len(values):,} rows (such as {typical}; the training data have whole numbers)"
    known = plain(low) if column.is_constant else f"{plain(low)} to {plain(high)}"
    return f"{column.name} in {len(values):,} rows (about {typical}; the training data have {known})"
