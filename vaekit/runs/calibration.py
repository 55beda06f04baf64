"""What log p is of rows that were not trained on: the scale on which other rows are called odd."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError

from vaekit import evaluation
from vaekit.errors import ArtifactError, UnreliableEstimateWarning, VaekitError
from vaekit.models.view import View
from vaekit.saving import artifact

CALIBRATION = "calibration"
"""The key of the calibrations in the metadata of a saved model."""
DRAWS = (100, 10)
"""Draws of z per row for which log p is calibrated: as few rows are scored, and as a million."""
MOST_ROWS = 1000
RATE = 0.05
"""Share of rows like the held-out ones that are called outliers, where no other rate is given."""


@dataclass(frozen=True)
class Calibration:
    r"""log p of n rows that were not trained on, each with noise of its own, as `Run.score` draws it.

    A new row of log p \( s \) has the conformal p-value \( p = (1 + \#\{i: s_i \le s\}) / (n + 1) \), and
    \( P(p \le a) \le a \) for a row that is exchangeable with the n, whatever the model is worth.

    References:
        Vovk, Gammerman and Shafer, "Algorithmic learning in a random world", 2005, chapter 2.
        Bates et al., "Testing for outliers with conformal p-values", 2023, https://arxiv.org/abs/2104.08279.

    Args:
        log_p: ascending, shape (n,), nats; None is a row without a number, which counts as -inf.
        num_samples: K, draws of z per row.

    Example:
        >>> calibration = Calibration((-9.0, -4.0, -3.0), 100)
        >>> calibration.p_values(np.array([-10.0, -4.0, 0.0])).tolist()
        [0.25, 0.75, 1.0]
        >>> calibration.threshold(0.5)
        (-4.0, 0.5)
    """

    log_p: tuple[float | None, ...]
    num_samples: int

    def __len__(self) -> int:
        return len(self.log_p)

    @property
    def values(self) -> np.ndarray:
        """The log p as numbers, ascending, shape (n,)."""
        return np.array([-math.inf if value is None else value for value in self.log_p])

    def p_values(self, log_p: np.ndarray) -> np.ndarray:
        """The p-value of each of some log p, of any shape; NaN counts as -inf."""
        below = np.searchsorted(self.values, without_nan(log_p), side="right")
        return np.asarray((1 + below) / (len(self) + 1))

    def threshold(self, rate: float | None = None) -> tuple[float, float]:
        """The log p below which p <= rate, and the rate that this stands for: the greatest k / (n + 1) up to `rate`.

        None takes 5%, or the rate of the lowest of the n where these are fewer than 19. A rate below 1 / (n + 1) calls
        no row an outlier: its threshold is -inf, and it stands for 0.
        """
        if rate is None:
            rate = max(RATE, 1 / (len(self) + 1))
        count = math.floor(rate * (len(self) + 1) + 1e-9)
        if count == 0:
            return -math.inf, 0.0
        return float(self.values[min(count, len(self)) - 1]), count / (len(self) + 1)


def without_nan(log_p: np.ndarray) -> np.ndarray:
    """Values of log p with -inf for NaN."""
    return np.where(np.isnan(log_p), -math.inf, log_p)


def calibrated(view: View) -> list[dict[str, Any]]:
    """The calibrations on held-out rows, as metadata hold them; at most 1,000 rows, a fixed choice.

    None are made of rows that are no vectors, such as images, of a model without a likelihood or with contexts. Rows
    without weight say nothing.
    """
    if view.weight is not None and not bool(view.weight.all()):
        view = view.take(view.weight.nonzero().flatten())
    if not view.has_likelihood or view.context is not None or len(view.event_shape) != 1:
        return []
    rows = view.some(MOST_ROWS)
    try:
        return [asdict(_calibrated(rows, num_samples)) for num_samples in DRAWS]
    except VaekitError:  # a model that cannot be asked
        return []


def _calibrated(rows: View, num_samples: int) -> Calibration:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreliableEstimateWarning)
        noise = torch.Generator().manual_seed(0)
        found = evaluation.log_marginal(rows.model, rows, num_samples=num_samples, generator=noise, key="content")
    values = np.sort(without_nan(found.value.double().cpu().numpy())).tolist()
    return Calibration(tuple(value if math.isfinite(value) else None for value in values), num_samples)


def stored_calibrations(metadata: dict[str, Any], folder: Path) -> list[Calibration]:
    """The calibrations in the metadata of a model; none in runs of older versions.

    Raises:
        ArtifactError: if they are damaged.
    """
    try:
        return TypeAdapter(list[Calibration]).validate_python(metadata.get(CALIBRATION) or [])
    except ValidationError as error:
        raise ArtifactError(f"the calibration in {folder / artifact.CONFIG} is damaged") from error


def nearest(calibrations: Sequence[Calibration], num_samples: int) -> Calibration:
    """The one of these whose number of draws is nearest, as a ratio."""
    return min(calibrations, key=lambda each: abs(math.log(each.num_samples / num_samples)))
