"""Whether probabilities of classes are right: as often as they say."""

from dataclasses import dataclass

import numpy as np

from vaekit.errors import ShapeError
from vaekit.models.rows import as_tensor
from vaekit.shapes import check_count
from vaekit.traits import Data


@dataclass(frozen=True, eq=False)
class Reliability:
    r"""How often the most probable class is right, by the probability that it is given, in bins of equal width.

    Attributes:
        confidence: mean probability of the rows of each bin, shape (B,); 0 where there is none.
        accuracy: share of them that is right, shape (B,).
        counts: how many there are, shape (B,).
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    counts: np.ndarray

    @property
    def error(self) -> float:
        r"""The expected calibration error \( \sum_b n_b |a_b - c_b| / N \), which is above 0 by chance as well."""
        return float((self.counts * np.abs(self.accuracy - self.confidence)).sum() / self.counts.sum())


def reliability(probabilities: Data, classes: Data, num_bins: int = 10) -> Reliability:
    """The calibration curve of predictions.

    References:
        Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning", 2015,
        https://doi.org/10.1609/aaai.v29i1.9602.
        Guo et al., "On calibration of modern neural networks", 2017, https://arxiv.org/abs/1706.04599 (equation 3).

    Args:
        probabilities: p(y|x), shape (N, L).
        classes: codes of the true classes, shape (N,).
        num_bins: B.

    Raises:
        ShapeError: if there is not a class for each row.

    Example:
        >>> found = reliability([[0.95, 0.05], [0.15, 0.85]], [0, 0])
        >>> found.counts.tolist()[8:], round(found.error, 3)
        ([1, 1], 0.45)
    """
    check_count(num_bins, "num_bins")
    p, true = np.asarray(as_tensor(probabilities), dtype=np.float64), np.asarray(as_tensor(classes))
    if p.ndim != 2 or true.shape != p.shape[:1]:
        raise ShapeError(f"expected p(y|x) of shape (N, L) and N classes; got {p.shape} and {true.shape}")
    sure, right = p.max(1), p.argmax(1) == true
    place = np.clip((sure * num_bins - 1e-12).astype(int), 0, num_bins - 1)
    counts = np.bincount(place, minlength=num_bins)
    some = np.maximum(counts, 1)
    confidence = np.bincount(place, sure, num_bins) / some
    return Reliability(confidence, np.bincount(place, right.astype(float), num_bins) / some, counts)
