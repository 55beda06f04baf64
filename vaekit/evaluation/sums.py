"""Running sums over draws, in float64 on the CPU: what is kept of the weights, whatever K is."""

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
