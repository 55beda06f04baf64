"""The Frechet distance between Gaussians fitted to features."""

import math
from typing import Any

import numpy as np

from vaekit.evaluation.estimate import Score
from vaekit.evaluation.rows import as_pair

_GROUPS = 10  # of each sample, left out in turn by the jackknife of the Frechet distance
_MAX_FEATURES = 512  # beyond it 20 more decompositions are no longer cheap


def _moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean (D,) and the symmetric square root (D, D) of the covariance, real for singular ones too."""
    centred = rows - rows.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred / (len(rows) - 1))
    return rows.mean(0), (vectors * np.sqrt(values.clip(0))) @ vectors.T


def _frechet(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
    r"""The terms of means and of covariances.

    \( tr (A \Sigma_2 A)^{1/2} \), with A the root of \( \Sigma_1 \), is the sum of the singular values of A B, B the
    root of \( \Sigma_2 \): never squared and rooted again, zeros stay zeros to rounding.
    """
    (mean_x, root_x), (mean_y, root_y) = first, second
    cross = float(np.linalg.svd(root_x @ root_y, compute_uv=False).sum())
    spread = float(np.square(root_x).sum() + np.square(root_y).sum()) - 2 * cross
    return float(np.square(mean_x - mean_y).sum()), max(0.0, spread)


def _group_jackknife(x: np.ndarray, y: np.ndarray) -> float:
    """Leaves out each tenth of one sample in turn: 20 evaluations instead of m + n."""
    moments_x, moments_y = _moments(x), _moments(y)
    every = range(_GROUPS)
    without_x = [_frechet(_moments(x[np.arange(len(x)) % _GROUPS != g]), moments_y) for g in every]
    without_y = [_frechet(moments_x, _moments(y[np.arange(len(y)) % _GROUPS != g])) for g in every]
    return math.sqrt((_GROUPS - 1) * sum(float(np.var([sum(t) for t in terms])) for terms in (without_x, without_y)))


def frechet_distance(features_x: Any, features_y: Any) -> Score:
    r"""The squared Frechet distance between Gaussians fitted to two sets of features (FID on Inception's).

    \[ |\mu_1 - \mu_2|^2 + tr(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1^{1/2} \Sigma_2 \Sigma_1^{1/2})^{1/2}). \]
    Use it on features in which distances mean something, with many more rows than features, and only between numbers
    from the same features and the same numbers of rows: it is biased upwards, by an amount that depends on both. It
    sees means and covariances, nothing else.

    References:
        Dowson & Landau, "The Frechet distance between multivariate normal distributions", 1982,
        https://doi.org/10.1016/0047-259X(82)90077-X.
        Heusel et al., "GANs trained by a two time-scale update rule", 2017, https://arxiv.org/abs/1706.08500.

    Args:
        features_x: features of held-out data, shape (m, D), m >= 2; other event shapes are flattened.
        features_y: features of generated data, shape (n, D), n >= 2.

    Returns:
        The squared distance; its standard error by a jackknife over tenths of either sample in the order of the rows,
        which should not matter (NaN, with `stderr_reason`, for fewer than 20 rows or more than 512 features); details:
        `mean_term`, `covariance_term`, `num_features`. Covariances may be singular.

    Raises:
        ShapeError, DataError: if the features are no two samples of finite rows of the same shape.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(100, 2))
        >>> score = frechet_distance(x, 3 * x - 2 * x.mean(0) + 1)  # means 1 apart in both, thrice the scale
        >>> bool(abs(score.value - 2 - 4 * x.var(0, ddof=1).sum()) < 1e-9)
        True
    """
    x, y = as_pair(features_x, features_y, names=("features_x", "features_y"), min_rows=2)
    means, covariances = _frechet(_moments(x), _moments(y))
    details: dict[str, Any] = {"mean_term": means, "covariance_term": covariances, "num_features": x.shape[1]}
    stderr = math.nan
    if min(len(x), len(y)) < 2 * _GROUPS:
        details["stderr_reason"] = f"the jackknife over tenths needs {2 * _GROUPS} rows of each sample"
    elif x.shape[1] > _MAX_FEATURES:
        details["stderr_reason"] = f"20 more decompositions are not cheap beyond {_MAX_FEATURES} features"
    else:
        stderr = _group_jackknife(x, y)
    return Score(means + covariances, stderr, details)
