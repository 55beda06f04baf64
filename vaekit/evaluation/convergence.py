r"""Whether chains have mixed, and what their draws are worth: split R-hat and effective sample size.

Each chain is cut into halves, so that a drift within a chain shows like a difference between chains.

References:
    Gelman et al., "Bayesian data analysis", third edition, 2013, sections 11.4 and 11.5.
    Vehtari et al., "Rank-normalization, folding, and localization: an improved R-hat", 2021,
    https://arxiv.org/abs/1903.08008, section 3 (without the rank normalisation: the draws are taken as they are).
    Geyer, "Practical Markov chain Monte Carlo", 1992, https://doi.org/10.1214/ss/1177011137.
"""

import math

import torch
from torch import Tensor


def _halves(draws: Tensor) -> Tensor:
    """(S, C, ...) to (S // 2, 2C, ...) in float64; of an odd S the middle draw is left out."""
    n = len(draws) // 2
    return torch.cat([draws[:n], draws[len(draws) - n :]], 1).double()


def _variances(halves: Tensor) -> tuple[Tensor, Tensor]:
    """W, the mean variance within chains, and the pooled estimate var+ = (n-1)/n W + B/n."""
    n = len(halves)
    within = halves.var(0).mean(0)
    return within, (n - 1) / n * within + halves.mean(0).var(0)


def split_r_hat(draws: Tensor) -> Tensor:
    r"""Potential scale reduction \( \hat R = \sqrt{\mathrm{var}^+ / W} \) of split chains, per element.

    Near 1 where the chains agree; above some 1.01 they have not mixed and their draws should not be used.

    Args:
        draws: S draws of C chains, shape (S, C, ...), S >= 4.

    Returns:
        Shape (...), float64. Infinite where chains stand still apart, NaN where all draws are the same.

    Example:
        >>> import torch
        >>> draws = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
        >>> round(float(split_r_hat(draws)), 2), round(float(split_r_hat(draws + torch.arange(4.0))), 1)
        (1.0, 1.6)
    """
    within, pooled = _variances(_halves(draws))
    return (pooled / within).sqrt()


def effective_sample_size(draws: Tensor) -> Tensor:
    r"""\( M n / \hat\tau \) of the mean over all chains, \( \hat\tau = -1 + 2 \sum_k \hat P_k \) (Vehtari et al. 2021).

    \( \hat P_k = \hat\rho_{2k} + \hat\rho_{2k+1} \) are sums of neighbouring autocorrelations, combined over the M
    halves of length n, cut at the first that is negative and made monotone (Geyer 1992).

    Args:
        draws: S draws of C chains, shape (S, C, ...), S >= 4.

    Returns:
        Shape (...), float64; at most \( M n \log_{10}(M n) \), which antithetic chains reach. NaN where all draws are
        the same.

    Example:
        >>> import torch
        >>> draws = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
        >>> 3500 < float(effective_sample_size(draws)) < 4500
        True
    """
    halves = _halves(draws)
    n, total = len(halves), halves.shape[0] * halves.shape[1]
    within, pooled = _variances(halves)
    spectrum = torch.fft.rfft(halves - halves.mean(0), n=2 * n, dim=0)  # padded, so that lags do not wrap around
    covariance = torch.fft.irfft(spectrum.abs().square(), n=2 * n, dim=0)[:n].mean(1) / (n - 1)
    rho = 1 - (within - covariance) / pooled
    pairs = rho[0 : n - n % 2 : 2] + rho[1::2]
    positive = (pairs > 0).cumprod(0)
    monotone = pairs.cummin(0).values
    tau = (2 * (positive * monotone).sum(0) - 1).clamp(min=1 / math.log10(total))
    return total / tau
