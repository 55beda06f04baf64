"""Of which power of a column of counts a normal explains the cells best: a fit of one dimension to each column."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from vaekit.data import Dataset
from vaekit.distributions import RoundedLogNormal
from vaekit.distributions.rounded import POWERS
from vaekit.raw import box_cox

_MOST_ROWS = 2000  # that are looked at
_LEAST_SCALE, _STEPS = 0.02, 50


def powers_of(rows: Dataset, places: Sequence[int]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Power and centre of each of some columns of counts, as `likelihoods.RoundedLogNormal` takes them.

    Each power is fitted to the column's observed cells by itself, without z; the one of the largest log p is taken, and
    the logarithm where it is as good. At most 2,000 rows are looked at, evenly spread; the weights of rows count.

    Args:
        rows: training rows.
        places: of the columns.
    """
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), _MOST_ROWS)).round().astype(int)
    x = np.asarray(rows[chosen], dtype=np.float64)[:, list(places)]
    weights = np.ones(len(chosen)) if rows.weights is None else np.asarray(rows.weights, dtype=np.float64)[chosen]
    found = [best_power(column, weights) for column in x.T]
    return tuple(power for power, _ in found), tuple(centre for _, centre in found)


def best_power(x: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, float]:
    """Power and centre for one column of counts, shape (N,), NaN for holes."""
    weights = np.ones(len(x)) if weights is None else weights
    seen = ~np.isnan(x) & (weights > 0)
    counts, which = np.unique(x[seen], return_inverse=True)
    if len(counts) < 2:
        return 0.0, 1.0
    share = np.bincount(which, weights[seen])
    share = share / share.sum()
    centre = 1.0 + float(np.round(share @ counts))
    tried = [(power, 1.0 if power == 0 else centre) for power in POWERS]
    return max(tried, key=lambda bend: _largest_log_p(counts, share, *bend))


def _largest_log_p(counts: np.ndarray, share: np.ndarray, power: float, centre: float) -> float:
    """The largest mean log p in nats, over location and scale, of counts with these shares of the rows."""
    from scipy.optimize import minimize  # type: ignore[import-untyped]

    x, mass = torch.from_numpy(counts), torch.from_numpy(share)
    y = box_cox(torch.log1p(x) - math.log(centre), power)
    loc = float(mass @ y)
    scale = math.sqrt(float(mass @ (y - loc).square()))

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        parameters = torch.from_numpy(at).requires_grad_()
        d = RoundedLogNormal(parameters[0], parameters[1].exp(), False, power=power, centre=centre)
        value = -(mass @ d.log_prob(x))
        (gradient,) = torch.autograd.grad(value, [parameters])
        return float(value.detach()), gradient.numpy()

    begin = np.array([loc, math.log(max(scale, 2 * _LEAST_SCALE))])
    bounds = [(None, None), (math.log(_LEAST_SCALE), None)]
    how = {"maxiter": _STEPS}
    return -float(minimize(loss, begin, jac=True, method="L-BFGS-B", bounds=bounds, options=how).fun)
