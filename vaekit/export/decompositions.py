"""Operations that ONNX lacks, by operations that it has."""

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaekit.distributions.special import polynomial

_SHIFT = 8  # below this, the recurrence leads up to where the asymptotic series is exact


def lgamma(x: Tensor) -> Tensor:
    r"""\( \log \Gamma(x) \) for x > 0: Stirling's series at x + 8, and the recurrence back, in float64."""
    wide = x.double()
    product = wide
    for k in range(1, _SHIFT):
        product = product * (wide + k)
    y = wide + _SHIFT
    square = 1 / (y * y)
    series = (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188)))) / y
    result = (y - 0.5) * y.log() - y + 0.5 * math.log(2 * math.pi) + series - product.log()
    return result.to(x.dtype)


def digamma(x: Tensor) -> Tensor:
    r"""\( \psi(x) \) for x > 0, likewise."""
    wide = x.double()
    back = sum((1 / (wide + k) for k in range(_SHIFT)), torch.zeros_like(wide))
    y = wide + _SHIFT
    square = 1 / (y * y)
    series = square * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square * (1 / 240 - square / 132))))
    return (y.log() - 0.5 / y - series - back).to(x.dtype)


def nextafter(x: Tensor, towards: Tensor) -> Tensor:
    """The next number towards 0, which is where vaekit looks for one."""
    return x * (1 - torch.finfo(x.dtype).eps / 2)


def _log_scaled_erfc(t: float) -> float:
    r"""\( \log[e^{x^2} \mathrm{erfc}(x) / t] \) at \( x = 2/t - 2 \), by the series in 1/x far out."""
    x = 2 / t - 2
    if x < _FAR:
        return math.log(math.erfc(x)) + x * x - math.log(t)
    term = total = 1.0
    for n in range(1, 21):
        term *= -(2 * n - 1) / (2 * x * x)
        total += term
    return math.log(total / (x * math.sqrt(math.pi) * t))


_FAR = 8.0  # from here on 20 terms of the series are exact to rounding
_DEGREE = 28


@cache
def _polynomial() -> tuple[float, ...]:
    """Coefficients of a polynomial in s = 2t - 1 that is `_log_scaled_erfc` to 1e-13."""

    def at(s: Any) -> Any:
        return np.array([_log_scaled_erfc(t) for t in (s + 1) / 2])

    at_nodes = np.polynomial.chebyshev.chebinterpolate(at, _DEGREE)
    return tuple(np.polynomial.chebyshev.cheb2poly(at_nodes).tolist())


def _log_erfc(x: Tensor) -> Tensor:
    """log erfc(x) of x >= 0 in float64."""
    t = 2 / (2 + x)
    return t.log() + polynomial(_polynomial(), 2 * t - 1) - x * x


def erfc(x: Tensor) -> Any:
    """The complement of the error function, which onnxruntime has in float32 alone."""
    if x.dtype != torch.float64:
        return NotImplemented
    of_size = _log_erfc(x.abs()).exp()
    return torch.where(x < 0, 2 - of_size, of_size)


def erf(x: Tensor) -> Any:
    """The error function, likewise."""
    if x.dtype != torch.float64:
        return NotImplemented
    return torch.sign(x) * (1 - _log_erfc(x.abs()).exp())


def log_ndtr(x: Tensor) -> Tensor:
    r"""\( \log \Phi(x) \), exact in the lower tail, too."""
    wide = x.double()
    log_tail = _log_erfc(wide.abs() * math.sqrt(0.5)) - math.log(2)
    return torch.where(wide < 0, log_tail, torch.log1p(-log_tail.exp())).to(x.dtype)


def asinh(x: Tensor) -> Tensor:
    """The inverse of sinh, which onnxruntime has in float32 alone."""
    size = x.abs()
    return torch.sign(x) * torch.log1p(size + size * size / (1 + torch.sqrt(1 + size * size)))


def acosh(x: Tensor) -> Tensor:
    """The inverse of cosh, likewise."""
    return torch.log(x + torch.sqrt((x - 1) * (x + 1)))


def atanh(x: Tensor) -> Tensor:
    """The inverse of tanh, likewise."""
    return 0.5 * (torch.log1p(x) - torch.log1p(-x))


def cholesky(matrix: Tensor, *, upper: bool = False, check_errors: bool = False) -> tuple[Tensor, Tensor]:
    """The Cholesky factor of matrices (..., n, n), column by column, and 0 for each, or 1 where it is no number."""
    size = matrix.shape[-1]
    below = torch.tril(torch.ones(size, size, dtype=matrix.dtype))
    factor: list[Tensor] = []
    rest = matrix
    for j in range(size):
        column = rest[..., :, j] * below[:, j] / torch.sqrt(rest[..., j, j]).unsqueeze(-1)
        factor.append(column)
        rest = rest - column.unsqueeze(-1) * column.unsqueeze(-2)
    result = torch.stack(factor, -1)
    info = torch.isnan(result.sum((-1, -2))).to(torch.int32)
    return (result.mT if upper else result), info


def solve_triangular(a: Tensor, b: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Tensor:
    """X with A X = B for triangular A (..., n, n), row by row."""
    if not left:
        return solve_triangular(a.mT, b.mT, upper=not upper, unitriangular=unitriangular).mT
    size = a.shape[-1]
    rows: dict[int, Tensor] = {}
    for i in reversed(range(size)) if upper else range(size):
        value = b[..., i, :]
        for j, found in rows.items():
            value = value - a[..., i, j].unsqueeze(-1) * found
        rows[i] = value if unitriangular else value / a[..., i, i].unsqueeze(-1)
    return torch.stack([rows[i] for i in range(size)], -2)


def cholesky_solve(b: Tensor, factor: Tensor, upper: bool = False) -> Tensor:
    """X with L L' X = B."""
    lower = factor.mT if upper else factor
    return solve_triangular(lower.mT, solve_triangular(lower, b, upper=False), upper=True)


def where(condition: Tensor, first: Tensor, second: Tensor) -> Any:
    """A choice between truth values by logic: onnxruntime has one between numbers alone."""
    if first.dtype != torch.bool or second.dtype != torch.bool:
        return NotImplemented
    return (condition & first) | (~condition & second)


def searchsorted(
    reached: Tensor, values: Tensor, *, out_int32: bool = False, right: bool = False, side: str | None = None, **_: Any
) -> Tensor:
    """How many entries of the last dimension lie below each value; `right` counts equal ones, too."""
    ends, wanted = reached.unsqueeze(-2), values.unsqueeze(-1)
    below = ends <= wanted if right or side == "right" else ends < wanted
    return below.sum(-1, dtype=torch.int32 if out_int32 else torch.int64)


def table() -> Any:
    """What `ExportedProgram.run_decompositions` takes: torch's own table, and the operations above."""
    aten, found = torch.ops.aten, torch.export.default_decompositions()
    found[aten.lgamma.default] = lgamma
    found[aten.digamma.default] = digamma
    found[aten.nextafter.default] = nextafter
    found[aten.special_log_ndtr.default] = log_ndtr
    found[aten.searchsorted.Tensor] = searchsorted
    found[aten.erf.default] = erf
    found[aten.erfc.default] = erfc
    found[aten.where.self] = where
    found[aten.asinh.default] = asinh
    found[aten.acosh.default] = acosh
    found[aten.atanh.default] = atanh
    found[aten.linalg_cholesky_ex.default] = cholesky
    found[aten.linalg_solve_triangular.default] = solve_triangular
    found[aten.cholesky_solve.default] = cholesky_solve
    return found
