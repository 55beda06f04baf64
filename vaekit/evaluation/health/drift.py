r"""Drift: whether rows, as a whole, have other distributions than those that a model was fitted to.

Each column of M new rows is held against what a description remembers of N rows: quantiles of numbers, shares of
levels, the share of holes. A column has drifted where the difference is beyond what chance allows, and large enough to
matter.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from vaekit.columns import LEVELS, Column, RowsAbout, chosen_rows
from vaekit.evaluation.results import plain

ALPHA = 0.005
"""How often rows like those of the fit are said to have drifted, at most: over all columns of a table."""
LEAST = 0.1
"""A difference of shares below which nothing is said, however sure it is: a million rows see any difference."""
FEWEST = 20
"""Rows, below which nothing is said."""
_EXPECTED = 5  # rows of a level, in either table: the chi-square distribution is no good for fewer
Cell = Callable[[int, float], str]


@dataclass(frozen=True)
class Shift:
    """How a column differs from what it was.

    Attributes:
        size: the largest difference of shares: of rows below a value, of levels, of holes.
        p_value: how often rows like those of the fit differ as much, at most.
        words: the difference, in words.
    """

    size: float
    p_value: float
    words: str


def drifted(
    about: RowsAbout,
    blocks: Iterable[np.ndarray],
    num_rows: int,
    num_elements: int,
    cell: Cell = lambda _, value: f"{plain(value)}",
) -> list[str]:
    r"""The columns that have drifted, the most different first, in words.

    Numbers: the distance \( d = \max_k |F_M(q_k) - p_k| \) at the remembered quantiles, which two samples of one
    distribution exceed with a probability of at most \( 2\exp(-2 d^2 N M / (N + M)) \) (Dvoretzky, Kiefer & Wolfowitz).
    Levels: the chi-square test of homogeneity, rare levels taken together. Holes: Fisher's exact test. Bonferroni's
    correction over two tests for each column.

    References:
        Wei & Dudley, "Two-sample Dvoretzky-Kiefer-Wolfowitz inequalities", 2012, https://arxiv.org/abs/1107.5356

    Args:
        about: the description of the training rows.
        blocks: the new rows in their order, pieces of shape (B, *X); NaN is a hole.
        num_rows: M.
        num_elements: of a row.
        cell: of the place of a column and a value of it, the value in words.

    Example:
        >>> from vaekit.columns import described
        >>> rows = np.random.default_rng(0).normal(size=(400, 2))
        >>> about = described([rows], 400, (2,), names=("a", "b"))
        >>> drifted(about, [rows[:100] + [0, 3]], 100, 2)
        ['b: median 3.099, was 0.03681']
    """
    if min(num_rows, about.num_chosen) < FEWEST:
        return []
    values = chosen_rows(about, blocks, num_rows, num_elements)
    alpha, found = ALPHA / (2 * len(about.columns)), list[tuple[float, str]]()
    for place, column in enumerate(about.columns):
        shifts = _shifts(column, about.num_chosen, values[:, place], place, cell)
        sure = [shift for shift in shifts if shift.p_value <= alpha and shift.size >= LEAST]
        if sure:
            most = max(sure, key=lambda shift: shift.size)
            found.append((most.size, f"{column.name}: {most.words}"))
    return [words for _, words in sorted(found, key=lambda pair: -pair[0])]


def sizes(about: RowsAbout, values: np.ndarray) -> list[float]:
    r"""How far each column of rows is from what it was, the largest difference of shares, whatever chance allows.

    Of M rows like those of the fit it is of the order \( 1/\sqrt{M} \).

    Args:
        about: the description of the training rows.
        values: rows as `columns.columns_of` gives them, shape (M, D).

    Example:
        >>> from vaekit.columns import described
        >>> rows = np.random.default_rng(0).normal(size=(400, 2))
        >>> about = described([rows], 400, (2,), names=("a", "b"))
        >>> [round(size, 1) for size in sizes(about, rows[:100] + [0, 3])]
        [0.0, 0.9]
    """
    return [
        max(shift.size for shift in _shifts(column, about.num_chosen, values[:, place], place, lambda *_: ""))
        for place, column in enumerate(about.columns)
    ]


def _shifts(column: Column, num_chosen: int, values: np.ndarray, place: int, cell: Cell) -> list[Shift]:
    there = values[~np.isnan(values)]
    num_holes = round(column.missing * num_chosen)
    before = num_chosen - num_holes
    shifts = [_of_holes(num_holes, num_chosen, len(values) - len(there), len(values))]
    if len(there) and before:
        shifts.append(
            _of_levels(column, before, there, place, cell)
            if column.values
            else _of_numbers(column, before, there, place, cell)
        )
    return shifts


def _of_numbers(column: Column, num_before: int, there: np.ndarray, place: int, cell: Cell) -> Shift:
    """The distance to the remembered quantiles; at values that many rows share, to the nearer side of the step."""
    known, levels, ordered = np.array(column.quantiles), np.array(LEVELS), np.sort(there)
    below = np.searchsorted(ordered, known, "left") / len(there)
    up_to = np.searchsorted(ordered, known, "right") / len(there)
    away = np.maximum(np.maximum(below - levels, levels - up_to), 0.0)
    size = float(away.max())
    sure = max(size - 1 / num_before, 0.0)  # a quantile lies between two rows
    p_value = min(1.0, 2 * float(np.exp(-2 * sure**2 * num_before * len(there) / (num_before + len(there)))))
    middle, ends = LEVELS.index(0.5), (LEVELS.index(0.05), LEVELS.index(0.95))

    def between(low: float, high: float) -> str:
        return f"{cell(place, low)} to {cell(place, high)}"

    if away[middle] >= size / 2:
        words = f"median {cell(place, float(np.median(there)))}, was {cell(place, float(known[middle]))}"
    else:
        now = between(*map(float, np.quantile(there, (0.05, 0.95))))
        words = f"90% of the rows from {now}, was {between(*(float(known[end]) for end in ends))}"
    return Shift(size, p_value, words)


def _of_levels(column: Column, num_before: int, there: np.ndarray, place: int, cell: Cell) -> Shift:
    """The chi-square test of homogeneity of the counts of levels, those of few rows taken together."""
    from scipy.special import gammaincc  # type: ignore[import-untyped]

    values = np.union1d(np.array(column.values), there)
    before, now = np.zeros(len(values)), np.zeros(len(values))
    before[np.searchsorted(values, column.values)] = np.round(np.array(column.shares) * num_before)
    distinct, counts = np.unique(there, return_counts=True)
    now[np.searchsorted(values, distinct)] = counts
    shares = now / now.sum() - before / before.sum()
    most = int(np.argmax(np.abs(shares)))
    then, today = before[most] / before.sum(), now[most] / now.sum()
    words = f"{cell(place, float(values[most]))} in {today:.0%} of the rows, was {then:.0%}"
    table = _pooled(np.stack([before, now]))
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    freedom = table.shape[1] - 1
    statistic = float(((table - expected) ** 2 / expected).sum())
    p_value = float(gammaincc(freedom / 2, statistic / 2)) if freedom else 1.0
    return Shift(float(np.abs(shares).sum() / 2), p_value, words)


def _pooled(table: np.ndarray) -> np.ndarray:
    """Counts (2, L) with the levels together of which a row of the table expects fewer than five."""
    expected = table.sum(0) * (table.sum(1).min() / table.sum())
    order = np.argsort(-expected, kind="stable")
    kept = [int(i) for i in order if expected[i] >= _EXPECTED]
    rest = [int(i) for i in order if expected[i] < _EXPECTED]
    if rest and expected[rest].sum() < _EXPECTED and kept:
        rest.append(kept.pop())
    columns = [table[:, [i]] for i in kept] + ([table[:, rest].sum(1, keepdims=True)] if rest else [])
    return np.concatenate(columns, 1)


def _of_holes(holes: int, num_rows: int, new_holes: int, num_new: int) -> Shift:
    """Fisher's exact test of the share of holes."""
    then, today = holes / num_rows, new_holes / num_new
    words = f"empty in {today:.0%} of the rows, was {then:.0%}"
    p_value = _exact(new_holes, num_new, holes + new_holes, num_rows + num_new)
    return Shift(abs(today - then), p_value, words)


def _exact(found: int, drawn: int, marked: int, total: int) -> float:
    """P-value, two-sided, of `found` marked ones among `drawn` of `total`, of which `marked` are so: hypergeometric."""
    from scipy.special import gammaln

    def log_choose(n: np.ndarray | int, k: np.ndarray | int) -> np.ndarray:
        result: np.ndarray = gammaln(np.add(n, 1)) - gammaln(np.add(k, 1)) - gammaln(np.subtract(n, k) + 1)
        return result

    k = np.arange(max(0, drawn - (total - marked)), min(drawn, marked) + 1)
    p = np.exp(log_choose(marked, k) + log_choose(total - marked, drawn - k) - log_choose(total, drawn))
    return float(min(1.0, 2 * min(p[k <= found].sum(), p[k >= found].sum())))
