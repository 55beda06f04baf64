"""What a set of rows is like, column by column: what new rows are held against, and where a density cannot be trusted.

Rows of up to 512 elements have a column for each element. Of images and longer rows the description holds four numbers
per row instead, as if they were columns: the least element, the greatest, their mean and their spread.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

LEVELS = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
"""The levels of the quantiles of a column; the first and the last are its least and greatest value."""
MAX_COLUMNS, MAX_ROWS = 512, 10_000
_MAX_VALUES, _BLOCK = 2**23, 2**20  # numbers of the chosen rows; numbers that are looked at in one step
_MAX_DISTINCT, _FEW, _SPIKE = 100, 16, 0.2
_ENOUGH = 20  # rows, below which nothing is said of repeated values, copies or exceptions
_SURELY_WHOLE = 100  # rows that are all whole before a fraction is called strange
_COPY = 1e-6  # share of the variance of a copy that the other column leaves unexplained: rounding
_ROUNDING = 1e-5
_SUMMARIES = ("least element", "greatest element", "mean of the elements", "spread of the elements")


@dataclass(frozen=True)
class Column:
    """One column of the rows, holes aside.

    Attributes:
        name: its name.
        quantiles: at `LEVELS`; the least and greatest value are those of all rows, the others those of a fixed choice.
            Empty where every value is missing.
        distinct: number of distinct values among the chosen rows; None where there are more than 100.
        commonest: share of the most common value.
        whole: whether each value is a whole number.
        missing: share of holes.
        copy_of: the first column before it of which this one is a + b times the other, to rounding; None without one.
        values: the distinct values of a column of few, or of codes of levels; empty of others.
        shares: how many of the chosen rows, holes aside, have each of them.
    """

    name: str
    quantiles: tuple[float, ...]
    distinct: int | None
    commonest: float
    whole: bool
    missing: float
    copy_of: str | None = None
    values: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()

    @property
    def is_constant(self) -> bool:
        """Whether all values are one."""
        return len(self.quantiles) > 0 and self.quantiles[0] == self.quantiles[-1]


@dataclass(frozen=True)
class RowsAbout:
    """What a set of rows is like.

    Attributes:
        num_rows: N.
        num_chosen: how many of them the quantiles rest on.
        per_element: whether each column is an element of the rows; False for images and long rows.
        columns: one for each element, or the four numbers of a row (see this file).
        allowed: how many values of a row may lie outside the range of the described ones before the row is strange:
            98% of the chosen rows have no more outside the range of the other half of them.
        allowed_far: likewise, of values far outside: 0 unless there are many columns with heavy tails.
        strange_share: share of the chosen rows that are strange beside the other half, by the rule of `misfits`.
        log_p: quantiles of log p(x) of some of the rows at `LEVELS`, in nats; empty without a fitted model.
    """

    num_rows: int
    num_chosen: int
    per_element: bool
    columns: tuple[Column, ...]
    allowed: int = 0
    allowed_far: int = 0
    strange_share: float = 0.0
    log_p: tuple[float, ...] = field(default=())

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of the elements of a row; None where they are not told apart."""
        return tuple(column.name for column in self.columns) if self.per_element else None

    @property
    def repeated(self) -> dict[int, str]:
        """Columns on which a density has no bound, by place, and why in words: constant, few values, spikes, copies."""
        if not self.per_element:
            return {}
        found = {i: _why(column, self.num_chosen) for i, column in enumerate(self.columns)}
        return {i: why for i, why in found.items() if why}


def _why(column: Column, num_rows: int) -> str:
    if column.is_constant:
        return "is constant"
    if num_rows < _ENOUGH:
        return ""
    if column.copy_of is not None:
        return f"is a copy of {column.copy_of}"
    if column.commonest > _SPIKE and column.distinct is not None:
        # Few values may be few rows beside a spike: those that hardly repeat are no steps of a scale.
        beside = (1 - column.commonest) * (1 - column.missing) * num_rows
        if column.distinct > 2 and column.distinct - 1 > 0.8 * beside:
            return f"has one value in {100 * column.commonest:.0f}% of the rows"
    if column.distinct is not None and column.distinct <= min(_FEW, num_rows // 5):
        return f"has {column.distinct} values"
    if column.commonest > _SPIKE:
        return f"has one value in {100 * column.commonest:.0f}% of the rows"
    return ""


def described(
    blocks: Iterable[np.ndarray],
    num_rows: int,
    event_shape: Sequence[int],
    *,
    names: Sequence[str] | None = None,
    levels: Collection[str] = (),
    is_image: bool = False,
) -> RowsAbout:
    """Describe rows in one pass and bounded memory.

    Args:
        blocks: all rows in their order, in pieces of shape (B, *X); NaN is a hole.
        num_rows: N.
        event_shape: X.
        names: names of the elements; None calls them x0, x1, ...
        levels: names of those that are codes of levels.
        is_image: whether rows are pictures, whose elements are not told apart.

    Example:
        >>> rows = np.random.default_rng(0).normal(size=(100, 2))
        >>> about = described([rows], 100, (2,), names=("a", "b"))
        >>> misfits(about, np.array([[0.0, 0.0], [0.0, 50.0]]))[0].tolist()
        [False, True]
    """
    num_elements = math.prod(event_shape)
    per_element = not is_image and num_elements <= MAX_COLUMNS
    if per_element:
        names = names or [f"x{i}" for i in range(num_elements)]
    names = tuple(names) if per_element and names else _SUMMARIES
    low, high, chosen = np.full(len(names), np.inf), np.full(len(names), -np.inf), []
    for values, some in _chosen(blocks, num_rows, num_elements, len(names), per_element):
        low, high = np.fmin(low, np.fmin.reduce(values)), np.fmax(high, np.fmax.reduce(values))
        chosen.append(some)
    sample = np.concatenate(chosen)
    copies = _copies(sample) if per_element else {}
    columns = tuple(
        _column(name, sample[:, i], low[i], high[i], names[copies[i]] if i in copies else None, name in levels)
        for i, name in enumerate(names)
    )
    return RowsAbout(num_rows, len(sample), per_element, columns, *_exceptions(sample))


def chosen_rows(about: RowsAbout, blocks: Iterable[np.ndarray], num_rows: int, num_elements: int) -> np.ndarray:
    """A fixed choice of other rows, as many as a description rests on, as the columns that it speaks of: (B, D)."""
    parts = _chosen(blocks, num_rows, num_elements, len(about.columns), about.per_element)
    return np.concatenate([some for _, some in parts])


def _chosen(
    blocks: Iterable[np.ndarray], num_rows: int, num_elements: int, num_columns: int, per_element: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All rows as columns, a piece at a time, and those of each piece that are chosen."""
    num_chosen = min(num_rows, MAX_ROWS, max(100, _MAX_VALUES // num_columns))
    keep = np.unique(np.linspace(0, num_rows - 1, num_chosen).astype(int))  # evenly spread: the same ones each time
    start = 0
    for block in _pieces(blocks, num_elements):
        values = columns_of(block, per_element=per_element)
        inside = keep[(keep >= start) & (keep < start + len(values))]
        yield values, values[inside - start]
        start += len(values)


def _pieces(blocks: Iterable[np.ndarray], num_elements: int) -> Iterator[np.ndarray]:
    size = max(1, _BLOCK // num_elements)
    for block in blocks:
        for start in range(0, len(block), size):
            yield block[start : start + size]


def columns_of(x: np.ndarray, *, per_element: bool) -> np.ndarray:
    """Rows (B, *X) as the columns that a description speaks of, shape (B, D), float64."""
    rows = x.reshape(len(x), -1).astype(np.float64)
    if per_element:
        return rows
    number = np.maximum(1, (~np.isnan(rows)).sum(1))
    low, high = np.fmin.reduce(rows, 1), np.fmax.reduce(rows, 1)  # NaN for a row of holes alone
    mean = np.where(np.isnan(low), np.nan, np.nansum(rows, 1) / number)
    spread = _norm(rows - mean[:, None], 1) / np.sqrt(number)
    return np.stack([low, high, mean, spread], 1)


def _norm(x: np.ndarray, axis: int) -> np.ndarray:
    """The root of the sum of squares, holes aside, also of numbers whose squares overflow or vanish."""
    largest = np.fmax.reduce(np.abs(x), axis, keepdims=True)
    scaled = x / np.where(largest > 0, largest, 1.0)
    result: np.ndarray = np.squeeze(largest, axis) * np.sqrt(np.nansum(np.square(scaled), axis))
    return result


def _column(name: str, values: np.ndarray, low: float, high: float, copy_of: str | None, has_levels: bool) -> Column:
    there = values[~np.isnan(values)]
    missing = 1 - len(there) / len(values)
    if not len(there):
        return Column(name, (), 0, 0.0, False, missing)
    distinct, counts = np.unique(there, return_counts=True)
    are_few = has_levels or len(counts) <= _FEW
    middle = np.quantile(there, LEVELS[1:-1])
    return Column(
        name,
        (float(low), *map(float, middle), float(high)),
        len(counts) if len(counts) <= _MAX_DISTINCT else None,
        float(counts.max() / len(there)),
        bool(np.array_equal(there, np.round(there))),
        missing,
        copy_of,
        tuple(distinct.tolist()) if are_few else (),
        tuple((counts / len(there)).tolist()) if are_few else (),
    )


def _copies(sample: np.ndarray) -> dict[int, int]:
    """Columns that are a + b times an earlier one; those with holes and constant ones are left out."""
    if len(sample) < _ENOUGH:
        return {}
    centred = sample - sample.mean(0)
    size = _norm(centred, 0)
    with np.errstate(all="ignore"):
        usable = np.isfinite(size) & (size > 1e-9 * np.sqrt(len(sample)) * np.abs(sample).max(0))
        unit = np.where(usable, centred / size, 0.0)
    related = np.tril(1 - np.square(unit.T @ unit) < _COPY, -1) & usable[:, None] & usable
    return {int(i): int(related[i].argmax()) for i in np.flatnonzero(related.any(1))}


# --- Rows that are unlike others --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Range:
    """The range of columns, how far outside a value may lie, and how far is far; shape (D,) each."""

    low: np.ndarray
    high: np.ndarray
    margin: np.ndarray
    width: np.ndarray

    @classmethod
    def of(cls, quantiles: np.ndarray, num_rows: int) -> "_Range":
        """Of the quantiles 0, 0.05, 0.95 and 1 of N rows, shape (4, D): few rows tell less of the tails."""
        low, q05, q95, high = quantiles
        rounding = _ROUNDING * np.maximum(np.abs(low), np.abs(high))
        slack = 1 + 20 / num_rows
        return cls(low, high, slack * (q95 - q05) / 2 + rounding, slack * (high - low) + rounding)

    def outside(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which values (B, D) lie outside, and which of them far outside; holes never do."""
        beyond = np.fmax(self.low - values, values - self.high)
        return beyond > self.margin, beyond > np.maximum(self.margin, self.width)


def misfits(about: RowsAbout, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Which rows are strange to the described ones, shape (B,), and in which columns, shape (B, D).

    A value lies outside where it is beyond the least or greatest described value by more than half the distance of the
    quantiles 5% and 95% (1.6 standard deviations of a normal column), which 2 of N rows like the described ones can be
    at most, on average; far outside, by more than the whole range. A row is strange with more values outside than
    `allowed`, more of them far outside than `allowed_far`, or a fraction in a column of whole numbers.

    Args:
        about: the description.
        values: rows as `columns_of` gives them, shape (B, D).
    """
    nothing = (np.inf, np.inf, -np.inf, -np.inf)
    chosen = [0, 2, 6, 8]
    ends = [[c.quantiles[k] for k in chosen] if c.quantiles else nothing for c in about.columns]
    with np.errstate(invalid="ignore"):
        outside, far = _Range.of(np.array(ends, dtype=float).T, about.num_chosen).outside(values)
    whole = np.array([c.whole and about.num_chosen >= _SURELY_WHOLE for c in about.columns])
    fraction = whole & (np.abs(values - np.round(values)) > 1e-6)
    strange = (far.sum(1) > about.allowed_far) | fraction.any(1) | (outside.sum(1) > about.allowed)
    return strange, outside | fraction


def _exceptions(sample: np.ndarray) -> tuple[int, int, float]:
    """`allowed`, `allowed_far` and `strange_share`: each half of the rows beside the range of the other."""
    if len(sample) < _ENOUGH:
        return 0, 0, 0.0
    halves = sample[::2], sample[1::2]
    counts: list[np.ndarray] = []
    with np.errstate(invalid="ignore"):
        for half, other in (halves, halves[::-1]):
            holes = np.isnan(other).all(0)
            quantiles = np.nanquantile(np.where(holes, 0.0, other), (0, 0.05, 0.95, 1), axis=0)
            outside = _Range.of(quantiles, len(other)).outside(np.where(holes, np.nan, half))
            counts.append(np.stack([values.sum(1) for values in outside], 1))
    count = np.concatenate(counts)
    allowed = np.quantile(count, 0.98, axis=0, method="higher")
    return int(allowed[0]), int(allowed[1]), float((count > allowed).any(1).mean())
