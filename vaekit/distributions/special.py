r"""Special functions that torch lacks, or computes with too few digits: Stirling's remainder, deviances and Bessel
functions.

Far up in the order, where Olver's uniform expansion is exact to rounding whatever x, the recurrence
\( I_{\mu-1}(x) = I_{\mu+1}(x) + (2\mu/x) I_\mu(x) \) starts. In terms of ratios it is a sum of positive
numbers, so that nothing is lost on the way down.

References:
    NIST Digital Library of Mathematical Functions, https://dlmf.nist.gov/10.41, equations 10.41.3 and 10.41.10, and
    https://dlmf.nist.gov/10.29, equation 10.29.1.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vaekit.traits import Kept

_LARGE = 8.0  # from here on six terms of the series are exact to 1e-14, and three to 3e-10
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
    series = polynomial(_SERIES if z.dtype == torch.float64 else _SERIES[:3], inverse**2)
    small = z.clamp(max=_LARGE)
    direct = torch.lgamma(small) - ((small - 0.5) * small.log() - small + HALF_LOG_TWO_PI)
    return torch.where(is_large, series * inverse, direct)


def polynomial(coefficients: Sequence[float], x: Tensor) -> Tensor:
    """c_0 + c_1 x + c_2 x^2 + ..., of two coefficients at least."""
    *others, second, last = coefficients
    value = last * x + second
    for coefficient in reversed(others):
        value = value * x + coefficient
    return value


_NEAR = 0.1  # |e| up to which the series below holds: |s| is at most 1/19
_ODD = (1 / 3, 1 / 5, 1 / 7, 1 / 9, 1 / 11, 1 / 13)  # six terms are exact there to 1e-17, three to 1e-9
_LOW = -0.618  # below, 1 + e loses digits; a number that no count and mean give exactly


def _deviance(e: Tensor, log_ratio: Tensor, fine: bool) -> Tensor:
    # log(1 + e) in parts, each of them constant outside its range: cheaper than a choice between formulas.
    above = e.clamp(min=_LOW)
    below = (log_ratio - math.log1p(_LOW)).clamp(max=0)
    if not fine:
        return e - torch.log1p(above) - below
    near = e.clamp(-_NEAR, _NEAR)
    s = near / (2 + near)
    square = s * s
    series = polynomial(_ODD if e.dtype == torch.float64 else _ODD[:3], square)
    return s * (near - 2 * square * series) + (e - near - torch.log1p((above - near) / (1 + near))) - below


class _Deviance(torch.autograd.Function):
    """`deviance` with its gradient e / (1 + e) in one piece, which a difference would lose to rounding."""

    generate_vmap_rule = True

    @staticmethod
    def forward(e: Tensor, log_ratio: Tensor, fine: bool) -> Tensor:
        return _deviance(e, log_ratio, fine)

    @staticmethod
    def setup_context(ctx: Kept, inputs: tuple[Tensor, Tensor, bool], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Kept, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        (e,) = ctx.saved_tensors
        above, below = e.clamp(min=_LOW), (e < _LOW).to(e.dtype)
        return torch.lerp(gradient * (above / (1 + above)), gradient, below), -gradient * below, None


def deviance(e: Tensor, log_ratio: Tensor, fine: bool = False) -> Tensor:
    r"""\( h(e) = e - \log(1 + e) \ge 0 \), of which the log-probabilities of counts and proportions are made.

    That of a count x is a difference of terms of size x. Written as \( -x\,h(\mu/x - 1) \) it is one of terms of size
    \( x - \mu \), which are hardly larger than the result; the gradient \( e/(1 + e) \) is exact.

    References:
        Loader, "Fast and accurate computation of binomial probabilities", 2000,
        https://www.r-project.org/doc/reports/CLoader-dbinom-2002.pdf, section 3, where x h is called bd0.

    Args:
        e: numbers of at least -1, any shape.
        log_ratio: log(1 + e) from another formula, of the same shape, which takes over where 1 + e loses its digits.
        fine: make h itself, not only such products, exact near 0, by the series \( h = s\,[e - 2 s^2 (\tfrac13 +
            \tfrac15 s^2 + \dots)] \) in \( s = e/(2 + e) \), which takes three times as long.

    Example:
        >>> import torch
        >>> deviance(torch.tensor([1e-4, -1.0]), torch.tensor([1e-4, -50.0]), fine=True)
        tensor([4.9997e-09, 4.9000e+01])
    """
    if torch.compiler.is_compiling():  # the compiler fuses the plain formula
        return _deviance(e, log_ratio, fine)
    result: Tensor = _Deviance.apply(e, log_ratio, fine)  # type: ignore[no-untyped-call]
    return result


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
    def forward(ctx: Kept, concentration: Tensor, dimension: int) -> tuple[Tensor, Tensor]:
        log_scaled, ratio, slope = bessel(dimension / 2 - 1, concentration)
        ctx.save_for_backward(ratio, slope)
        return log_scaled - (dimension / 2 - 1) * concentration.log(), ratio

    @staticmethod
    @once_differentiable
    def backward(ctx: Kept, *gradients: Tensor) -> tuple[Tensor | None, ...]:
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
