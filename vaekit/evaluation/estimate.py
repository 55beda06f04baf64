"""Results with errors: per point (`Estimate`) and of a whole set (`Score`)."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vaekit.evaluation.weights import tail_length

MANY_UNRELIABLE = 0.1
"""The share of unreliable points from which on a mean is to be read as a bound: the noise of the tail index alone marks
one or two in a hundred."""
_HEAVY_TAIL, _LARGE_STDERR, _NEGLIGIBLE_STDERR = 0.5, 1 / 3, 1e-3


@dataclass(frozen=True)
class Estimate:
    """An estimate for each of N points, with its Monte Carlo error. Nats, in the units of the data handed in.

    Attributes:
        value: the estimates, shape (N,).
        stderr: their Monte Carlo standard errors, shape (N,); NaN where one sample cannot tell.
        ess: effective sample size of the importance weights, between 1 and K, shape (N,).
        max_weight: the largest normalised weight, shape (N,).
        num_samples: K.
        method: how it was computed ("importance sampling", "elbo", ...).
        quantity: what the log p is: "density", "mass", "bound on a mass" or "no density".
        terms: parts of the value that are of interest by themselves, shape (N,) each; importance sampling adds
            `tail_index`, the index k of the weights' tail (see `evaluation.tails`).
    """

    value: Tensor
    stderr: Tensor
    ess: Tensor
    max_weight: Tensor
    num_samples: int
    method: str
    quantity: str
    terms: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.value)

    @property
    def mean(self) -> float:
        """Mean over the points."""
        return float(self.value.double().mean())

    @property
    def mean_stderr(self) -> float:
        """Monte Carlo standard error of the mean: what more samples of z would reduce."""
        return float(self.stderr.double().square().sum().sqrt() / len(self))

    @property
    def sampling_stderr(self) -> float:
        """Standard error of the mean over the choice of points: what more data would reduce. NaN for one point."""
        return Score.of_mean(self.value).stderr

    @property
    def unreliable(self) -> Tensor:
        """Where value +- stderr is not to be believed, shape (N,), bool.

        That is where the tail of the weights is so heavy that they have no variance (k > 1/2, by more than the standard
        error of k), or where the relative error of their mean exceeds 1/3, so that its logarithm is biased and skewed;
        an error below 0.001 nats is left in peace. An ELBO is a plain mean, whose error holds.
        """
        if self.method == "elbo":
            return torch.zeros_like(self.stderr, dtype=torch.bool)
        index = self.terms.get("tail_index", torch.full_like(self.stderr, math.nan))
        # The standard error of k is (1 + k) / sqrt(M).
        threshold = _HEAVY_TAIL + (1 + _HEAVY_TAIL) / math.sqrt(max(1, tail_length(self.num_samples)))
        heavy = (index > threshold) & (self.stderr > _NEGLIGIBLE_STDERR)
        return heavy | (self.stderr > _LARGE_STDERR)

    def summary(self) -> dict[str, object]:
        """The numbers of the whole set, as plain Python values."""
        return {
            "mean": self.mean,
            "mean_stderr": self.mean_stderr,
            "sampling_stderr": self.sampling_stderr,
            "num_points": len(self),
            "num_samples": self.num_samples,
            "method": self.method,
            "quantity": self.quantity,
            "ess_median": float(self.ess.double().median()),
            "max_weight_median": float(self.max_weight.double().median()),
            "unreliable_fraction": float(self.unreliable.double().mean()),
        }

    def __repr__(self) -> str:
        return (
            f"Estimate(mean={self.mean:.4f} +- {self.sampling_stderr:.4f} (Monte Carlo {self.mean_stderr:.4f}) nats, "
            f"N={len(self)}, K={self.num_samples}, method={self.method!r}, quantity={self.quantity!r})"
        )


@dataclass(frozen=True)
class Score:
    """A scalar result with its standard error.

    Attributes:
        value: the result.
        stderr: its standard error.
        details: what else is known about it.
    """

    value: float
    stderr: float
    details: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of_mean(cls, values: Tensor, **details: Any) -> "Score":
        """The mean of independent values and its standard error; NaN as error of a single value."""
        values = values.double()
        stderr = float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.nan
        return cls(float(values.mean()), stderr, details)
