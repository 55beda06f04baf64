"""The classifier two-sample test: whether a classifier can tell generated rows from real ones."""

import math
from typing import Any

import numpy as np
import torch

from vaekit.errors import ConfigError
from vaekit.evaluation.estimate import Score
from vaekit.evaluation.rows import Classifier, as_pair, noise, seeded_copy
from vaekit.traits import Data


def _default_classifier() -> Any:
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(100, min_samples_leaf=2)


def _scores(classifier: Classifier, rows: np.ndarray) -> np.ndarray:
    """What orders the rows, from the surest of class 0 to the surest of class 1."""
    scores: np.ndarray
    if hasattr(classifier, "predict_proba"):
        scores = classifier.predict_proba(rows)[:, 1]
    elif hasattr(classifier, "decision_function"):
        scores = classifier.decision_function(rows)
    else:
        scores = classifier.predict(rows)
    return scores


def _exact_p_value(predicted: np.ndarray, labels: np.ndarray) -> float:
    """P(as many hits or more) if the labels of these rows were dealt at random: hypergeometric, no asymptotics."""
    from scipy.stats import hypergeom  # type: ignore[import-untyped]

    hits = int((predicted & labels).sum())
    return float(hypergeom.sf(hits - 1, len(labels), int(labels.sum()), int(predicted.sum())))


def classifier_two_sample_test(
    x: Data,
    y: Data,
    *,
    classifier: Classifier | None = None,
    num_folds: int = 5,
    generator: torch.Generator | None = None,
) -> Score:
    r"""The held-out accuracy of a classifier that learns to tell x from y: 1/2 if it cannot, 1 if it always can.

    The larger sample is cut at random to the size of the smaller one, so that chance is 1/2. Accuracy is averaged over
    `num_folds` folds, each judged by a classifier fitted to the others.

    The p-value holds under cross-validation. A binomial test of all hits would not: the folds share training rows, so
    their hits are correlated. Given the rows it was fitted to, though, a classifier is fixed, and if x and y have one
    distribution then the labels of the fold left out are dealt at random, and its number of hits is hypergeometric,
    exactly. Twice the mean of these p-values is a p-value however they depend on each other (Vovk & Wang). It is
    conservative, and needs nothing but independent rows.

    Use it as a test that looks where the difference is, with any classifier that suits the data. An accuracy of 1/2
    says that this classifier, from so many rows, sees nothing.

    References:
        Lopez-Paz & Oquab, "Revisiting classifier two-sample tests", 2017, https://arxiv.org/abs/1610.06545.
        Vovk & Wang, "Combining p-values via averaging", 2020, https://arxiv.org/abs/1212.4966.

    Args:
        x: one sample, shape (m, *X).
        y: the other one, shape (n, *X).
        classifier: any scikit-learn classifier (it is copied); None takes 100 extremely randomised trees, which see
            interactions between elements and do not ask for scaling.
        num_folds: at least 2, with at least 2 rows of either sample in each.
        generator: source of folds, of the cut, and of random states that the classifier leaves open.

    Returns:
        The accuracy; its binomial standard error, which leaves the dependence of the folds out; details: `p_value`
        (one-sided, against chance), `auc` (mean over the folds), `fold_accuracies`, `num_rows` of each sample.

    Raises:
        ShapeError, DataError: if x and y are no two samples of finite rows of the same shape, or too few.
        ConfigError: if `num_folds` < 2.

    Example:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 100, 2, generator=generator)
        >>> classifier_two_sample_test(x, y + 4, generator=generator).value > 0.95
        True
    """
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold

    if num_folds < 2:
        raise ConfigError(f"num_folds is at least 2; got {num_folds}")
    first, second = as_pair(x, y, min_rows=2 * num_folds)
    rng = noise(generator)
    size = min(len(first), len(second))
    rows = np.concatenate([sample[rng.permutation(len(sample))[:size]] for sample in (first, second)])
    labels = np.repeat([False, True], size)
    classifier = _default_classifier() if classifier is None else classifier
    folds = StratifiedKFold(num_folds, shuffle=True, random_state=int(rng.integers(2**31)))
    accuracies, areas, p_values = [], [], []
    splits = list(folds.split(rows, labels))
    for train, test in splits:
        fitted = seeded_copy(classifier, rng).fit(rows[train], labels[train])
        predicted = np.asarray(fitted.predict(rows[test])).astype(bool)
        accuracies.append(float((predicted == labels[test]).mean()))
        areas.append(float(roc_auc_score(labels[test], _scores(fitted, rows[test]))))
        p_values.append(_exact_p_value(predicted, labels[test]))
    value = float(np.average(accuracies, weights=[len(test) for _, test in splits]))
    details = {
        "p_value": min(1.0, 2 * float(np.mean(p_values))),
        "auc": float(np.mean(areas)),
        "fold_accuracies": accuracies,
        "num_rows": size,
    }
    return Score(value, math.sqrt(value * (1 - value) / (2 * size)), details)
