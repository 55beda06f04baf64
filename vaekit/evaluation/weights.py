"""Importance weights, read in one pass: sums of them, and the tail that says whether a mean can be believed.

The effective sample size is computed from the weights that were drawn, so it cannot see the rare large ones that were
not. The shape of the tail can be seen: above a high threshold any distribution looks like a generalised Pareto
distribution, whose index k says how many moments are finite. For k > 1/2 the weights have no variance at this number
of draws, and the interval estimate +- 1.96 standard errors covers log p(x) less often than 95 times in 100.

References:
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
        """The largest normalised weight, shape (N,)."""
        return 1 / self.total

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
    index = torch.stack([torch.log1p(-row * excesses).mean(0) for row in theta])
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


class Weights:
    """The importance weights of K draws of each row, which arrive in blocks: their sums, and the tail of each row.

    Args:
        num_rows: N.
        num_samples: K.
    """

    def __init__(self, num_rows: int, num_samples: int) -> None:
        self.num_samples = num_samples
        self.sums, self.tails = WeightSums(num_rows), TailIndex(num_rows, num_samples)

    def add(self, rows: slice, log_weights: Tensor) -> None:
        """Add draws of some rows: log w of shape (K', B)."""
        log_weights = log_weights.double().cpu()
        self.sums.add(rows, log_weights)
        self.tails.add(rows, log_weights)

    def summary(self) -> dict[str, Tensor]:
        """`ess` and `max_weight` of each row, shape (N,) each, by the names that an `Estimate` has for them."""
        return {"ess": self.sums.ess, "max_weight": self.sums.max_weight}
