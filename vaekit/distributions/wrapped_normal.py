"""The wrapped normal distribution on the Poincare ball."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from vaekit.distributions import poincare
from vaekit.distributions.base import Base
from vaekit.distributions.stirling import HALF_LOG_TWO_PI
from vaekit.distributions.support import PoincareBall
from vaekit.errors import ConfigError


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

    def __init__(self, loc: Tensor, scale: Tensor, curvature: float = 1.0) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        self.curvature = curvature
        super().__init__(self.loc.shape[:-1], self.loc.shape[-1:], validate_args=False)

    @property
    def support(self) -> Any:
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

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws with gradients, shape (*sample_shape, *batch, D)."""
        shape = self._extended_shape(torch.Size(sample_shape))
        v = self.scale * torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        z = poincare.exp_map(self.loc.double(), v.double(), self.curvature)
        return poincare.inside(z, self.curvature, self.loc.dtype).to(self.loc.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(z) in nats with respect to the Riemannian measure, shape (*batch)."""
        v, scale = poincare.log_map(self.loc.double(), value.double(), self.curvature), self.scale.double()
        normal = -0.5 * (v / scale).square() - scale.log() - HALF_LOG_TWO_PI
        return (normal.sum(-1) - poincare.log_volume(v, self.curvature)).to(self.loc.dtype)


def check_curvature(curvature: float) -> float:
    """The curvature as a float.

    Raises:
        ConfigError: unless it is positive and finite.
    """
    if not 0 < curvature < math.inf:
        raise ConfigError(f"the curvature of the ball is given by c > 0, for -c; got {curvature}")
    return float(curvature)
