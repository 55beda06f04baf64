"""The sliced Wasserstein distance: how far mass has to move, averaged over one-dimensional shadows."""

import math
from typing import Any

import numpy as np
import torch

from vaekit.errors import ConfigError
from vaekit.evaluation.estimate import Score
from vaekit.evaluation.rows import as_pair, noise
from vaekit.models.rows import slices


def transport_costs(x: np.ndarray, y: np.ndarray, order: int) -> np.ndarray:
    r"""\( W_p^p = \int_0^1 |F^{-1}(u) - G^{-1}(u)|^p du \) for each column of x (m, L) and y (n, L): shape (L,).

    Both quantile functions are steps; between two neighbouring steps of either one the integrand is constant, so the
    integral is exact for any m and n. The steps are held as integers on the grid of 1 / (m n), free of rounding.
    """
    m, n = len(x), len(y)
    steps = np.union1d(np.arange(1, m + 1) * n, np.arange(1, n + 1) * m)
    widths = np.diff(steps, prepend=0) / (m * n)
    gaps = np.sort(x, axis=0)[(steps - 1) // n] - np.sort(y, axis=0)[(steps - 1) // m]
    return widths @ np.abs(gaps) ** order


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
    x: Any,
    y: Any,
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
