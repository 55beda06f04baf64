r"""Geometry of the Poincare ball \( \{ z \in R^D : c |z|^2 < 1 \} \), whose curvature is -c.

Tangent vectors are in orthonormal coordinates: their Euclidean length is their length in the metric. All functions
expect float64: next to the boundary, where distances grow without bound, \( 1 - c |z|^2 \) needs the digits.

References:
    Ganea et al., "Hyperbolic neural networks", 2018, https://arxiv.org/abs/1805.09112, section 2.
    Mathieu et al., "Continuous hierarchical representations with Poincare variational auto-encoders", 2019,
    https://arxiv.org/abs/1901.06033.
"""

import math

import torch
from torch import Tensor

_TINY = 1e-200  # squared lengths below it count as 0, and have a gradient of 0


def _length(v: Tensor) -> Tensor:
    """|v| with a finite gradient at 0, shape (..., 1)."""
    return (v.square().sum(-1, keepdim=True) + _TINY).sqrt()


def _gap(z: Tensor, curvature: float) -> Tensor:
    """1 - c |z|^2, shape (..., 1)."""
    return 1 - curvature * z.square().sum(-1, keepdim=True)


def inside(z: Tensor, curvature: float, dtype: torch.dtype) -> Tensor:
    """z pulled back to where `dtype` still tells it from the boundary."""
    largest = (1 - 4 * torch.finfo(dtype).eps) / math.sqrt(curvature)
    return z * (largest / _length(z)).clamp(max=1)


def exp_map(loc: Tensor, v: Tensor, curvature: float) -> Tensor:
    r"""\( \exp_\mu(v) = \mu \oplus \tanh(\sqrt c |v|/2) \frac{v}{\sqrt c |v|} \): the point at distance |v| of loc."""
    root, length = math.sqrt(curvature), _length(v)
    y = torch.tanh(0.5 * root * length) / (root * length) * v
    inner = 2 * curvature * (loc * y).sum(-1, keepdim=True)
    squared_loc, squared_y = (curvature * part.square().sum(-1, keepdim=True) for part in (loc, y))
    return ((1 + inner + squared_y) * loc + (1 - squared_loc) * y) / (1 + inner + squared_loc * squared_y)


def log_map(loc: Tensor, z: Tensor, curvature: float) -> Tensor:
    r"""The inverse of `exp_map` in v, through \( d = \frac{2}{\sqrt c} \mathrm{asinh} \frac{\sqrt c |z - \mu|}
    {\sqrt{(1 - c|\mu|^2)(1 - c|z|^2)}} \).
    """
    root, step = math.sqrt(curvature), z - loc
    length, gap = _length(step), _gap(loc, curvature)
    distance = 2 / root * torch.asinh(root * length / (gap * _gap(z, curvature)).sqrt())
    # The direction of (-loc) + z: its numerator in terms of z - loc, where nothing cancels, and that one's length over
    # |z - loc|, which stays away from 0 where both vanish.
    towards = gap * step - curvature * length**2 * loc
    inner, squared = (step * loc).sum(-1, keepdim=True), loc.square().sum(-1, keepdim=True)
    norm = (gap**2 - 2 * curvature * gap * inner + (curvature * length) ** 2 * squared).sqrt()
    return distance / length * towards / norm


def log_volume(v: Tensor, curvature: float) -> Tensor:
    r"""\( (D - 1) \log\frac{\sinh \sqrt c |v|}{\sqrt c |v|} \): log of the Riemannian volume of the image of a unit
    volume of tangent vectors around v, shape (...).
    """
    r = math.sqrt(curvature) * _length(v).squeeze(-1)
    is_small = r < 1e-2
    safe = torch.where(is_small, torch.ones_like(r), r)
    large = safe + torch.log(-torch.expm1(-2 * safe) / (2 * safe))
    return (v.shape[-1] - 1) * torch.where(is_small, r**2 / 6 - r**4 / 180, large)


def log_conformal(z: Tensor, curvature: float) -> Tensor:
    r"""\( \log \lambda_z = \log \frac{2}{1 - c |z|^2} \), shape (...); Riemannian volume is \( \lambda_z^D \) dz."""
    return math.log(2) - _gap(z, curvature).squeeze(-1).log()
