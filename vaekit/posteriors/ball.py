"""Posterior on the Poincare ball."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import WrappedNormal as WrappedNormalDistribution
from vaekit.distributions import ball
from vaekit.distributions.ball import check_curvature
from vaekit.shapes import Shape, as_vector


class WrappedNormal(ConditionalDistribution):
    r"""Posterior on the Poincare ball.

    \( z = \exp_{\mu(x)}(v), v \sim N(0, \mathrm{diag}\,\sigma^2(x)) \), in the Poincare ball of curvature -c.

    The network gives a tangent vector at the centre, whose image is \( \mu \), and the raw scale, \( \sigma =
    \log(1 + e^v) \). Use it, with `priors.WrappedNormal` of the same curvature, for data that branch like a tree: the
    volume of the ball grows exponentially with the distance from its centre. It suits few dimensions, 2 to 20.

    References:
        Mathieu et al., "Continuous hierarchical representations with Poincare variational auto-encoders", 2019,
        https://arxiv.org/abs/1901.06033.
        Nagano et al., "A wrapped normal distribution on hyperbolic space for gradient-based learning", 2019,
        https://arxiv.org/abs/1902.02992.

    Args:
        event_shape: D, an int or a tuple of one.
        curvature: c > 0; the ball has radius 1/sqrt(c).

    Raises:
        ShapeError: for an event of more than one dimension.
        ConfigError: for a curvature that is not positive.
    """

    def __init__(self, event_shape: Shape, curvature: float = 1.0) -> None:
        super().__init__(as_vector("WrappedNormal", event_shape), num_params=2)
        self.curvature = check_curvature(curvature)

    def forward(self, params: Tensor) -> WrappedNormalDistribution:
        """(tangent vector of the mean, raw scale) of shape (..., 2, D) to q(z|x).

        The scale stays above 8 rounding errors of the mean, in the ball's own distance, which grow towards the rim.
        """
        tangent, raw = self.unbind(params)
        tangent = tangent.double()
        loc = ball.exp_map(tangent.new_zeros(self.event_shape), tangent, self.curvature)
        loc = ball.inside(loc, self.curvature, params.dtype).to(params.dtype)
        least = 8 * torch.finfo(loc.dtype).eps * ball.log_conformal(loc.detach().double(), self.curvature).exp()
        scale = torch.maximum(F.softplus(raw).clamp(min=1e-6), least.unsqueeze(-1).to(raw.dtype))
        return WrappedNormalDistribution(loc, scale, self.curvature)
