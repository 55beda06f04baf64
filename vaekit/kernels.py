r"""The Gaussian kernel and the maximum mean discrepancy: formulas that objectives and two-sample tests share.

References:
    Gretton et al., "A kernel two-sample test", 2012, https://jmlr.org/papers/v13/gretton12a.html.
"""

import torch
from torch import Tensor


def gaussian_kernel(squared: Tensor, bandwidth: float) -> Tensor:
    r"""\( k(a, b) = \exp(-|a - b|^2 / 2 h^2) \) from squared distances of any shape."""
    return (squared / (-2 * bandwidth**2)).exp()


def unbiased_mmd(kernel: Tensor, in_first: Tensor) -> Tensor:
    """The unbiased squared maximum mean discrepancy (equation 3 of Gretton et al.) for P labellings at once.

    One matrix product serves all labellings, so that permutations cost little more than the statistic.

    Args:
        kernel: k between all rows of the pooled sample, with ones on the diagonal, shape (N, N).
        in_first: 1 where a row counts to the first sample, 0 for the second, shape (N, P); as many ones in each column.

    Returns:
        Shape (P,); it may be negative.
    """
    m = in_first[:, 0].sum()
    n = len(kernel) - m
    to_first = kernel @ in_first
    first = (in_first * to_first).sum(0)
    cross = to_first.sum(0) - first
    second = kernel.sum() - first - 2 * cross
    # The diagonal is m (or n) ones: leaving it out is what makes the estimate unbiased.
    return (first - m) / (m * (m - 1)) + (second - n) / (n * (n - 1)) - 2 * cross / (m * n)


def weighted_mmd(kernel: Tensor, weight: Tensor) -> Tensor:
    """The unbiased squared discrepancy of a first sample whose rows have weights, shape ().

    Args:
        kernel: k between all rows of the pooled sample, the first sample in front, shape (N, N).
        weight: of the rows of the first sample, shape (m,); equal weights give `unbiased_mmd`. Where a single row has
            weight there is no pair to compare, and the term of pairs is 0.
    """
    m = len(weight)
    n = len(kernel) - m
    shares = weight / weight.sum()
    within, other = kernel[:m, :m], kernel[m:, m:]
    pairs = 1 - shares.square().sum()
    first = shares @ within @ shares - (shares.square() * within.diagonal()).sum()
    first = first / torch.where(pairs > 0, pairs, torch.ones_like(pairs))
    second = (other.sum() - other.diagonal().sum()) / (n * (n - 1))
    return first + second - 2 * (shares @ kernel[:m, m:]).mean()
