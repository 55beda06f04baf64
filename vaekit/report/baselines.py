"""Simple tools for the jobs of a model: scores of odd rows, fills of holes, made-up rows, features, classes."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_MOST_TREES = 256  # rows of a tree, as in the paper
_NEIGHBOURS = 5
_NEAREST = 10  # rows that say of which class a row is


def forest(learned: Floats, scored: Floats, seed: int = 0) -> Floats:
    """How soon random cuts leave a row alone: the larger the odder, shape (N,).

    References:
        Liu et al., "Isolation forest", 2008, https://doi.org/10.1109/ICDM.2008.17.
    """
    from sklearn.ensemble import IsolationForest

    fitted = IsolationForest(max_samples=min(_MOST_TREES, len(learned)), random_state=seed).fit(learned)
    result: Floats = -fitted.score_samples(scored)
    return result


def neighbours(learned: Floats, scored: Floats) -> Floats:
    """The distance to the fifth nearest row that was learned from, shape (N,).

    References:
        Ramaswamy et al., "Efficient algorithms for mining outliers from large data sets", 2000,
        https://doi.org/10.1145/342009.335437.
    """
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=min(_NEIGHBOURS, len(learned))).fit(learned)
    result: Floats = index.kneighbors(scored)[0][:, -1]
    return result


def ecod(learned: Floats, scored: Floats) -> Floats:
    """Tail probabilities by column, added up: of the left, of the right, by the sign of the skew; the largest sum.

    References:
        Li et al., "ECOD: unsupervised outlier detection using empirical cumulative distribution functions", 2022,
        https://arxiv.org/abs/2201.00382, section 3.
    """
    left, right = np.empty(scored.shape), np.empty(scored.shape)
    for j in range(learned.shape[1]):
        both = np.sort(np.concatenate([learned[:, j], scored[:, j]]))
        left[:, j] = -np.log(np.searchsorted(both, scored[:, j], "right") / len(both))
        right[:, j] = -np.log((len(both) - np.searchsorted(both, scored[:, j], "left")) / len(both))
    skew = ((learned - learned.mean(0)) ** 3).mean(0)
    by_skew = np.where(skew < 0, left, right)
    result: Floats = np.maximum(np.maximum(left.sum(1), right.sum(1)), by_skew.sum(1))
    return result


DETECTORS: dict[str, Callable[[Floats, Floats], Floats]] = {
    "isolation forest": forest,
    "distance to the 5th neighbour": neighbours,
    "ECOD": ecod,
}


def filled_by_mean(learned: Floats, holed: Floats) -> Floats:
    """Holes as the mean of their column; of one-hot levels that is how frequent they are."""
    result: Floats = np.where(np.isnan(holed), np.nan_to_num(np.nanmean(learned, axis=0)), holed)
    return result


def filled_by_neighbours(learned: Floats, holed: Floats) -> Floats:
    """Holes as the mean over the ten nearest rows that have the cell."""
    from sklearn.impute import KNNImputer

    result: Floats = KNNImputer(n_neighbors=10, keep_empty_features=True).fit(learned).transform(holed)
    return result


def filled_by_regression(learned: Floats, holed: Floats) -> Floats:
    """Holes by a ridge regression of each column on the others, in turns.

    References:
        van Buuren & Groothuis-Oudshoorn, "mice", 2011, https://doi.org/10.18637/jss.v045.i03.
    """
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence
        fitted = IterativeImputer(random_state=0, max_iter=5, keep_empty_features=True).fit(learned)
        result: Floats = fitted.transform(holed)
    return result


FILLERS: dict[str, Callable[[Floats, Floats], Floats]] = {
    "mean, most frequent": filled_by_mean,
    "ten nearest rows": filled_by_neighbours,
    "iterative regression": filled_by_regression,
}


def independent(x: Floats, num: int, seed: int = 0) -> Floats:
    """Rows each of whose cells comes from a row of its own: the margins of x and no dependence, shape (num, D)."""
    random = np.random.default_rng(seed)
    return np.column_stack([column[random.integers(len(x), size=num)] for column in x.T])


def copula(x: Floats, num: int, seed: int = 0) -> Floats:
    """Rows drawn from a normal copula of x with the margins of x, shape (num, D); holes are drawn as often as in x.

    The ranks of each column, ties in a random order, are led to normal scores, whose correlations are kept.

    References:
        Nelsen, "An introduction to copulas", 2006, https://doi.org/10.1007/0-387-28678-0.
    """
    random = np.random.default_rng(seed)
    scores, margins = np.empty(x.shape), []
    for j, column in enumerate(x.T):
        order = np.lexsort((random.random(len(column)), column))  # NaN last
        scores[order, j] = torch.special.ndtri((torch.arange(len(column), dtype=torch.float64) + 0.5) / len(column))
        margins.append(column[order])
    correlations = np.corrcoef(scores, rowvar=False).reshape(x.shape[1], x.shape[1])
    values, vectors = np.linalg.eigh(correlations)
    normal = random.normal(size=(num, x.shape[1])) @ (vectors * np.sqrt(values.clip(min=0))).T
    places = np.argsort(np.argsort(normal, axis=0), axis=0) * len(x) // num
    return np.column_stack([margin[place] for margin, place in zip(margins, places.T, strict=True)])


MAKERS: dict[str, Callable[[Floats, int], Floats]] = {"independent columns": independent, "normal copula": copula}


def _probabilities(fitted: Any, scored: Floats, num_classes: int) -> Floats:
    """p(class | row) of a fitted classifier, shape (N, L); 0 for classes that it never met."""
    found = np.zeros((len(scored), num_classes))
    found[:, fitted.classes_] = fitted.predict_proba(scored)
    return found


def logistic(learned: Floats, labels: np.ndarray, scored: Floats, num_classes: int) -> Floats:
    """Probabilities of a logistic regression, shape (N, L)."""
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence
        fitted = LogisticRegression(max_iter=300).fit(learned, labels)
    return _probabilities(fitted, scored, num_classes)


def nearest_classes(learned: Floats, labels: np.ndarray, scored: Floats, num_classes: int) -> Floats:
    """Shares of the classes among the ten nearest rows, one row added that is of each class alike, shape (N, L)."""
    from sklearn.neighbors import KNeighborsClassifier

    count = min(_NEAREST, len(learned))
    fitted = KNeighborsClassifier(count).fit(learned, labels)
    shares = _probabilities(fitted, scored, num_classes)
    result: Floats = (count * shares + 1 / num_classes) / (count + 1)
    return result


CLASSIFIERS: dict[str, Callable[[Floats, np.ndarray, Floats, int], Floats]] = {
    "logistic regression": logistic,
    "ten nearest rows": nearest_classes,
}
