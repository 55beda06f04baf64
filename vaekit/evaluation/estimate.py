"""Results with errors: per point (`Estimate`) and of a whole set (`Score`)."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from vaekit.evaluation.weights import FEWEST_DRAWS, tail_length, widest_spread

MANY_UNRELIABLE = 0.1
"""The share of unreliable points from which on a mean is to be read as a bound: the noise of the tail index alone marks
one or two in a hundred."""
_HEAVY_TAIL, _LARGE_STDERR, _NEGLIGIBLE_STDERR, _EQUAL = 0.5, 1 / 3, 1e-3, 2e-5
_FEWEST_OF_TAIL = 100  # draws, below which the tail index marks good rows as often as bad ones

NOT_A_NUMBER = "some of its numbers are NaN or infinite"
NO_MASS = "no draw of z gives it any mass"
TOO_FEW = f"its weights differ, and fewer than {FEWEST_DRAWS} draws of z cannot tell its error"
HEAVY = "its weights have a heavy tail: q(z|x) is too narrow, or far from p(z|x)"
SPREAD = "its weights are spread too widely: q(z|x) is far from p(z|x)"
UNRESOLVED = "q(z|x) is narrower than its floating-point numbers can tell apart"
NARROW = "q(z|x) is far narrower than p(z|x): no draw says what lies beside it"
FAR = "it is far from what the model generates, where q(z|x) is an extrapolation"
HOLES = "p(x|z) is NaN at ordinary draws of z, which then count as draws without mass"
LARGE = "its error is so large that the logarithm is biased"


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
            `tail_index`, the index k of the weights' tail, and `spread`, the variance of the log-weights above their
            median (see `evaluation.weights`).
        doubts: what is known against rows beside their weights: a text to the rows it is true of, shape (N,), bool.
        transform_draws: T, draws of a random transform's noise for each row of which this is the mean.
        transform_noise: how that noise was drawn and whether `stderr` holds it, in words; None where there is none.
        widened: the factor of Student's t that is in `stderr`, where that is the scatter of few draws.
    """

    value: Tensor
    stderr: Tensor
    ess: Tensor
    max_weight: Tensor
    num_samples: int
    method: str
    quantity: str
    terms: dict[str, Tensor] = field(default_factory=dict)
    doubts: dict[str, Tensor] = field(default_factory=dict)
    transform_draws: int = 1
    transform_noise: str | None = None
    widened: float = 1.0

    def __len__(self) -> int:
        return len(self.value)

    @property
    def mean(self) -> float:
        """Mean over the points."""
        return float(self.value.double().mean())

    @property
    def mean_stderr(self) -> float:
        """Standard error of the mean for these points: what more draws of z or of a transform would reduce."""
        return float(self.stderr.double().square().sum().sqrt() / len(self) / self.widened)

    @property
    def sampling_stderr(self) -> float:
        """Standard error of the mean over the choice of points: what more data would reduce. NaN for one point."""
        return Score.of_mean(self.value).stderr

    @property
    def unreliable(self) -> Tensor:
        """Where value +- stderr is not to be believed, shape (N,), bool: wherever there is one of the `reasons`."""
        result = torch.zeros(len(self), dtype=torch.bool)
        for rows in self.reasons.values():
            result |= rows
        return result

    @property
    def reasons(self) -> dict[str, Tensor]:
        """Why rows have no number or are not to be believed: a text to the rows it is true of, shape (N,), bool.

        A value that is not finite is no number, whatever the method. A finite ELBO is a plain mean, whose error holds.
        Importance weights are not believed where

        - `doubts` say so;
        - they differ, and are fewer than 12;
        - their tail is so heavy that they have no variance: k > 1/2, by more than 1.28 standard errors of k;
        - their spread is beyond `weights.widest_spread`;
        - their spread is not known, as that of chains, and the relative error of their mean exceeds 1/3.

        An error below 0.001 nats is left in peace. Means over several draws of a transform's noise have the reasons
        that more than half of the draws have.
        """
        lost, massless = ~torch.isfinite(self.value), self.value == -torch.inf
        found = {NOT_A_NUMBER: lost & ~massless, NO_MASS: massless}
        found |= {text: rows & ~lost for text, rows in self.doubts.items()}
        if self.method != "elbo" and self.transform_draws == 1:
            found |= {text: rows & ~lost for text, rows in self._about_weights().items()}
        return {text: rows for text, rows in found.items() if bool(rows.any())}

    def _about_weights(self) -> dict[str, Tensor]:
        """The reasons that lie in the weights."""
        k = self.num_samples
        if "spread" not in self.terms:
            return {LARGE: self.stderr > _LARGE_STDERR}
        if k < FEWEST_DRAWS:
            return {TOO_FEW: self.stderr > _EQUAL}
        spread = self.terms["spread"]
        wide = (spread > widest_spread(k)) & (self.stderr > _NEGLIGIBLE_STDERR)
        found = {SPREAD: wide, LARGE: torch.isnan(spread) & (self.stderr > _LARGE_STDERR)}
        if k < _FEWEST_OF_TAIL:
            return found
        # The standard error of k is (1 + k) / sqrt(M).
        threshold = _HEAVY_TAIL + 1.28 * (1 + _HEAVY_TAIL) / math.sqrt(tail_length(k))
        return {HEAVY: (self.terms["tail_index"] > threshold) & (self.stderr > _NEGLIGIBLE_STDERR), **found}

    @property
    def reason(self) -> tuple[str | None, ...]:
        """For each of the N rows why it has no number or is not to be believed: its first reason, or None."""
        result: list[str | None] = [None] * len(self)
        for text, rows in reversed(self.reasons.items()):
            for i in rows.nonzero().flatten().tolist():
                result[i] = text
        return tuple(result)

    def numbered(self) -> "Estimate":
        """The estimates of the points whose value is finite: itself where all are."""
        kept = torch.isfinite(self.value)
        if bool(kept.all()):
            return self
        return replace(
            self,
            value=self.value[kept],
            stderr=self.stderr[kept],
            ess=self.ess[kept],
            max_weight=self.max_weight[kept],
            terms={name: values[kept] for name, values in self.terms.items()},
            doubts={text: rows[kept] for text, rows in self.doubts.items()},
        )

    def summary(self) -> dict[str, object]:
        """The numbers of the whole set, as plain Python values."""
        return {
            "mean": self.mean,
            "mean_stderr": self.mean_stderr,
            "sampling_stderr": self.sampling_stderr,
            "num_points": len(self),
            "num_samples": self.num_samples,
            "transform_draws": self.transform_draws,
            "transform_noise": self.transform_noise,
            "method": self.method,
            "quantity": self.quantity,
            "ess_median": float(self.ess.double().median()),
            "max_weight_median": float(self.max_weight.double().median()),
            "unreliable_fraction": float(self.unreliable.double().mean()),
            "reasons": {text: int(rows.sum()) for text, rows in self.reasons.items()},
        }

    def __repr__(self) -> str:
        noise = "" if self.transform_noise is None else f", transform_noise={self.transform_noise!r}"
        return (
            f"Estimate(mean={self.mean:.4f} +- {self.sampling_stderr:.4f} (Monte Carlo {self.mean_stderr:.4f}) nats, "
            f"N={len(self)}, K={self.num_samples}, method={self.method!r}, quantity={self.quantity!r}{noise})"
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
