"""The shape of a column of numbers: counts, point masses, bounds, modes, skew and tails, each with its reason."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from vaekit.data.column import COUNTS, Kind, Shape
from vaekit.errors import DataError

MIN_ROWS = 50  # below them a shape is noise, and a normal the safest guess
MOST_SHAPED = 20_000  # rows that shapes are measured on: quantiles there are exact to a hundredth
COUNT_MEAN = 100.0  # counts of a larger mean are as well described by a density
COUNT_SKEW = 0.3  # a Poisson of mean 11 has this skewness; below it a density is as good
COUNT_SPREAD = 0.8  # variance by mean: a Poisson has 1, and no count model of vaekit has less
COUNT_FILLED = 0.5  # share of the numbers from 0 to the 90% quantile that are seen: amounts of money leave gaps
ZERO_EXCESS = 0.05  # zeros beyond those of a negative binomial of the same mean and variance ...
ZERO_LEAD = 2.0  # ... which also have to be this many times the ones
SPIKE_SHARE = 0.05  # rows of a point mass; one of fewer moves no quantile that people look at
SPIKE_RATIO = 5.0  # of its rows to the median of those of the four values beside it: a peak of whole numbers has less
SPIKE_LEAD = 3.0  # of its rows to the most of one of these
HEAP_SHARE = 0.01  # rows of a value that people round to
MOST_SPIKES = 5
MIN_BESIDE = 10  # different values beside the spikes, else the column has levels
BOUNDED_COVER = 0.8  # share of a natural interval that values cover
MODE_SHARE = 0.05  # rows of the smaller of two modes
VALLEY = 0.6  # density between two modes, by that of the lower one
SKEW = 1.0  # of positive numbers whose logarithm is modelled; an exponential has 2, a log-normal of scale .3 has .95
TAILS = 7.0  # 99% range by interquartile range: a normal has 3.8, a Laplace 6.6, a Student-t of 3 degrees 7.6
INNER_STEPS = 4  # different values in the inner half, or more: a range of whole numbers from 7 to 8 is no measure
_INTERVALS = ((0.0, 1.0), (-1.0, 1.0), (0.0, 100.0))


def as_count(distinct: np.ndarray, num: np.ndarray, told: Kind | None) -> Shape | None:
    """What makes whole numbers a count, as arguments of `Column`; None where they are none.

    Raises:
        DataError: They were told to be, and some are below 0.
    """
    if told is not None and told not in COUNTS:
        return None
    total = num.sum()
    mean = float((distinct * num).sum() / total)
    var = float((num * (distinct - mean) ** 2).sum() / total)
    if told is not None and distinct[0] < 0:
        raise DataError(f"counts are 0 or more; the least value is {distinct[0]:g}. Name another kind.")
    if told is None and not _is_count(distinct, num, mean, var):
        return None
    zeros, expected = (float(num[0] / total) if distinct[0] == 0 else 0.0), _zeros(mean, var)
    kind: Kind = told or ("zero-inflated count" if _is_inflated(distinct, num, mean, var) else "count")
    why = f"whole numbers from {distinct[0]:.0f} to {distinct[-1]:.0f}, mean {mean:.3g}, variance {var:.3g}"
    if kind == "zero-inflated count":
        why += f"; zeros {zeros:.0%}, of a negative binomial {expected:.0%}"
    return {"kind": kind, "low": 0.0, "why": why}


def _is_count(distinct: np.ndarray, num: np.ndarray, mean: float, var: float) -> bool:
    """Whether whole numbers begin at 0, are skewed to the right, spread as counts are, and leave no gaps."""
    if distinct[0] != 0 or len(distinct) < 3 or num.sum() < MIN_ROWS or mean > COUNT_MEAN or var < COUNT_SPREAD * mean:
        return False
    skew = float((num * (distinct - mean) ** 3).sum() / num.sum() / var**1.5)
    below = distinct[np.cumsum(num) <= 0.9 * num.sum()]
    filled = len(below) / (below[-1] + 1) if len(below) else 1.0
    return (skew > COUNT_SKEW or _is_inflated(distinct, num, mean, var)) and filled >= COUNT_FILLED


def _is_inflated(distinct: np.ndarray, num: np.ndarray, mean: float, var: float) -> bool:
    """Whether there are more zeros than a negative binomial has, which are not the top of a mode of small numbers."""
    ones = num[1] if len(distinct) > 1 and distinct[1] == 1 else 0
    excess = num[0] / num.sum() - _zeros(mean, var)
    return bool(distinct[0] == 0 and excess > ZERO_EXCESS and num[0] >= ZERO_LEAD * ones)


def _zeros(mean: float, var: float) -> float:
    """P(0) of a negative binomial of this mean and variance, of a Poisson where it is not wider."""
    if var <= mean * (1 + 1e-9):
        return float(np.exp(-mean))
    size = mean**2 / (var - mean)
    return float((size / (size + mean)) ** size)


def as_density(values: np.ndarray, distinct: np.ndarray, num: np.ndarray, told: Kind | None, is_whole: bool) -> Shape:
    """The kind of numbers that have a density, as arguments of `Column`: the first of the shapes that fits.

    Raises:
        DataError: They were told to be positive, and some are not.
    """
    facts = f"{'whole ' if is_whole else ''}numbers from {distinct[0]:.6g} to {distinct[-1]:.6g}"
    step = -(-len(values) // MOST_SHAPED)
    some = values[::step] if step > 1 else values
    enough = len(values) >= MIN_ROWS
    tests: list[tuple[Kind, Callable[[], Shape | None]]] = [
        ("spiky", lambda: _spiky(distinct, num, is_whole)),
        ("bounded", lambda: _bounded(distinct, is_whole, told)),
        ("multi-modal", lambda: _multi_modal(some, distinct)),
        ("positive", lambda: _positive(some, distinct, told)),
        ("spiky", lambda: _zeros_and_positive(some, distinct)),
        ("heavy-tailed", lambda: _heavy(some, distinct)),
    ]
    for kind, test in tests:
        if told == kind or (told is None and enough):
            shape = test()
            if shape is not None:
                return {"kind": kind, **shape, "why": f"{facts}; {shape['why']}"}
    other: Kind = told if told in ("multi-modal", "heavy-tailed", "continuous") else "continuous"
    return {"kind": other, "why": facts}


def _spiky(distinct: np.ndarray, num: np.ndarray, is_whole: bool) -> Shape | None:
    """Values that are far more frequent than their neighbours, with a natural interval where the values fill one."""
    total = num.sum()
    heaps = [int(i) for i in np.flatnonzero(num >= HEAP_SHARE * total) if _stands_out(int(i), num)]
    heaps = sorted(heaps, key=lambda i: -num[i])
    if len(heaps) > MOST_SPIKES:  # numbers rounded to a grid: only heaps far above all others are spikes
        leads = [k for k in range(1, MOST_SPIKES + 1) if num[heaps[k - 1]] >= SPIKE_LEAD * num[heaps[k]]]
        heaps = heaps[: max(leads, default=0)]
    stands = sorted(i for i in heaps if num[i] >= SPIKE_SHARE * total)
    if not stands or len(distinct) - len(stands) < MIN_BESIDE:
        return None
    shares = ", ".join(f"{distinct[i]:g} ({num[i] / total:.0%})" for i in stands)
    shape: Shape = {"spikes": tuple(float(distinct[i]) for i in stands), "why": f"point masses at {shares}"}
    if stands[0] == 0 and distinct[0] == 0:
        shape["low"] = 0.0
    interval = _bounded(distinct, is_whole, None) if {0, len(num) - 1} & set(stands) else None
    return shape if interval is None else {**interval, **shape, "low": interval["low"]}


def _stands_out(i: int, num: np.ndarray) -> bool:
    """Whether a value has far more rows than the four values beside it, each of them and most of them."""
    near = np.concatenate([num[max(0, i - 2) : i], num[i + 1 : i + 3]])
    return bool(num[i] >= SPIKE_RATIO * np.median(near) and num[i] >= SPIKE_LEAD * near.max())


def _zeros_and_positive(values: np.ndarray, distinct: np.ndarray) -> Shape | None:
    """Some zeros, and otherwise positive numbers, skewed to the right: incomes, amounts."""
    positive = values[values > 0]
    if distinct[0] != 0 or len(positive) < MIN_ROWS:
        return None
    shape = _positive(positive, distinct[1:], None)
    return shape and {
        "spikes": (0.0,),
        "low": 0.0,
        "why": f"zeros ({np.mean(values == 0):.2g} of the rows), others {shape['why']}",
    }


def _bounded(distinct: np.ndarray, is_whole: bool, told: Kind | None) -> Shape | None:
    """Values that fill a natural interval; of percentages, one has to stand at an end."""
    first, last = float(distinct[0]), float(distinct[-1])
    for low, high in _INTERVALS:
        fills = first >= low and last <= high and last - first >= BOUNDED_COVER * (high - low)
        if fills and not is_whole and (high < 100 or first == low or last == high):
            return {"low": low, "high": high, "why": f"they fill the interval from {low:g} to {high:g}"}
    return {"low": first, "high": last, "why": "bounds as seen"} if told else None


def _multi_modal(values: np.ndarray, distinct: np.ndarray) -> Shape | None:
    """Two modes of a kernel density or more, with a valley between them."""
    low, high = np.quantile(values, [0.005, 0.995])
    inside = values[(values >= low) & (values <= high)]
    spread = min(inside.std(), np.subtract(*np.quantile(inside, [0.75, 0.25])) / 1.34) or inside.std()
    if not spread > 0 or len(distinct) < 2 * MIN_BESIDE:
        return None
    width = 1.1 * spread * len(inside) ** -0.2
    width = max(width, 1.5 * float(np.median(np.diff(distinct))))  # numbers rounded to a grid have a mode at each
    bins = int(np.clip(np.ceil(6 * (high - low) / width), 50, 2000))
    num, edges = np.histogram(inside, bins, (low, high))
    reach = np.arange(-4, 5, (edges[1] - edges[0]) / width) if edges[1] > edges[0] else np.zeros(1)
    density = np.convolve(num, np.exp(-0.5 * reach**2), "same")
    peaks = _peaks(density, num)
    if len(peaks) < 2:
        return None
    return {"why": f"{len(peaks)} modes, near {', '.join(f'{(edges[i] + edges[i + 1]) / 2:.3g}' for i in peaks)}"}


def _peaks(density: np.ndarray, num: np.ndarray) -> list[int]:
    """Modes that a valley parts from the next, each with its share of the rows."""
    inner = np.r_[-np.inf, density, -np.inf]
    tops = [i for i in range(len(density)) if inner[i] < density[i] >= inner[i + 2] and density[i] > 0]
    while len(tops) > 1:
        cuts = [a + int(np.argmin(density[a : b + 1])) for a, b in pairwise(tops)]
        ends = [0, *cuts, len(density)]
        mass = [num[a:b].sum() / num.sum() for a, b in pairwise(ends)]
        lower = [min(density[a], density[b]) for a, b in pairwise(tops)]
        ratios = [density[cut] / top for cut, top in zip(cuts, lower, strict=True)]
        worst = int(np.argmax(ratios))
        if ratios[worst] > VALLEY:
            tops.pop(worst if density[tops[worst]] < density[tops[worst + 1]] else worst + 1)
        elif min(mass) < MODE_SHARE:
            tops.pop(int(np.argmin(mass)))
        else:
            break
    return tops


def _skew(values: np.ndarray) -> float:
    centred = values - values.mean()
    return float((centred**3).mean() / max(centred.std(), 1e-300) ** 3)


def _positive(values: np.ndarray, distinct: np.ndarray, told: Kind | None) -> Shape | None:
    """Numbers above 0, skewed to the right, whose logarithm is less so."""
    if distinct[0] <= 0:
        if told:
            raise DataError(f"positive numbers are above 0; the least value is {distinct[0]:g}. Name another kind.")
        return None
    skew, of_log = _skew(values), _skew(np.log(values))
    if not told and (skew < SKEW or abs(of_log) > skew / 2):
        return None
    return {"low": 0.0, "why": f"above 0; skewness {skew:.2g}, of their logarithm {of_log:.2g}"}


def _heavy(values: np.ndarray, distinct: np.ndarray) -> Shape | None:
    """A range of 99% that is wide beside that of the inner half."""
    ends = np.quantile(values, [0.005, 0.25, 0.75, 0.995])
    ratio = (ends[3] - ends[0]) / (ends[2] - ends[1]) if ends[2] > ends[1] else np.inf
    if ratio < TAILS or ends[2] - ends[1] < INNER_STEPS * np.median(np.diff(distinct)):
        return None
    shape: Shape = {"why": f"the range of 99% of them is {ratio:.3g} times that of the inner half"}
    if distinct[0] >= 0 and _skew(values) > SKEW:
        shape["low"] = 0.0
    return shape
