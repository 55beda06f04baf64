"""Discretised logistic likelihood of 8-bit images."""

import torch.nn.functional as F
from torch import Tensor

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import DiscretizedLogistic as DiscretizedLogisticDistribution
from vaekit.distributions import Product
from vaekit.distributions.product import Missing
from vaekit.errors import ConfigError
from vaekit.shapes import Shape

_INITIAL = -1.0  # softplus(-1) = 0.31: a third of the half-range, so that no level starts with a mass near zero


def level_scale(raw: Tensor, min_scale: float) -> Tensor:
    """The scale of a logistic density of levels that span [-1, 1], from the network's value."""
    return min_scale + F.softplus(raw + _INITIAL)


class DiscretizedLogistic(ConditionalDistribution):
    """A logistic density cut at the integers 0..L-1: the mass of 8-bit images, comparable in bits per dimension.

    Use it for grey or colour images as they are stored; the encoder may see them rescaled (`networks.RescaleInput`).

    References:
        Kingma et al., "Improved variational inference with inverse autoregressive flow", 2016,
        https://arxiv.org/abs/1606.04934.

    Args:
        event_shape: shape of x.
        num_levels: L, 256 for 8-bit images.
        min_scale: floor of the scale, where the L levels span [-1, 1].
        missing: "observed-only" leaves NaN elements of x out of log p.

    Raises:
        ConfigError: if L < 2 or the floor is not positive.
    """

    min_scale: float
    levels_argument = "num_levels"

    def __init__(
        self, event_shape: Shape, num_levels: int = 256, min_scale: float = 1e-3, missing: Missing = "error"
    ) -> None:
        if num_levels < 2:
            raise ConfigError(f"DiscretizedLogistic expects at least 2 levels; got {num_levels}")
        if min_scale <= 0:
            raise ConfigError(f"min_scale is positive; got {min_scale}")
        super().__init__(event_shape, num_params=2)
        self.num_levels, self.min_scale, self.missing = num_levels, float(min_scale), missing

    def forward(self, params: Tensor) -> Product:
        """(location, raw scale) of shape (..., 2, *event) to p(x|z)."""
        loc, raw = self.unbind(params)
        scale = level_scale(raw, self.min_scale)
        base = DiscretizedLogisticDistribution(loc, scale, self.num_levels, validate_args=False)
        return Product(base, len(self.event_shape), missing=self.missing)
