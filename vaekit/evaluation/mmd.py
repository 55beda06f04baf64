"""Maximum mean discrepancy: whether two samples come from one distribution, by a kernel."""

import math
from typing import Any

import numpy as np
import torch

from vaekit.errors import ConfigError
from vaekit.evaluation.estimate import Score
from vaekit.evaluation.rows import as_pair, noise, squared_distances
from vaekit.kernels import gaussian_kernel, unbiased_mmd


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
    x: Any,
    y: Any,
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
