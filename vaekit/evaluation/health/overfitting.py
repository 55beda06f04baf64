"""Overfitting: rows that a model was trained on score higher than rows that it was not trained on."""

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from vaekit.evaluation.estimate import Score
from vaekit.evaluation.results import GAP, Result, of_score

OVERFITTING = "diagnostics.findings.overfitting"
_SMALLEST_GAP = 0.5  # nats: by less, a row that was trained on is at most 1.65 times as likely
_SMALLEST_EFFECT = 0.1  # of the spread of log p over training rows: by less, rows keep their place among the others
_CHANCE = 0.00135  # one-sided, as beyond three standard errors
_NUM_CHOICES = 1999


@dataclass(frozen=True)
class Overfitting:
    """What a bound on log p(x) loses from rows that were trained on to rows that were held out.

    Attributes:
        gap: mean over held-out rows minus mean over training rows, nats, with its standard error.
        chance: how often rows that are held out at random, from both kinds together, lose as much: near 0 where it
            matters to the model which rows it was trained on. Unlike the standard error it holds where a few rows score
            far below all others.
        effect: the loss in standard deviations of the training rows.
        num_held_out: how many rows were held out.
        num_train: how many training rows they stand beside.
    """

    gap: Score
    chance: float
    effect: float
    num_held_out: int
    num_train: int

    @property
    def is_found(self) -> bool:
        """Whether the loss is no accident, and large enough to matter: above 0.5 nats and a tenth of the spread."""
        return self.chance < _CHANCE and -self.gap.value > _SMALLEST_GAP and self.effect > _SMALLEST_EFFECT

    def results(self) -> list[Result]:
        """The gap as a row, and where it is found a row of value 1 with evidence and remedy as its label."""
        rows = [of_score(GAP, "held-out rows - training rows, IWAE", self.gap)]
        if not self.is_found:
            return rows
        loss = -self.gap.value
        evidence = (
            f"The model overfits by {loss:.1f} nats: log p of the {self.num_held_out:,} held-out rows is {loss:.2f} +- "
            f"{self.gap.stderr:.2f} nats below that of {self.num_train:,} rows that it was trained on, which "
            f"{100 * self.chance:.2g}% of random choices of rows would do."
        )
        remedy = (
            "Stop earlier (patience=), add data, take fewer units or latents, raise the floor of the scale of p(x|z); "
            "and believe no number of rows that were trained on."
        )
        return [*rows, Result(OVERFITTING, f"{evidence} {remedy}", 1.0, unit="")]


def overfitting(held_out: Tensor, train: Tensor) -> Overfitting:
    """Compare a bound on log p(x) of held-out rows with that of rows that were trained on.

    Rows are held out at random. If training did not tell them from the others, any choice of as many rows from both
    kinds together would lose as much (a permutation test).

    Args:
        held_out: the bound per held-out row, shape (N,), nats.
        train: that of the rows that were trained on, shape (M,).

    Example:
        >>> import torch
        >>> scores = torch.randn(300, generator=torch.Generator().manual_seed(0))
        >>> overfitting(scores[:100], scores[100:]).is_found, overfitting(scores[:100] - 3, scores[100:]).is_found
        (False, True)
    """
    ours, theirs = (values.double().cpu() for values in (held_out, train))
    means = Score.of_mean(ours), Score.of_mean(theirs)
    gap = Score(means[0].value - means[1].value, math.hypot(means[0].stderr, means[1].stderr))
    spread = float(theirs.std()) if len(theirs) > 1 else math.nan
    effect = -gap.value / spread if spread > 0 else math.inf if gap.value < 0 else 0.0
    return Overfitting(gap, _chance(ours.numpy(), theirs.numpy()), effect, len(ours), len(theirs))


def _chance(held_out: np.ndarray, train: np.ndarray) -> float:
    """The share of random choices of as many rows whose mean is as low, the true one included; NaN for no numbers."""
    together = np.concatenate([held_out, train])
    if not np.isfinite(together).all():
        return math.nan
    stream, n = np.random.default_rng(0), len(held_out)
    lowest = float(held_out.sum() + 1e-9 * np.abs(together).sum())  # equal sums differ by rounding
    sums = (float(stream.permutation(together)[:n].sum()) for _ in range(_NUM_CHOICES))
    return (1 + sum(total <= lowest for total in sums)) / (1 + _NUM_CHOICES)
