"""How well clusters agree with labels that nobody was told while they were made."""

import math

import numpy as np

from vaekit.errors import DataError, ShapeError
from vaekit.evaluation.estimate import Score
from vaekit.models.rows import as_tensor
from vaekit.traits import Data


def cluster_agreement(labels: Data, clusters: Data) -> Score:
    r"""Accuracy of clusters under the best one-to-one assignment to labels, with NMI and the adjusted Rand index.

    \( \max_\pi \frac1N \sum_n [y_n = \pi(c_n)] \) over assignments \( \pi \) that give no two clusters one label
    (Hungarian method). Rows of clusters without a label count as wrong: where clusters are more than labels, or fewer,
    accuracy cannot reach 1. Normalised mutual information (over the arithmetic mean of the two entropies) and the
    adjusted Rand index (0 for chance) need no assignment.

    Use it to judge clusters where labels are known. Report the mean over several seeds with its error: the best of ten
    runs says how far ten runs are apart.

    References:
        Yang et al., "Image clustering using local discriminant models and global integration", 2010,
        https://doi.org/10.1109/TIP.2010.2049235; Vinh et al., "Information theoretic measures for clusterings
        comparison", 2010, https://jmlr.org/papers/v11/vinh10a.html; Hubert & Arabie, "Comparing partitions", 1985,
        https://doi.org/10.1007/BF01908075.

    Args:
        labels: the classes, numbers or text, shape (N,).
        clusters: the clusters, shape (N,).

    Returns:
        The accuracy, in [0, 1], with its binomial standard error over the rows for the assignment as found; details:
        `nmi` and `ari`, `assignment` (cluster to label), `counts` (labels by clusters, both in their order).

    Raises:
        ShapeError: unless both have shape (N,).
        DataError: if there are no rows.

    Example:
        >>> found = cluster_agreement(["a", "a", "b", "b"], [1, 1, 0, 1])
        >>> found.value, found.details["assignment"]
        (0.75, {0: 'b', 1: 'a'})
    """
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    truth, found = (_vector(values) for values in (labels, clusters))
    if truth.shape != found.shape or truth.ndim != 1:
        raise ShapeError(f"expected labels and clusters of shape (N,); got {truth.shape} and {found.shape}")
    if not len(truth):
        raise DataError("there are no rows whose labels and clusters could be compared")
    counts: np.ndarray = np.asarray(contingency_matrix(truth, found))
    rows, columns = linear_sum_assignment(counts, maximize=True)
    accuracy = float(counts[rows, columns].sum() / len(truth))
    classes, groups = np.unique(truth).tolist(), np.unique(found).tolist()
    details = {
        "nmi": float(normalized_mutual_info_score(truth, found)),
        "ari": float(adjusted_rand_score(truth, found)),
        "assignment": {groups[c]: classes[r] for c, r in sorted(zip(columns.tolist(), rows.tolist(), strict=True))},
        "counts": counts,
    }
    return Score(accuracy, math.sqrt(accuracy * (1 - accuracy) / len(truth)), details)


def _vector(values: Data) -> np.ndarray:
    """Labels as an array: of text, or of numbers."""
    array = np.asarray(values) if isinstance(values, list | tuple | np.ndarray) else None
    if array is None or array.dtype == object:
        array = as_tensor(values).detach().cpu().numpy() if array is None else array.astype(np.str_)
    return array
