"""Weighted draws: their effective number, quantiles, and a choice of them that has equal weights.

References:
    Kong, "A note on importance sampling using standardized weights", 1992, University of Chicago, report 348.
    Douc & Cappe, "Comparison of resampling schemes for particle filtering", 2005, https://arxiv.org/abs/cs/0507025.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def normalized(log_weights: Tensor) -> Tensor:
    """Weights that sum to 1 over the first dimension, float64, of log-weights of shape (K, ...).

    NaN counts as no weight. Where no draw has any, all weights are 0.
    """
    values = log_weights.double()
    values = torch.where(values.isnan(), -torch.inf, values)
    largest = values.amax(0)
    weights = torch.exp(values - torch.where(largest == -torch.inf, 0.0, largest))
    total = weights.sum(0)
    return weights / torch.where(total == 0, 1.0, total)


def effective_size(weights: Tensor) -> Tensor:
    r"""\( 1 / \sum_k w_k^2 \) of weights that sum to 1 (Kong 1992), shape (K, ...) to (...); 0 where all are 0."""
    squares = weights.square().sum(0)
    return torch.where(squares == 0, 0.0, 1 / torch.where(squares == 0, 1.0, squares))


def or_equal(weights: Tensor) -> Tensor:
    """The weights, and equal ones where all are 0, shape (K, ...)."""
    return torch.where(weights.sum(0) == 0, 1 / weights.shape[0], weights)


def mean_and_error(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    r"""\( m = \sum_k w_k f_k \) and its Monte Carlo standard error \( \sqrt{\frac{K}{K-1} \sum_k w_k^2 (f_k - m)^2} \).

    Of equal weights that is the error of a mean; of others the delta method's, of a quotient of two sums.

    References:
        Owen, "Monte Carlo theory, methods and examples", 2013, https://artowen.su.domains/mc/, equation 9.8.

    Args:
        values: f of each draw, shape (K, ...).
        weights: weights that sum to 1 over the draws, of a shape that broadcasts with `values`.

    Returns:
        Mean and error, shape (...); the error of a single draw is NaN.

    Example:
        >>> values = torch.tensor([1.0, 2.0, 3.0])
        >>> mean_and_error(values, torch.full((3,), 1 / 3))  # a standard deviation of 1 over the root of 3
        (tensor(2.), tensor(0.5774))
    """
    mean = (weights * values).sum(0)
    if len(values) == 1:
        return mean, torch.full_like(mean, torch.nan)
    squares = (weights * (values - mean)).square().sum(0)
    return mean, (squares * (len(values) / (len(values) - 1))).sqrt()


def quantiles(values: Tensor, weights: Tensor, shares: Sequence[float]) -> Tensor:
    """Quantiles of weighted draws: the least value up to which the weights reach each share.

    Args:
        values: draws, shape (S, ...).
        weights: weights that sum to 1 over the draws, of a shape that broadcasts with `values`.
        shares: P numbers from 0 to 1.

    Returns:
        Shape (P, ...), each one of the draws.

    Example:
        >>> quantiles(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([0.5, 0.25, 0.25]), (0.3, 0.5, 0.9))
        tensor([2., 2., 3.])
    """
    ordered, order = values.sort(0)
    reached = weights.expand_as(values).gather(0, order).cumsum(0)
    # Rounding of a sum must not lead beyond the last draw that has any weight.
    found = [(reached < share * reached[-1] - 1e-12).sum(0, keepdim=True) for share in shares]
    places = torch.cat(found).clamp(max=len(values) - 1)
    return ordered.gather(0, places)


def resampled(weights: Tensor, noise: Tensor) -> Tensor:
    """Numbers of draws that have equal weights, chosen by systematic resampling, in a random order.

    Each draw is chosen as often as n times its weight says, up to one; so weights that are equal choose each once.

    Args:
        weights: weights that sum to 1, shape (K, B).
        noise: uniform on [0, 1), shape (n + 1, B): where the choice begins, and the order.

    Returns:
        Numbers from 0 to K - 1, shape (n, B).
    """
    num = len(noise) - 1
    steps = torch.arange(num, dtype=noise.dtype, device=noise.device).unsqueeze(1)
    reached = weights.cumsum(0)
    reached = reached / reached[-1]
    places = torch.searchsorted(reached.T.contiguous(), ((steps + noise[:1]) / num).T.contiguous(), right=True)
    last = len(weights) - 1 - (weights.flip(0) > 0).to(torch.uint8).argmax(0)  # no draw without weight by rounding
    chosen = torch.minimum(places, last.unsqueeze(1)).T
    return chosen.gather(0, noise[1:].argsort(0))
