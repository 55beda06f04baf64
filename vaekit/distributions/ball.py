r"""The Poincaré ball: its geometry, and the normal distribution wrapped onto it.

Tangent vectors are in orthonormal coordinates: their Euclidean length is their length in the metric. All functions
expect float64: next to the boundary, where distances grow without bound, \( 1 - c |z|^2 \) needs the digits.

References:
    Ganea et al., "Hyperbolic neural networks", 2018, https://arxiv.org/abs/1805.09112, section 2.
    Mathieu et al., "Continuous hierarchical representations with Poincare variational auto-encoders", 2019,
    https://arxiv.org/abs/1901.06033.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import constraints

from vaekit.distributions.base import Base
from vaekit.distributions.special import HALF_LOG_TWO_PI
from vaekit.distributions.support import PoincareBall
from vaekit.errors import ConfigError

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


class WrappedNormal(Base):
    r"""\( z = \exp_\mu(v), v \sim N(0, \mathrm{diag}\,\sigma^2) \), in the Poincare ball of curvature -c.

    \[ \log p(z) = \log N(v; 0, \mathrm{diag}\,\sigma^2) - (D - 1) \log \frac{\sinh \sqrt c |v|}{\sqrt c |v|},
       \qquad v = \exp_\mu^{-1}(z), \]
    a density with respect to the Riemannian measure of the ball, \( (2/(1 - c|z|^2))^D dz \). Lengths of v are
    distances in the ball. The inside works in float64; draws are held away from the boundary by 4 rounding errors of
    the dtype, which is 15 / sqrt(c) from the centre in float32 and 35 / sqrt(c) in float64. The norm of v is about
    sqrt(D) sigma: many dimensions with a large scale reach that.

    References:
        Mathieu et al., "Continuous hierarchical representations with Poincare variational auto-encoders", 2019,
        https://arxiv.org/abs/1901.06033.
        Nagano et al., "A wrapped normal distribution on hyperbolic space for gradient-based learning", 2019,
        https://arxiv.org/abs/1902.02992.

    Args:
        loc: \( \mu \), a point of the ball, shape (*batch, D).
        scale: \( \sigma > 0 \), broadcastable with `loc`.
        curvature: c > 0.

    Example:
        >>> import torch
        >>> d = WrappedNormal(torch.zeros(2), torch.ones(2))
        >>> d.log_prob(torch.zeros(2))  # -log 2 pi
        tensor(-1.8379)
    """

    parameters = ("loc", "scale")
    arg_constraints: dict[str, constraints.Constraint] = {  # noqa: RUF012  (the name torch prescribes)
        "loc": constraints.real_vector,
        "scale": constraints.independent(constraints.positive, 1),
    }
    has_rsample = True
    loc: Tensor
    scale: Tensor

    def __init__(self, loc: Tensor, scale: Tensor, curvature: float = 1.0) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        self.curvature = curvature
        super().__init__(self.loc.shape[:-1], self.loc.shape[-1:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """The open ball."""
        return PoincareBall(self.curvature)

    @property
    def centre(self) -> Tensor:
        r"""\( \mu \), the mean in the ball's own distance, shape (*batch, D)."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        r"""\( \mu \), shape (*batch, D)."""
        return self.loc

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws with gradients, shape (*sample_shape, *batch, D)."""
        shape = self._extended_shape(torch.Size(sample_shape))
        v = self.scale * torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        z = exp_map(self.loc.double(), v.double(), self.curvature)
        return inside(z, self.curvature, self.loc.dtype).to(self.loc.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(z) in nats with respect to the Riemannian measure, shape (*batch)."""
        v, scale = log_map(self.loc.double(), value.double(), self.curvature), self.scale.double()
        normal = -0.5 * (v / scale).square() - scale.log() - HALF_LOG_TWO_PI
        result: Tensor = (normal.sum(-1) - log_volume(v, self.curvature)).to(self.loc.dtype)
        return result


def check_curvature(curvature: float) -> float:
    """The curvature as a float.

    Raises:
        ConfigError: unless it is positive and finite.
    """
    if not 0 < curvature < math.inf:
        raise ConfigError(f"the curvature of the ball is given by c > 0, for -c; got {curvature}")
    return float(curvature)
