"""Importance weights, read in one pass: sums of them, and what says whether their mean can be believed.

The effective sample size is computed from the weights that were drawn, so it cannot see the rare large ones that were
not. The shape of the tail can be seen: above a high threshold any distribution looks like a generalised Pareto
distribution, whose index k says how many moments are finite. For k > 1/2 the weights have no variance at this number
of draws, and the interval estimate +- 1.96 standard errors covers log p(x) less often than 95 times in 100.

A few dozen draws have no tail. Their log-weights have a spread, which draws without the large weights show as well:
`log_normal_stderr` makes a standard error of it, and `widest_spread` says where that error stops to hold.

References:
    Fenton, "The sum of log-normal probability distributions in scatter transmission systems", 1960,
    https://doi.org/10.1109/TCOM.1960.1097606.
    Vehtari et al., "Pareto smoothed importance sampling", 2024, https://www.jmlr.org/papers/v25/19-556.html.
    Zhang & Stephens, "A new and efficient estimation method for the generalized Pareto distribution", 2009,
    https://doi.org/10.1198/tech.2009.08017.
"""

import math

import torch
from torch import Tensor


class WeightSums:
    r"""\( \sum_k w_k \) and \( \sum_k w_k^2 \) per row, kept relative to the largest weight so far.

    Args:
        num_rows: N.
    """

    def __init__(self, num_rows: int) -> None:
        self.largest = torch.full((num_rows,), -torch.inf, dtype=torch.float64)
        self.total = torch.zeros_like(self.largest)
        self.squares = torch.zeros_like(self.largest)

    def add(self, rows: slice, log_weights: Tensor) -> None:
        """Add draws of some rows: log w of shape (K', B)."""
        weights = log_weights.double().cpu()
        before, now = self.largest[rows], torch.maximum(self.largest[rows], weights.amax(0))
        origin = torch.where(now == -torch.inf, 0.0, now)  # weights that are all 0 so far stay 0, not NaN
        decay, relative = torch.exp(before - origin), torch.exp(weights - origin)
        self.total[rows] = self.total[rows] * decay + relative.sum(0)
        self.squares[rows] = self.squares[rows] * decay**2 + relative.square().sum(0)
        self.largest[rows] = now

    def log_mean(self, num_samples: int) -> Tensor:
        """log of the mean weight, shape (N,)."""
        return self.largest + self.total.log() - math.log(num_samples)

    @property
    def ess(self) -> Tensor:
        r"""Effective sample size \( (\sum w)^2 / \sum w^2 \) (Kong 1992), shape (N,)."""
        return self.total**2 / self.squares

    @property
    def max_weight(self) -> Tensor:
        """The largest normalised weight, shape (N,); NaN where every weight is 0."""
        return torch.where(self.total == 0, math.nan, 1 / self.total)

    def log_mean_stderr(self, num_samples: int) -> Tensor:
        r"""Delta method: \( \mathrm{var}(\log \bar w) \approx \mathrm{var}(w) / (K \bar w^2) \), shape (N,)."""
        if num_samples == 1:
            return torch.full_like(self.total, math.nan)
        return ((num_samples / self.ess - 1).clamp(min=0) / (num_samples - 1)).sqrt()


class RunningMoments:
    """Mean and variance over draws per row, merged block by block (Chan et al. 1979).

    Args:
        num_rows: N.
    """

    def __init__(self, num_rows: int) -> None:
        self.count = torch.zeros(num_rows, dtype=torch.float64)
        self.mean = torch.zeros_like(self.count)
        self.squares = torch.zeros_like(self.count)

    def add(self, rows: slice, values: Tensor) -> None:
        """Add draws of some rows: values of shape (K', B)."""
        values = values.double().cpu()
        before, added = self.count[rows], float(len(values))
        now = before + added
        mean = values.mean(0)
        shift = mean - self.mean[rows]
        self.squares[rows] += (values - mean).square().sum(0) + shift.square() * before * added / now
        self.mean[rows] += shift * added / now
        self.count[rows] = now

    def parts(self) -> tuple[Tensor, ...]:
        """Everything that is kept of each row, shape (N,) each."""
        return self.count, self.mean, self.squares

    @property
    def mean_stderr(self) -> Tensor:
        """Standard error of the mean, shape (N,); NaN for one draw."""
        return (self.squares / (self.count - 1) / self.count).sqrt()


_MIN_TAIL = 5


def tail_length(num_samples: int) -> int:
    r"""Number M of the largest weights that count as the tail: \( \min(K / 5, 3 \sqrt K) \) (Vehtari et al.)."""
    return min(num_samples // 5, math.ceil(3 * math.sqrt(num_samples)))


def generalized_pareto_index(excesses: Tensor) -> Tensor:
    """The index k of a generalised Pareto distribution, by the quick posterior mean of Zhang & Stephens (2009).

    Args:
        excesses: positive values above the threshold, ascending along the first dimension, shape (M, B).

    Returns:
        Shape (B,). Positive k mean a heavy tail, negative ones a bounded distribution; NaN where the values are equal.
    """
    size = len(excesses)
    largest, quartile = excesses[-1], excesses[int(size / 4 + 0.5) - 1]
    num_points = 30 + int(math.sqrt(size))
    place = torch.arange(1, num_points + 1, dtype=excesses.dtype).unsqueeze(1) - 0.5
    # Candidates for minus k / scale, scattered around the first quartile, each below 1 / largest.
    theta = 1 / largest + (1 - (num_points / place).sqrt()) / (3 * quartile)
    index = torch.log1p(-theta.unsqueeze(1) * excesses).mean(1)
    log_likelihood = size * (torch.log(-theta / index) - index - 1)
    weight = torch.softmax(log_likelihood, 0)
    return torch.log1p(-(theta * weight).sum(0) * excesses).mean(0)


class TailIndex:
    """The index of the tail of K weights per row, which arrive in blocks: all draws of some rows, then the next rows.

    Only the tail of the rows at hand is kept: 3 sqrt(K) numbers per row.

    Args:
        num_rows: N.
        num_samples: K. Below 25 there is no tail to speak of, and every index is NaN.

    Attributes:
        index: k per row, shape (N,), known when the K draws of that row have been added.
    """

    def __init__(self, num_rows: int, num_samples: int) -> None:
        self.index = torch.full((num_rows,), math.nan, dtype=torch.float64)
        self.num_samples, self.length = num_samples, tail_length(num_samples)
        self._largest: Tensor | None = None
        self._count = 0

    def add(self, rows: slice, log_weights: Tensor) -> None:
        """Add draws of some rows: log w of shape (K', B)."""
        if self.length < _MIN_TAIL:
            return
        values = log_weights.double().cpu()
        kept = values if self._largest is None else torch.cat([self._largest, values])
        # One more than the tail: the largest weight outside is the threshold.
        self._largest = kept.topk(min(self.length + 1, len(kept)), dim=0).values
        self._count += len(values)
        if self._count == self.num_samples:
            self.index[rows] = _index(self._largest)
            self._largest, self._count = None, 0


def _index(largest: Tensor) -> Tensor:
    """k from the M + 1 largest log-weights, descending, shape (M + 1, B)."""
    relative = torch.exp(largest - largest[0]).flip(0)
    excesses = relative[1:] - relative[0]
    # Equal weights have no tail: exact posteriors, and weights that differ by rounding alone.
    usable = (excesses[int(len(excesses) / 4 + 0.5) - 1] > 1e-9) & torch.isfinite(largest[0])
    result = torch.full_like(excesses[0], math.nan)
    if bool(usable.any()):
        result[usable] = generalized_pareto_index(excesses[:, usable])
    return result


FEWEST_DRAWS = 12
"""K from which on draws can tell the standard error of their own row: chosen by its measured coverage, as are the
constants below (`docs/evaluation.md` has the table)."""
_MOST_KEPT = 512
_TAPER = 10  # draws, beyond which corrections for few of them fade


class Spread:
    r"""How widely the weights lie around their median, per row, from at most the first 512 draws.

    `variance` is that of the log-weights above the median. Only the large weights matter for a mean, so that the lower
    half is left out: for normal log-weights \( 2 E[(\log w - m)_+^2] \) is their variance. Where the tenth that is
    largest is spread more widely than this, the result moves towards the spread of the tenth, the less the more draws
    there are. `below` is the relative variance of the weights below the median: where most weights are about equal and
    few are small, few draws miss those.

    Args:
        num_rows: N.
        num_samples: K.

    Attributes:
        variance: shape (N,), nats squared, known when the draws of that row have been added; NaN for one draw, and
            where half of the weights are 0.
        below: shape (N,), likewise.
    """

    def __init__(self, num_rows: int, num_samples: int) -> None:
        self.variance = torch.full((num_rows,), math.nan, dtype=torch.float64)
        self.below = torch.full_like(self.variance, math.nan)
        self.num_samples, self.size = num_samples, min(num_samples, _MOST_KEPT)
        self._kept: list[Tensor] = []
        self._count = 0

    def add(self, rows: slice, log_weights: Tensor) -> None:
        """Add draws of some rows: log w of shape (K', B)."""
        missing = self.size - min(self._count, self.size)
        if missing and self.size > 1:
            self._kept.append(log_weights[:missing].double().cpu())
            if len(log_weights) >= missing:
                self.variance[rows], self.below[rows] = _spread(torch.cat(self._kept), self.num_samples)
                self._kept = []
        self._count = (self._count + len(log_weights)) % self.num_samples


def _spread(log_weights: Tensor, num_samples: int) -> tuple[Tensor, Tensor]:
    """`variance` and `below`, shape (B,) each, of log-weights of shape (K', B)."""
    ordered = log_weights.sort(0).values
    size, median = len(ordered), _quantile(ordered, 0.5)
    variance = 2 * (ordered - median).clamp(min=0).square().sum(0) / (size - 1)
    below = 2 * torch.expm1((ordered - median).clamp(max=0)).square().sum(0) / (size - 1)
    # The mean excess over the 90% quantile is 0.4735 standard deviations of a normal distribution.
    excess = (ordered - _quantile(ordered, 0.9)).clamp(min=0).mean(0) / 0.1
    of_tenth = (excess / 0.4735).square()
    tapered = math.sqrt(min(1.0, _TAPER / num_samples))
    return variance + (of_tenth - variance).clamp(min=0) * tapered, below


def _quantile(ordered: Tensor, share: float) -> Tensor:
    place = share * (len(ordered) - 1)
    below = int(place)
    return torch.lerp(ordered[below], ordered[min(below + 1, len(ordered) - 1)], place - below)


def log_normal_stderr(variance: Tensor, num_samples: int) -> Tensor:
    r"""Root mean square error of \( \log \bar w \), shape (N,), for K normal log-weights of an estimated variance.

    The mean of log-normal weights is about log-normal again (Fenton 1960): its log has the variance
    \( s^2 = \log(1 + (e^v - 1) / K) \) and lies \( s^2 / 2 \) too low. That bias counts 1.8 times, as the median lies
    lower still, and v grows by \( 25 v^2 / K^2 \), because few draws see too little of it more often than too much.
    """
    v = (variance + 25 * (variance / num_samples).square()).clamp(max=100)
    s2 = torch.log1p(torch.expm1(v) / num_samples)
    return (s2 + 0.8 * s2.square()).sqrt()


def widest_spread(num_samples: int) -> float:
    """The largest `Spread.variance`, up to which `Weights.stderr` covers what it says.

    With few draws a wide spread makes a wide interval that covers. With many the delta method promises much, and the
    log-normal law too little; from a variance of 2.8 on neither holds up to K = 100,000.
    """
    return max(2.8, 12 * math.pow(20 / num_samples, 0.45))


def _student(num_samples: int) -> float:
    """The 97.5% quantile of Student's t for K - 1 degrees of freedom over that of the normal, to 1e-3 for K >= 10."""
    z, df = 1.959964, num_samples - 1
    return 1 + (z**2 + 1) / (4 * df) + (5 * z**4 + 16 * z**2 + 3) / (96 * df**2)


class Weights:
    """The importance weights of K draws of each row, which arrive in blocks: sums, and the tail and spread of each row.

    Args:
        num_rows: N.
        num_samples: K.

    Attributes:
        known: the relative variance of the mean where more is known of it than the weights say, shape (N,), else NaN.
    """

    def __init__(self, num_rows: int, num_samples: int) -> None:
        self.num_samples = num_samples
        self.sums, self.tails = WeightSums(num_rows), TailIndex(num_rows, num_samples)
        self.spreads = Spread(num_rows, num_samples)
        self.known = torch.full((num_rows,), math.nan, dtype=torch.float64)

    def add(self, rows: slice, log_weights: Tensor) -> None:
        """Add draws of some rows: log w of shape (K', B)."""
        log_weights = log_weights.double().cpu()
        self.sums.add(rows, log_weights)
        self.tails.add(rows, log_weights)
        self.spreads.add(rows, log_weights)

    def put(self, rows: Tensor, other: "Weights", chosen: Tensor) -> None:
        """Let other draws, as many of each, stand for some rows.

        Args:
            rows: their numbers, shape (M,).
            other: the weights of the draws.
            chosen: which of its rows, shape (M,) of numbers or a mask of M.
        """
        for old, new in zip(self.parts(), other.parts(), strict=True):
            old[rows] = new[chosen]

    def parts(self) -> tuple[Tensor, ...]:
        """Everything that is kept of each row, shape (N,) each."""
        sums, spreads = self.sums, self.spreads
        return sums.largest, sums.total, sums.squares, self.tails.index, spreads.variance, spreads.below, self.known

    def stderr(self) -> Tensor:
        """Standard error of the log of the mean weight, shape (N,); NaN for one draw.

        It is that of the delta method, with a correction for small weights that few draws miss, or of
        `log_normal_stderr` where that is larger, times the factor of Student's t.
        Below 12 draws, and beyond `widest_spread`, it is that of the delta method alone, which is not to be believed.
        Where another relative variance of the mean is `known`, that stands for the first of these.
        """
        k, variance = self.num_samples, self.spreads.variance
        delta = self.sums.log_mean_stderr(k)
        if k < FEWEST_DRAWS:
            return delta
        missed = (self.spreads.below / k - delta.square()).clamp(min=0) * min(1.0, _TAPER / k)
        square = torch.where(self.known.isnan(), delta.square() + missed, self.known)
        both = _student(k) * torch.maximum(square.sqrt(), log_normal_stderr(variance, k))
        return torch.where(variance <= widest_spread(k), both, delta)

    def terms(self) -> dict[str, Tensor]:
        """What `Estimate.reasons` looks at: `tail_index` and `spread` of each row, shape (N,) each."""
        return {"tail_index": self.tails.index, "spread": self.spreads.variance}

    def summary(self) -> dict[str, Tensor]:
        """`ess` and `max_weight` of each row, shape (N,) each, by the names that an `Estimate` has for them."""
        return {"ess": self.sums.ess, "max_weight": self.sums.max_weight}
