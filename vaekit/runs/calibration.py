"""What log p is of rows that were not trained on: the scale on which other rows are called odd."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from vaekit import evaluation
from vaekit.data.holes import LEAST_HOLES
from vaekit.data.schema import Schema
from vaekit.errors import ArtifactError, UnreliableEstimateWarning, VaekitError
from vaekit.models.view import View
from vaekit.saving import artifact
from vaekit.traits import ModelTraits, told

CALIBRATION = "calibration"
"""The key of the calibrations in the metadata of a saved model."""
DRAWS = (100, 10)
"""Draws of z per row for which log p is calibrated: as few rows are scored, and as a million."""
MOST_ROWS = 1000
_HOLE_DRAWS = 20  # of z per row, for what holes add on average
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

    A hole takes the term of its cell out of log p, so that rows with more holes would look less odd, or more. What a
    hole in each column adds on average is taken off before rows are compared.

    Args:
        log_p: ascending, shape (n,), nats, less what holes add; None is a row without a number, which counts as -inf.
        num_samples: K, draws of z per row.
        holes: what a hole in each element of a row adds to log p, shape (D,), nats; empty where rows have none.

    Example:
        >>> calibration = Calibration((-9.0, -4.0, -3.0), 100)
        >>> calibration.p_values(np.array([-10.0, -4.0, 0.0])).tolist()
        [0.25, 0.75, 1.0]
        >>> calibration.threshold(0.5)
        (-4.0, 0.5)
    """

    log_p: tuple[float | None, ...]
    num_samples: int
    holes: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.log_p)

    @property
    def values(self) -> np.ndarray:
        """The log p as numbers, ascending, shape (n,)."""
        return np.array([-math.inf if value is None else value for value in self.log_p])

    def comparable(self, log_p: np.ndarray, x: np.ndarray) -> np.ndarray:
        """log p of rows, shape (N,), less what the holes of x, shape (N, D), add to it."""
        return log_p - np.isnan(x) @ np.array(self.holes) if self.holes else log_p

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


LogP = Callable[[View, int], Tensor]
"""log p of the rows of a view by so many draws of z per row, shape (N,), nats."""


def calibrated(
    view: View, trained: View | None = None, marks: Sequence[int] = (), log_p: LogP | None = None
) -> list[Calibration]:
    """The calibrations on held-out rows, of which metadata hold the dictionaries; at most 1,000 rows, a fixed choice.

    None are made of rows that are no vectors, such as images, and of a model without a likelihood. Rows without weight
    say nothing.

    Args:
        view: the held-out rows.
        trained: rows that were trained on, which tell what holes add to log p; None takes nothing off.
        marks: elements of a row that say which cells are empty; see `Schema.with_holes`.
        log_p: what is calibrated; None takes `evaluation.log_marginal`: log p(x | context) of a model with contexts,
            of which none are made where some labels are unknown.
    """
    if view.weight is not None and not bool(view.weight.all()):
        view = view.take(view.weight.nonzero().flatten())
    if not view.has_likelihood or len(view.event_shape) != 1 or (log_p is None and _has_unknown_labels(view)):
        return []
    rows = view.some(MOST_ROWS)
    try:
        holes = () if trained is None else _of_holes(trained.some(MOST_ROWS), marks)
        of = log_p or _log_marginal
        return [_calibrated(rows, num_samples, holes, of) for num_samples in DRAWS]
    except VaekitError:  # a model that cannot be asked
        return []


def _has_unknown_labels(view: View) -> bool:
    """Whether a model that sums over labels has met some rows with and some without one."""
    sums = told(ModelTraits, view.model).num_labels > 0
    return view.context is not None and sums and bool(view.context.isnan().any())


def marks_of(schema: Schema | None) -> tuple[int, ...]:
    """Which elements of a row say which of its cells are empty."""
    columns = () if schema is None else schema.modelled
    return tuple(i for i, column in enumerate(columns) if column.of is not None)


def _of_holes(rows: View, marks: Sequence[int]) -> tuple[float, ...]:
    """What a hole in each element adds to log p: a regression of log p on holes, without the tenth that fits worst.

    What the marks of holes add by themselves, each by its frequency, stays: that a cell is seldom empty is odd.
    """
    x = torch.as_tensor(rows.rows[:]).double().cpu().numpy()
    empty = np.isnan(x)
    known = np.minimum(empty.sum(0), (~empty).sum(0)) >= LEAST_HOLES
    if not known.any():
        return ()
    noise = torch.Generator().manual_seed(0)
    log_p = evaluation.iwae(rows.model, rows, num_samples=_HOLE_DRAWS, generator=noise).value.double().cpu().numpy()
    for mark in marks:
        share = np.clip(np.nanmean(x[:, mark]), 1e-6, 1 - 1e-6)
        log_p = log_p - np.log(np.where(x[:, mark] > 0, share, 1 - share))
    kept = np.isfinite(log_p)
    inputs = np.column_stack([np.ones(len(x)), empty[:, known]])
    penalty = np.diag([0.0, *np.ones(known.sum())])
    for _ in range(2):
        a, y = inputs[kept], log_p[kept]
        found = np.linalg.solve(a.T @ a + penalty, a.T @ y)
        off = np.abs(log_p - inputs @ found)
        kept = off <= np.quantile(off[np.isfinite(off)], 0.9)
    result = np.zeros(x.shape[1])
    result[known] = found[1:]
    return tuple(result.tolist())


def _log_marginal(rows: View, num_samples: int) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreliableEstimateWarning)
        noise = torch.Generator().manual_seed(0)
        return evaluation.log_marginal(rows.model, rows, num_samples=num_samples, generator=noise, key="content").value


def _calibrated(rows: View, num_samples: int, holes: tuple[float, ...], of: LogP) -> Calibration:
    log_p = without_nan(of(rows, num_samples).double().cpu().numpy())
    bare = Calibration((), num_samples, holes).comparable(log_p, torch.as_tensor(rows.rows[:]).double().cpu().numpy())
    values = np.sort(bare).tolist()
    return Calibration(tuple(value if math.isfinite(value) else None for value in values), num_samples, holes)


def stored_calibrations(metadata: Mapping[str, object], folder: Path, key: str = CALIBRATION) -> list[Calibration]:
    """The calibrations in the metadata of a model, under a key; none in runs of older versions.

    Raises:
        ArtifactError: if they are damaged.
    """
    try:
        return TypeAdapter(list[Calibration]).validate_python(metadata.get(key) or [])
    except ValidationError as error:
        raise ArtifactError(f"the calibration in {folder / artifact.CONFIG} is damaged") from error


def nearest(calibrations: Sequence[Calibration], num_samples: int) -> Calibration:
    """The one of these whose number of draws is nearest, as a ratio."""
    return min(calibrations, key=lambda each: abs(math.log(each.num_samples / num_samples)))
