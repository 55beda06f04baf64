"""Scores of how well codes predict factors: SAP and DCI."""

import math
from typing import Any

import numpy as np
import torch

from vaekit.errors import ConfigError, DataError, ShapeError
from vaekit.evaluation.estimate import Score
from vaekit.evaluation.factors.codes import Table, as_table, bootstrap_stderr, gap_to_second, unit
from vaekit.evaluation.rows import Classifier, noise, seeded_copy
from vaekit.traits import Data


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
    recall = (members.T @ hits) / members.sum(0)[:, None]
    # The sum of the recalls is exactly 1 for a predictor that says one value always; their mean may not be 1 / K.
    result: np.ndarray = ((recall.sum(0) - 1) / (members.shape[1] - 1)).clip(0, 1)
    return result


def over_factors(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """The mean of a score per factor, shape (F,), over the factors that vary among rows of some weight.

    NaN where none does.

    Of few rows a resample may hold one value of a factor only: nothing is then to be predicted, well or badly.
    """
    kept = scores[np.ptp(labels[weights > 0], axis=0) > 0]
    return float(kept.mean()) if len(kept) else math.nan


def halves(table: Table, rng: np.random.Generator) -> tuple[Table, Table]:
    """Rows to fit to and rows to judge by, at random.

    Raises:
        DataError: if a factor does not vary among either, so that nothing is to be learnt or to be told.
    """
    order = rng.permutation(len(table.codes))
    parts = np.array_split(order, 2)
    fitted, held_out = (Table(table.codes[rows], table.labels[rows], table.num_values) for rows in parts)
    if any(len(np.unique(column)) < 2 for half in (fitted, held_out) for column in half.labels.T):
        raise DataError("a factor has one value only among half of the rows. Hand over more rows, or leave it out.")
    return fitted, held_out


def sap(codes: Data, factors: Data, *, num_bootstrap: int = 50, generator: torch.Generator | None = None) -> Score:
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
    table = as_table(codes, factors)
    fitted, held_out = halves(table._replace(codes=unit(table.codes)), rng)
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
        return over_factors(gap_to_second(scores(weights)), held_out.labels, weights)

    once = np.ones(len(held_out.codes))
    stderr = bootstrap_stderr(statistic, len(once), num_bootstrap, rng)
    return Score(statistic(once), stderr, {"scores": scores(once)})


def _concentration(importance: np.ndarray) -> tuple[float, np.ndarray]:
    """1 - entropy of each row in units of its maximum, and the mean weighted by the rows' sums; rows of 0 count 0.

    A row of less than 1e-12 of the largest is one of 0: rounding.
    """
    importance = importance / (importance.max() or 1.0)
    sums = importance.sum(1)
    sums = np.where(sums > 1e-12 * sums.max(), sums, 0)
    p = importance / np.where(sums > 0, sums, 1)[:, None]
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(1)
    most = math.log(importance.shape[1]) if importance.shape[1] > 1 else 1.0
    each = np.where(sums > 0, 1 - entropy / most, 0).clip(0, 1)
    return (float(each @ sums / sums.sum()) if sums.sum() > 0 else 0.0), each


def dci_scores(importance: Any) -> dict[str, Any]:
    r"""Disentanglement and completeness of a matrix that says how important each code is for each factor.

    Disentanglement of code i: \( 1 - H_F(R_{i \cdot} / \sum_j R_{ij}) \), entropy to base F: 1 if it serves one factor.
    Completeness of factor j: \( 1 - H_D(R_{\cdot j} / \sum_i R_{ij}) \), to base D: 1 if one code serves it. The
    overall numbers are means weighted by importance, so that codes without any do not count; 0 if none has any.

    References:
        Eastwood & Williams, "A framework for the quantitative evaluation of disentangled representations", 2018,
        https://openreview.net/forum?id=By-7dz-AZ.

    Args:
        importance: R, shape (D, F), not negative.

    Returns:
        `disentanglement` and `completeness` in [0, 1], `disentanglement_of_codes` (D,), `completeness_of_factors` (F,).

    Raises:
        ShapeError: if it is no matrix.
        DataError: if it holds negative numbers, NaN or infinity.

    Example:
        >>> import numpy as np
        >>> importance = np.repeat(np.eye(5), 2, axis=0) / 2  # each of five factors spread over two of ten codes
        >>> round(dci_scores(importance)["completeness"], 3)  # 1 - log 2 / log 10
        0.699
    """
    matrix = np.asarray(importance, dtype=np.float64)
    if matrix.ndim != 2 or matrix.size == 0:
        raise ShapeError(f"expected importance of shape (D, F), codes by factors; got {matrix.shape}.")
    if not bool((np.isfinite(matrix) & (matrix >= 0)).all()):
        raise DataError("importance is finite and not negative. Take absolute values of coefficients.")
    disentanglement, of_codes = _concentration(matrix)
    completeness, of_factors = _concentration(matrix.T)
    return {
        "disentanglement": disentanglement,
        "completeness": completeness,
        "disentanglement_of_codes": of_codes,
        "completeness_of_factors": of_factors,
    }


def _importance(classifier: Classifier) -> np.ndarray:
    """What a fitted classifier says of its inputs, shape (D,), summing to 1 unless it uses none."""
    if hasattr(classifier, "feature_importances_"):
        values = np.asarray(classifier.feature_importances_)
    elif hasattr(classifier, "coef_"):
        values = np.abs(classifier.coef_).mean(0)
    else:
        raise ConfigError(
            f"dci needs a classifier with feature_importances_ or coef_; {type(classifier).__name__} has neither. Use "
            "a forest or a linear classifier, or hand an importance matrix to dci_scores."
        )
    return values / values.sum() if values.sum() > 0 else values


def dci(
    codes: Data,
    factors: Data,
    *,
    classifier: Classifier | None = None,
    num_bootstrap: int = 50,
    generator: torch.Generator | None = None,
) -> Score:
    r"""Disentanglement, completeness and informativeness, from classifiers that predict each factor from all codes.

    A classifier per factor is fitted to a random half of the rows. Its importances, a column of R that sums to 1, give
    disentanglement and completeness (`dci_scores`); its balanced accuracy on the other half, on the scale from chance
    to perfect, gives informativeness.

    Use it where codes may depend on factors in any way and all three questions matter: does a code serve one factor, is
    a factor in one code, is it there at all. The first two mean little where the third is low: then forests split on
    noise.

    References:
        Eastwood & Williams, "A framework for the quantitative evaluation of disentangled representations", 2018,
        https://openreview.net/forum?id=By-7dz-AZ.

    Args:
        codes: means of q(z|x), shape (N, *Z), flattened to (N, D), N >= 20.
        factors: the values of F discrete factors, integers, shape (N, F).
        classifier: any scikit-learn classifier with `feature_importances_` or `coef_` (it is copied; scale the codes
            for a linear one); None takes 30 trees that see all codes at each split, with leaves of at least 5 rows.
        num_bootstrap: resamples of the held-out rows for the error of informativeness, at least 2.
        generator: source of the halves, the resamples, and random states that the classifier leaves open.

    Returns:
        The disentanglement, in [0, 1]; NaN as standard error, with `stderr_reason`; details: those of `dci_scores`,
        `informativeness` and `informativeness_stderr`, `importance` (D, F).

    Raises:
        ShapeError, DataError, ConfigError: as `mig`; ConfigError too if the classifier tells no importances.

    Example:
        >>> import numpy as np
        >>> factors = np.random.default_rng(0).integers(3, size=(400, 2))
        >>> score = dci(factors * [[1.0, 2.0]], factors, generator=torch.Generator().manual_seed(0))
        >>> score.value > 0.9, score.details["informativeness"]
        (True, 1.0)
    """
    from sklearn.ensemble import RandomForestClassifier

    table, rng = as_table(codes, factors), noise(generator)
    if classifier is None:
        table = table._replace(codes=unit(table.codes))
        classifier = RandomForestClassifier(30, max_features=None, min_samples_leaf=5)
    fitted, held_out = halves(table, rng)
    columns, hits = [], []
    for truth, other in zip(fitted.labels.T, held_out.labels.T, strict=True):
        reader = seeded_copy(classifier, rng).fit(fitted.codes, truth)
        columns.append(_importance(reader))
        hits.append((reader.predict(held_out.codes) == other)[:, None])

    def informativeness(weights: np.ndarray) -> float:
        each = [above_chance(h, v, weights)[0] for h, v in zip(hits, held_out.labels.T, strict=True)]
        return over_factors(np.array(each), held_out.labels, weights)

    once, importance = np.ones(len(held_out.codes)), np.stack(columns, axis=1)
    found = dci_scores(importance)
    details = found | {
        "importance": importance,
        "informativeness": informativeness(once),
        "informativeness_stderr": bootstrap_stderr(informativeness, len(once), num_bootstrap, rng),
        "stderr_reason": "importances have no error short of fitting the classifiers anew for each resample",
    }
    return Score(found["disentanglement"], math.nan, details)
