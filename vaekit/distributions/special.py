r"""Special functions that torch lacks, or computes with too few digits: Stirling's remainder and Bessel functions.

Far up in the order, where Olver's uniform expansion is exact to rounding whatever x, the recurrence
\( I_{\mu-1}(x) = I_{\mu+1}(x) + (2\mu/x) I_\mu(x) \) starts. In terms of ratios it is a sum of positive
numbers, so that nothing is lost on the way down.

References:
    NIST Digital Library of Mathematical Functions, https://dlmf.nist.gov/10.41, equations 10.41.3 and 10.41.10, and
    https://dlmf.nist.gov/10.29, equation 10.29.1.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

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


_START = 30.0  # the order from which on the expansion is used
_TERMS = 8


def _polynomials() -> tuple[tuple[float, ...], ...]:
    r"""Coefficients in p^2 of \( p^{-k} U_k(p) \), k = 0, 1, ..., by \( U_{k+1} = \tfrac12 p^2 (1 - p^2) U_k' +
    \tfrac18 \int_0^p (1 - 5 t^2) U_k \).
    """
    p = np.polynomial.Polynomial([0.0, 1.0])
    found = [np.polynomial.Polynomial([1.0])]
    for _ in range(_TERMS - 1):
        u = found[-1]
        found.append(0.5 * p**2 * (1 - p**2) * u.deriv() + 0.125 * ((1 - 5 * p**2) * u).integ())
    return tuple(tuple(float(c) for c in u.coef[k::2]) for k, u in enumerate(found))


_POLYNOMIALS = _polynomials()  # not on demand: the compiler would have to look into numpy


def _log_scaled_at_large_order(order: float, x: Tensor) -> Tensor:
    r"""\( \log[e^{-x} I_\mu(x)] \) by the uniform expansion."""
    root = torch.sqrt(order * order + x * x)
    squared, total = (order / root) ** 2, torch.zeros_like(x)
    for coefficients in reversed(_POLYNOMIALS):
        value = torch.zeros_like(x)
        for coefficient in reversed(coefficients):
            value = value * squared + coefficient
        total = total / root + value  # p / order = 1 / root
    exponent = order * order / (root + x) + order * torch.log(x / (order + root))  # root - x + ..., uncancelled
    return exponent - 0.5 * torch.log(2 * math.pi * root) + total.log()


def bessel(order: float, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""\( \log[e^{-x} I_\nu(x)] \), the ratio \( r = I_{\nu+1}(x)/I_\nu(x) \), and \( dr/dx \).

    Args:
        order: \( \nu \ge 0 \).
        x: positive numbers in float64, any shape.

    Returns:
        Three tensors of the shape of x, without gradients.
    """
    with torch.no_grad():
        steps = max(0, math.ceil(_START - order))
        top = order + steps
        log_scaled = _log_scaled_at_large_order(top, x)
        ratio = torch.exp(_log_scaled_at_large_order(top + 1, x) - log_scaled)
        slope = 1 - ratio**2 - (2 * top + 1) / x * ratio
        for k in range(steps):
            upper = top - k
            inverse = 2 * upper / x + ratio
            log_scaled = log_scaled + inverse.log()
            ratio = 1 / inverse
            slope = ratio**2 * (2 * upper / x**2 - slope)
        return log_scaled, ratio, slope


class _Normalizer(torch.autograd.Function):
    """The two functions of `normalizer`, whose derivatives are known: no graph through the recurrence."""

    @staticmethod
    def forward(ctx: Any, concentration: Tensor, dimension: int) -> Any:
        log_scaled, ratio, slope = bessel(dimension / 2 - 1, concentration)
        ctx.save_for_backward(ratio, slope)
        return log_scaled - (dimension / 2 - 1) * concentration.log(), ratio

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        of_log, of_ratio = gradients
        ratio, slope = ctx.saved_tensors
        return of_log * (ratio - 1) + of_ratio * slope, None


def normalizer(concentration: Tensor, dimension: int) -> tuple[Tensor, Tensor]:
    r"""\( \log[e^{-\kappa} I_\nu(\kappa) \kappa^{-\nu}] \) with \( \nu = D/2 - 1 \), and \( A_D(\kappa) =
    I_{D/2}(\kappa) / I_{D/2-1}(\kappa) \).

    Args:
        concentration: positive numbers in float64, any shape.
        dimension: D >= 2.

    Returns:
        Two tensors of the shape of `concentration`, differentiable once.
    """
    result: tuple[Tensor, Tensor] = _Normalizer.apply(concentration, dimension)  # type: ignore[no-untyped-call]
    return result
