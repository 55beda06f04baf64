"""Precision, recall, density and coverage: fidelity and diversity of samples, from nearest neighbours."""

import math
from typing import Any

import numpy as np

from vaekit.errors import ConfigError
from vaekit.evaluation.estimate import Score
from vaekit.evaluation.rows import as_pair, distance_chunks
from vaekit.traits import Data

_TIE = 1 + 1e-9  # a neighbour at exactly the radius counts, whatever the last bit of its distance


def squared_radii(rows: np.ndarray, num_neighbors: int) -> np.ndarray:
    """The squared distance of each row (N, D) to its k-th nearest other row, shape (N,)."""
    radii = np.empty(len(rows))
    for part, distances in distance_chunks(rows, rows):
        distances[np.arange(len(distances)), np.arange(part.start, part.stop)] = np.inf  # no row is its own neighbour
        radii[part] = np.partition(distances, num_neighbors - 1, axis=1)[:, num_neighbors - 1]
    return radii


def _share(hits: np.ndarray, details: dict[str, Any]) -> Score:
    """The mean over rows and its standard error for the neighbourhoods as they are."""
    stderr = float(hits.std(ddof=1)) / math.sqrt(len(hits))
    return Score(float(hits.mean()), stderr, dict(details))


def precision_recall_density_coverage(real: Data, generated: Data, *, num_neighbors: int = 5) -> dict[str, Score]:
    r"""Four shares that tell the fidelity of samples (precision, density) from their diversity (recall, coverage).

    With \( B(a) \) the ball around a row that reaches to its k-th nearest neighbour in its own set,
    precision \( = \frac1n \sum_j 1[y_j \in \cup_i B(x_i)] \),
    recall \( = \frac1m \sum_i 1[x_i \in \cup_j B(y_j)] \),
    density \( = \frac1{kn} \sum_j \sum_i 1[y_j \in B(x_i)] \), and
    coverage \( = \frac1m \sum_i 1[\exists j: y_j \in B(x_i)] \), for m real rows x and n generated rows y.

    Use them to see what is wrong with samples: a model that drops modes keeps precision and loses recall and coverage.
    Density and coverage bear outliers better: a far row has a large ball, and whatever falls into it is precise (or,
    for a far sample, recalled). Equal distributions do not give 1 throughout; compare with two halves of the real rows.
    All depend on the numbers of rows and on k, and on distances that mean something: for images take features. Ties
    count as inside, so bits, with few different distances, score higher throughout.

    References:
        Kynkaanniemi et al., "Improved precision and recall metric for assessing generative models", 2019,
        https://arxiv.org/abs/1904.06991.
        Naeem et al., "Reliable fidelity and diversity metrics for generative models", 2020,
        https://arxiv.org/abs/2002.09797.

    Args:
        real: held-out data, shape (m, *X), m > k.
        generated: samples of a model, shape (n, *X), n > k.
        num_neighbors: k, at least 1.

    Returns:
        `precision`, `recall`, `coverage`, each in [0, 1], and `density`, which may exceed 1. Their standard errors are
        those of a mean over rows for the balls as they are; what other balls would give is not in them. Memory does
        not grow with m n: distances are taken 32 MiB at a time.

    Raises:
        ShapeError, DataError: if the two are no samples of more than k finite rows of the same shape.
        ConfigError: if k < 1.

    Example:
        >>> import numpy as np
        >>> real = np.random.default_rng(0).normal(size=(200, 2))
        >>> scores = precision_recall_density_coverage(real, real[real[:, 0] > 0])  # half of the plane is left out
        >>> scores["precision"].value, scores["recall"].value < 0.7
        (1.0, True)
    """
    if num_neighbors < 1:
        raise ConfigError(f"num_neighbors is at least 1; got {num_neighbors}")
    x, y = as_pair(real, generated, names=("real", "generated"), min_rows=num_neighbors + 1)
    radii_x, radii_y = squared_radii(x, num_neighbors) * _TIE, squared_radii(y, num_neighbors) * _TIE
    num_balls = np.zeros(len(y))  # real balls that each generated row lies in
    covered, recalled = np.zeros(len(x)), np.zeros(len(x))
    for part, distances in distance_chunks(x, y):
        in_real = distances <= radii_x[part, None]
        num_balls += in_real.sum(0)
        covered[part] = in_real.any(1)
        recalled[part] = (distances <= radii_y).any(1)
    details = {"num_neighbors": num_neighbors, "num_real": len(x), "num_generated": len(y)}
    return {
        "precision": _share((num_balls > 0).astype(float), details),
        "recall": _share(recalled, details),
        "density": _share(num_balls / num_neighbors, details),
        "coverage": _share(covered, details),
    }
