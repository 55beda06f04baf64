"""Distances of synthetic rows to the closest records: whether a model gives its training rows away."""

import math
from dataclasses import dataclass

import numpy as np

from vaekit.errors import ShapeError
from vaekit.evaluation.rows import as_rows, distance_chunks
from vaekit.traits import Data


@dataclass(frozen=True)
class ClosestRecords:
    """How near synthetic rows lie to rows of the fit, beside held-out rows of the same number.

    Attributes:
        share_closer: share of synthetic rows that lie nearer to a row of the fit than to any held-out row, ties as one
            half. A model that knows no row by heart has 1/2.
        stderr: its standard error, that of a mean over synthetic rows.
        copies: share of synthetic rows at distance 0 from a row of the fit.
        copies_held_out: the same share of held-out rows: how often rows are equal by chance.
        to_train: quantiles 1%, 5% and 50% of the distances to the closest row of the fit.
        to_held_out: those of the distances to the closest held-out row.
        num_synthetic: number of synthetic rows.
        num_rows: number of rows of the fit, and of held-out rows, that were compared.
    """

    share_closer: float
    stderr: float
    copies: float
    copies_held_out: float
    to_train: tuple[float, float, float]
    to_held_out: tuple[float, float, float]
    num_synthetic: int
    num_rows: int

    @property
    def is_private(self) -> bool:
        """Whether nothing speaks of rows known by heart: by two standard errors of each share, one-sided."""
        chance = self.copies_held_out
        spread = math.sqrt(max(chance * (1 - chance), 1 / self.num_rows) * (1 / self.num_synthetic + 1 / self.num_rows))
        return self.share_closer <= 0.5 + 2 * self.stderr and self.copies <= chance + 2 * spread


def closest_records(synthetic: Data, train: Data, held_out: Data, *, seed: int = 0) -> ClosestRecords:
    r"""Compare the distances of synthetic rows to rows of the fit with those to held-out rows.

    A synthetic row at distance \( d_t \) from the closest row of the fit and \( d_h \) from the closest of as many
    held-out rows has \( P(d_t < d_h) + P(d_t = d_h) / 2 = 1/2 \) where the model treats both alike. Rows known by heart
    raise the share. It says nothing of what can be inferred from several rows together: it is no proof of privacy.

    References:
        Platzer and Reutterer, "Holdout-based empirical assessment of mixed-type synthetic data", 2021,
        https://doi.org/10.3389/fdata.2021.679939.

    Args:
        synthetic: rows of the model, shape (n, *X), in units in which distances mean something.
        train: rows of the fit, shape (m, *X).
        held_out: other rows of the same kind; of the larger set as many are drawn as the smaller has.
        seed: of that choice.

    Returns:
        See `ClosestRecords`.

    Raises:
        ShapeError, DataError: if these are no finite rows of one shape.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> train, held_out, other = rng.normal(size=(3, 200, 2))
        >>> closest_records(other, train, held_out).is_private, closest_records(train, train, held_out).is_private
        (True, False)
    """
    parts = [as_rows(x, where=name) for x, name in ((synthetic, "synthetic"), (train, "train"), (held_out, "held_out"))]
    if len({part.shape[1] for part in parts}) > 1:
        raise ShapeError(f"rows must have one shape; got {[part.shape for part in parts]}")
    made, fitted, others = parts
    num, rng = min(len(fitted), len(others)), np.random.default_rng(seed)
    fitted, others = (part[np.sort(rng.choice(len(part), num, replace=False))] for part in (fitted, others))
    to_train, to_held_out = _closest(made, fitted), _closest(made, others)
    closer = (to_train < to_held_out) + 0.5 * (to_train == to_held_out)
    quantiles = [tuple(np.quantile(distances, (0.01, 0.05, 0.5)).tolist()) for distances in (to_train, to_held_out)]
    return ClosestRecords(
        share_closer=float(closer.mean()),
        stderr=float(closer.std(ddof=1)) / math.sqrt(len(made)) if len(made) > 1 else math.inf,
        copies=float((to_train == 0).mean()),
        copies_held_out=float((_closest(others, fitted) == 0).mean()),
        to_train=quantiles[0],
        to_held_out=quantiles[1],
        num_synthetic=len(made),
        num_rows=num,
    )


def _closest(rows: np.ndarray, records: np.ndarray) -> np.ndarray:
    """The distance of each row to the closest record, shape (N,)."""
    found = np.empty(len(rows))
    for part, distances in distance_chunks(rows, records):
        found[part] = np.sqrt(distances.min(1))
    return found
