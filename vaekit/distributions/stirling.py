"""The remainder of Stirling's formula: log-gammas whose large parts cancel before they are computed."""

import math

import torch
from torch import Tensor

_LARGE = 8.0  # from here on six terms of the series are exact to 1e-14
_SERIES = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


def stirling_remainder(z: Tensor) -> Tensor:
    r"""\( s(z) = \log\Gamma(z) - [(z - \tfrac12) \log z - z + \tfrac12 \log 2\pi] \), which falls like 1/(12 z).

    Densities are made of differences of log-gammas, whose leading parts cancel: in float32
    \( \log\Gamma(z + \tfrac12) - \log\Gamma(z) \) is wrong by 0.5 at z = 10^6. Written with s, the leading parts are
    combined on paper, and what is left is small.

    References:
        Loader, "Fast and accurate computation of binomial probabilities", 2000,
        https://www.r-project.org/doc/reports/CLoader-dbinom-2002.pdf, section 2.

    Args:
        z: positive numbers, any shape.

    Example:
        >>> import torch
        >>> stirling_remainder(torch.tensor([1.0, 1e6]))
        tensor([8.1061e-02, 8.3333e-08])
    """
    is_large = z >= _LARGE
    # Each branch sees only values at which it and its gradient are finite.
    inverse = 1 / z.clamp(min=_LARGE)
    square, series = inverse**2, torch.full_like(z, _SERIES[-1])
    for coefficient in _SERIES[-2::-1]:
        series = series * square + coefficient
    small = z.clamp(max=_LARGE)
    direct = torch.lgamma(small) - ((small - 0.5) * small.log() - small + HALF_LOG_TWO_PI)
    return torch.where(is_large, series * inverse, direct)
