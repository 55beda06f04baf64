"""Wrapped normal prior on the Poincare ball."""

import torch
from torch import Tensor

from vaekit.distributions import WrappedNormal as WrappedNormalDistribution
from vaekit.distributions.ball import check_curvature
from vaekit.printing import Printed
from vaekit.shapes import Shape, as_vector


class WrappedNormal(Printed):
    r"""Wrapped normal prior on the Poincare ball.

    \( z = \exp_0(v), v \sim N(0, I) \), in the Poincare ball of curvature -c: the prior of
    `posteriors.WrappedNormal`.

    Use it with `posteriors.WrappedNormal` of the same curvature, for data that branch like a tree.

    References:
        Mathieu et al., "Continuous hierarchical representations with Poincare variational auto-encoders", 2019,
        https://arxiv.org/abs/1901.06033.

    Args:
        event_shape: D, an int or a tuple of one.
        curvature: c > 0, that of the posterior.

    Raises:
        ShapeError: for an event of more than one dimension.
        ConfigError: for a curvature that is not positive.

    Example:
        >>> WrappedNormal(5, curvature=0.5)().event_shape
        torch.Size([5])
    """

    zeros: Tensor
    ones: Tensor

    def __init__(self, event_shape: Shape, curvature: float = 1.0) -> None:
        super().__init__()
        self.event_shape = as_vector("WrappedNormal", event_shape)
        self.curvature = check_curvature(curvature)
        self.register_buffer("zeros", torch.zeros(self.event_shape), persistent=False)
        self.register_buffer("ones", torch.ones(self.event_shape), persistent=False)

    def forward(self) -> WrappedNormalDistribution:
        """p(z), batch shape ()."""
        return WrappedNormalDistribution(self.zeros, self.ones, self.curvature)
