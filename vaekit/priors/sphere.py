"""Uniform prior on the unit sphere."""

import torch
from torch import Tensor

from vaekit.distributions import UniformSphere as UniformSphereDistribution
from vaekit.printing import Printed
from vaekit.shapes import Shape, as_vector


class UniformSphere(Printed):
    r"""Uniform prior on the unit sphere.

    \( p(z) = 1/|S^{D-1}| \) on the unit sphere of \( R^D \): the prior of `posteriors.VonMisesFisher`.

    Use it with `posteriors.VonMisesFisher`, for codes that are directions.

    References:
        Davidson et al., "Hyperspherical variational auto-encoders", 2018, https://arxiv.org/abs/1804.00891.

    Args:
        event_shape: D >= 2, an int or a tuple of one.

    Raises:
        ShapeError: for an event of more than one dimension, or D < 2.

    Example:
        >>> UniformSphere(3)().event_shape
        torch.Size([3])
    """

    zeros: Tensor

    def __init__(self, event_shape: Shape) -> None:
        super().__init__()
        self.event_shape = as_vector("UniformSphere", event_shape, least=2)
        self.register_buffer("zeros", torch.zeros(self.event_shape), persistent=False)

    def forward(self) -> UniformSphereDistribution:
        """p(z), batch shape ()."""
        return UniformSphereDistribution(self.zeros)
