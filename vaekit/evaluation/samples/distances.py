"""Distances of two samples: Fréchet, maximum mean discrepancy, sliced Wasserstein."""

import math
from typing import Any

import numpy as np
import torch

from vaekit.errors import ConfigError
from vaekit.evaluation.estimate import Score
from vaekit.evaluation.rows import as_pair, noise, squared_distances
from vaekit.kernels import gaussian_kernel, unbiased_mmd
from vaekit.models.rows import slices
from vaekit.traits import Data

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


def frechet_distance(features_x: Data, features_y: Data) -> Score:
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


def median_bandwidth(squared: np.ndarray) -> float:
    """The median distance between different rows of a pooled sample, from its squared distances (N, N).

    Where more than half of the pairs coincide (bits, counts), the median of the positive distances; 1 if all coincide.
    """
    pairs = squared[np.triu_indices(len(squared), 1)]
    median = float(np.median(pairs))
    if median == 0 and bool((pairs > 0).any()):
        median = float(np.median(pairs[pairs > 0]))
    return math.sqrt(median) if median > 0 else 1.0


def _jackknife_stderr(kernel: np.ndarray, m: int) -> float:
    """Leaves out one row at a time, in closed form from the row sums of the three blocks."""
    n = len(kernel) - m
    within_x, within_y = kernel[:m, :m].sum(1) - 1, kernel[m:, m:].sum(1) - 1
    cross_x, cross_y = kernel[:m, m:].sum(1), kernel[m:, :m].sum(1)
    sum_x, sum_y, cross = within_x.sum(), within_y.sum(), cross_x.sum()
    mean_x, mean_y = sum_x / (m * (m - 1)), sum_y / (n * (n - 1))
    without_x = (sum_x - 2 * within_x) / ((m - 1) * (m - 2)) + mean_y - 2 * (cross - cross_x) / ((m - 1) * n)
    without_y = mean_x + (sum_y - 2 * within_y) / ((n - 1) * (n - 2)) - 2 * (cross - cross_y) / (m * (n - 1))
    return math.sqrt((m - 1) * float(without_x.var()) + (n - 1) * float(without_y.var()))


def mmd(
    x: Data,
    y: Data,
    *,
    bandwidth: float | None = None,
    num_permutations: int = 200,
    generator: torch.Generator | None = None,
) -> Score:
    r"""The unbiased squared maximum mean discrepancy between two samples, with a permutation test.

    \[ \frac{\sum_{i \ne j} k(x_i, x_j)}{m (m - 1)} + \frac{\sum_{i \ne j} k(y_i, y_j)}{n (n - 1)}
       - \frac{2}{m n} \sum_{ij} k(x_i, y_j), \quad k(a, b) = \exp(-|a - b|^2 / 2 h^2). \]
    Zero in expectation if and only if the distributions are the same; it may come out negative. The p-value is exact
    for independent rows: under equality every labelling of the pooled rows is as likely, and the observed one is
    counted among them, \( (1 + \#\{T_p \ge T\}) / (1 + P) \).

    Use it for a test in a few dimensions, or on features. Not for raw images of many pixels, where a Gaussian kernel
    sees little but the mean and the overall spread. Values at different h cannot be compared.

    References:
        Gretton et al., "A kernel two-sample test", 2012, https://jmlr.org/papers/v13/gretton12a.html.

    Args:
        x: one sample, shape (m, *X), m >= 3.
        y: the other one, shape (n, *X), n >= 3.
        bandwidth: h; None takes the median distance between pooled rows.
        num_permutations: P, at least 1.
        generator: source of the permutations.

    Returns:
        The estimate; its jackknife standard error (somewhat too large under equality, where the estimate degenerates);
        details: `p_value`, `bandwidth`, `num_permutations`, and `null_95`, what 95% of the permutations stay below.
        Memory is 8 (m + n)^2 bytes.

    Raises:
        ShapeError, DataError: if x and y are no two samples of finite rows of the same shape.
        ConfigError: if the bandwidth is not positive, or P < 1.

    Example:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 100, 3, generator=generator)
        >>> mmd(x, y + 1, generator=generator).details["p_value"] < 0.01
        True
    """
    if num_permutations < 1:
        raise ConfigError(f"num_permutations is at least 1; got {num_permutations}")
    if bandwidth is not None and not (math.isfinite(bandwidth) and bandwidth > 0):
        raise ConfigError(f"bandwidth is a positive number; got {bandwidth}. None takes the median distance.")
    first, second = as_pair(x, y, min_rows=3)
    pooled, m = np.concatenate([first, second]), len(first)
    squared = squared_distances(pooled, pooled)
    h = median_bandwidth(squared) if bandwidth is None else float(bandwidth)
    np.fill_diagonal(squared, 0)
    kernel = gaussian_kernel(torch.from_numpy(squared), h).numpy()
    rng = noise(generator)
    labels = np.zeros((len(pooled), 1 + num_permutations))
    labels[:m, 0] = 1
    for column in range(1, 1 + num_permutations):
        labels[rng.permutation(len(pooled))[:m], column] = 1
    value, *null = unbiased_mmd(torch.from_numpy(kernel), torch.from_numpy(labels)).tolist()
    num_above = sum(t >= value - 1e-12 for t in null)  # equal labellings differ by rounding only
    details = {
        "p_value": (1 + num_above) / (1 + num_permutations),
        "bandwidth": h,
        "num_permutations": num_permutations,
        "null_95": float(np.quantile(null, 0.95)),
    }
    return Score(value, _jackknife_stderr(kernel, m), details)


def transport_costs(x: np.ndarray, y: np.ndarray, order: int) -> np.ndarray:
    r"""\( W_p^p = \int_0^1 |F^{-1}(u) - G^{-1}(u)|^p du \) for each column of x (m, L) and y (n, L): shape (L,).

    Both quantile functions are steps; between two neighbouring steps of either one the integrand is constant, so the
    integral is exact for any m and n. The steps are held as integers on the grid of 1 / (m n), free of rounding.
    """
    m, n = len(x), len(y)
    steps = np.union1d(np.arange(1, m + 1) * n, np.arange(1, n + 1) * m)
    widths = np.diff(steps, prepend=0) / (m * n)
    gaps = np.sort(x, axis=0)[(steps - 1) // n] - np.sort(y, axis=0)[(steps - 1) // m]
    result: np.ndarray = widths @ np.abs(gaps) ** order
    return result


def _sliced(x: np.ndarray, y: np.ndarray, directions: np.ndarray, order: int) -> tuple[float, float]:
    """The distance and its standard error over the projections (delta method for the root)."""
    blocks = slices(directions.shape[1], 64)
    costs = np.concatenate([transport_costs(x @ directions[:, b], y @ directions[:, b], order) for b in blocks])
    value = float(costs.mean()) ** (1 / order)
    if len(costs) == 1:
        return value, math.nan
    stderr = float(costs.std(ddof=1)) / math.sqrt(len(costs))
    return value, stderr / (order * value ** (order - 1)) if value > 0 else 0.0


def sliced_wasserstein(
    x: Data,
    y: Data,
    *,
    num_projections: int = 500,
    order: int = 2,
    generator: torch.Generator | None = None,
) -> Score:
    r"""The sliced Wasserstein distance of order 2 (or 1) between two samples, in the units of the data.

    \( SW_p^p = E_\theta W_p^p(\theta^T x, \theta^T y) \) over directions uniform on the unit sphere; each
    one-dimensional distance is exact, for unequal sample sizes too, through the quantile functions.

    Use it as a distance that grows with how far the mass has to move, and that shared support does not saturate. It is
    no test: two finite samples of one distribution are a positive distance apart, larger for fewer rows. What that
    amounts to is in the details: `baseline` between two random halves of x, beside `at_baseline_size`, the distance of
    the first half from as many rows of y. In many dimensions a random direction sees little of a difference that lies
    in few of them.

    References:
        Bonneel et al., "Sliced and Radon Wasserstein barycenters of measures", 2015,
        https://doi.org/10.1007/s10851-014-0506-3.

    Args:
        x: held-out data, shape (m, *X), m >= 2.
        y: the other sample, shape (n, *X), n >= 2.
        num_projections: L, at least 1.
        order: p, 1 or 2.
        generator: source of directions and of the halves.

    Returns:
        The distance; its standard error over the projections (NaN for one of them; what other rows would give is not
        in it); details: `order`, `num_projections`, `baseline`, `at_baseline_size`, `baseline_rows`.

    Raises:
        ShapeError, DataError: if x and y are no two samples of finite rows of the same shape.
        ConfigError: if L < 1 or the order is neither 1 nor 2.

    Example:
        >>> import torch
        >>> x = torch.arange(6.0).reshape(3, 2)
        >>> score = sliced_wasserstein(x, x + torch.tensor([3.0, 4.0]), generator=torch.Generator().manual_seed(0))
        >>> abs(score.value - 5 / 2**0.5) < 3 * score.stderr  # a shift by 5, seen from all sides of the plane
        True
    """
    if num_projections < 1:
        raise ConfigError(f"num_projections is at least 1; got {num_projections}")
    if order not in (1, 2):
        raise ConfigError(f"order is 1 or 2; got {order}")
    first, second = as_pair(x, y, min_rows=2)
    rng = noise(generator)
    directions = rng.standard_normal((first.shape[1], num_projections))
    directions /= np.linalg.norm(directions, axis=0)
    value, stderr = _sliced(first, second, directions, order)
    size = min(len(first) // 2, len(second))
    rows = rng.permutation(len(first))
    half, other = first[rows[:size]], first[rows[size : 2 * size]]
    drawn = second[rng.permutation(len(second))[:size]]
    details = {
        "order": order,
        "num_projections": num_projections,
        "baseline": _sliced(half, other, directions, order)[0],
        "at_baseline_size": _sliced(half, drawn, directions, order)[0],
        "baseline_rows": size,
    }
    return Score(value, stderr, details)
