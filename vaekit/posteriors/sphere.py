"""Posterior on the unit sphere."""

import torch.nn.functional as F
from torch import Tensor

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import VonMisesFisher as VonMisesFisherDistribution
from vaekit.shapes import Shape, as_vector

_LEAST = 0.01  # concentration below which the distribution is uniform for every purpose
_PUSH = 1e-3  # keeps the direction of a layer that starts at 0 defined; the layer's bias absorbs it


class VonMisesFisher(ConditionalDistribution):
    r"""Posterior on the unit sphere.

    \( q(z|x) = C_D(\kappa(x)) e^{\kappa(x) \mu(x)^T z} \) on the unit sphere of \( R^D \), with `UniformSphere`.

    D + 1 parameters: a direction, which is normalised, and \( \kappa = 0.01 + \log(1 + e^v) \). Use it for data whose
    codes are directions, in few dimensions (D up to about 20): a normal pulls codes to the origin, the uniform prior
    pulls nowhere. One concentration serves all directions, which is too little in many dimensions.

    References:
        Davidson et al., "Hyperspherical variational auto-encoders", 2018, https://arxiv.org/abs/1804.00891.

    Args:
        event_shape: D >= 2, an int or a tuple of one: the sphere itself has D - 1 dimensions.

    Raises:
        ShapeError: for an event of more than one dimension, or D < 2.
    """

    can_compile = False  # how often its sampler rejects is no graph

    def __init__(self, event_shape: Shape) -> None:
        shape = as_vector("VonMisesFisher", event_shape, least=2)
        super().__init__(shape, param_shape=(shape[0] + 1,))

    def forward(self, params: Tensor) -> VonMisesFisherDistribution:
        """(direction, v) of shape (..., D + 1) to q(z|x)."""
        direction, raw = params[..., :-1], params[..., -1]
        direction = direction + F.pad(params.new_full((1,), _PUSH), (0, direction.shape[-1] - 1))
        return VonMisesFisherDistribution(F.normalize(direction, dim=-1), F.softplus(raw) + _LEAST)
