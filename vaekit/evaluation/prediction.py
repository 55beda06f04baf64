"""Disentanglement by prediction from one code: separated attribute predictability."""

from typing import Any

import numpy as np
import torch

from vaekit.errors import DataError
from vaekit.evaluation.classifier import seeded_copy
from vaekit.evaluation.estimate import Score
from vaekit.evaluation.factors import Table, as_table, bootstrap_stderr, gap_to_second
from vaekit.evaluation.rows import noise


def above_chance(hits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    r"""Balanced accuracy on the scale from chance to perfect: \( (a - 1/K) / (1 - 1/K) \), at least 0.

    Args:
        hits: whether each of C predictions is right, shape (N, C).
        labels: the truth, integers, shape (N,).
        weights: how often each row counts, shape (N,).

    Returns:
        Shape (C,), over the K values that occur.
    """
    members = weights[:, None] * (labels[:, None] == np.unique(labels))
    members = members[:, members.sum(0) > 0]
    if members.shape[1] < 2:
        return np.zeros(hits.shape[1])
    recall = (members / members.sum(0)).T @ hits
    chance = 1 / members.shape[1]
    return ((recall.mean(0) - chance) / (1 - chance)).clip(0, 1)


def halves(table: Table, rng: np.random.Generator) -> tuple[Table, Table]:
    """Rows to fit to and rows to judge by, at random.

    Raises:
        DataError: if a factor does not vary among the rows to fit to.
    """
    order = rng.permutation(len(table.codes))
    parts = np.array_split(order, 2)
    fitted, held_out = (Table(table.codes[rows], table.labels[rows], table.num_values) for rows in parts)
    if any(len(np.unique(column)) < 2 for column in fitted.labels.T):
        raise DataError("a factor has one value only among half of the rows. Hand over more rows, or leave it out.")
    return fitted, held_out


def sap(codes: Any, factors: Any, *, num_bootstrap: int = 50, generator: torch.Generator | None = None) -> Score:
    r"""Separated attribute predictability: by how much the best code predicts a factor better than the second-best.

    \( \frac1F \sum_k S_{(1)k} - S_{(2)k} \), with \( S_{jk} \) the balanced accuracy on held-out rows of thresholds
    on the one code j (a decision tree with a leaf per value), fitted on a random half of the rows. It is put on the
    scale from chance, 0, to perfect, 1: on the plain scale a useless second code would keep its chance accuracy and the
    score could not reach 1.

    Use it as `mig`, when prediction rather than information is meant. It has the same blind spots.

    References:
        Kumar et al., "Variational inference of disentangled latent concepts from unlabeled observations", 2018,
        https://arxiv.org/abs/1711.00848.

    Args:
        codes: means of q(z|x), shape (N, *Z), flattened to (N, D), N >= 20.
        factors: the values of F discrete factors, integers, shape (N, F).
        num_bootstrap: resamples of the held-out rows for the standard error, at least 2.
        generator: source of the halves and of the resamples.

    Returns:
        In [0, 1]; bootstrap standard error for the thresholds as fitted; details: `scores` (D, F).

    Raises:
        ShapeError, DataError, ConfigError: as `mig`.

    Example:
        >>> import numpy as np
        >>> factors = np.random.default_rng(0).integers(4, size=(400, 2))
        >>> sap(factors.astype(float), factors, generator=torch.Generator().manual_seed(0)).value > 0.8
        True
    """
    from sklearn.tree import DecisionTreeClassifier

    rng = noise(generator)
    fitted, held_out = halves(as_table(codes, factors), rng)
    hits = []
    for f, num_values in enumerate(fitted.num_values):
        tree = DecisionTreeClassifier(max_leaf_nodes=num_values, class_weight="balanced")
        columns = [
            seeded_copy(tree, rng).fit(code[:, None], fitted.labels[:, f]).predict(other[:, None])
            for code, other in zip(fitted.codes.T, held_out.codes.T, strict=True)
        ]
        hits.append(np.stack(columns, axis=1) == held_out.labels[:, f, None])

    def scores(weights: np.ndarray) -> np.ndarray:
        return np.stack([above_chance(h, v, weights) for h, v in zip(hits, held_out.labels.T, strict=True)], axis=1)

    def statistic(weights: np.ndarray) -> float:
        return float(gap_to_second(scores(weights)).mean())

    once = np.ones(len(held_out.codes))
    stderr = bootstrap_stderr(statistic, len(once), num_bootstrap, rng)
    return Score(statistic(once), stderr, {"scores": scores(once)})
