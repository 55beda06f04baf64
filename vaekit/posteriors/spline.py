"""Neural spline flow posterior."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import Flow, Product, UnitNormal, maps
from vaekit.distributions.maps.elementwise import spline_network
from vaekit.errors import ConfigError
from vaekit.posteriors.flow_parts import base_and_rest
from vaekit.shapes import Shape, as_shape, num_dimensions


class Spline(ConditionalDistribution):
    r"""\( z = \mu(x) + \sigma(x) f(\epsilon; h(x)) \): neural splines bend the noise, then location and scale.

    f is a chain of K couplings by monotone rational-quadratic splines on [-5, 5], which act on noise of unit scale,
    wherever q lies. The most flexible posterior here, several modes included, and fast both ways; each draw costs K
    small networks. The splines come from zuko: `pip install vaekit[flows]`. Use it in a few dimensions where p(z|x) has
    several modes or hard edges.

    References:
        Durkan et al., "Neural spline flows", 2019, https://arxiv.org/abs/1906.04032.

    Args:
        event_shape: shape of z, at least two elements.
        num_flows: K.
        num_bins: pieces of each spline.
        hidden: widths of the hidden layers of each step's network.
        context: number of entries of h(x).

    Raises:
        ConfigError: for K < 1, an empty context or fewer than two dimensions, and where zuko is not installed.
    """

    def __init__(
        self,
        event_shape: Shape,
        num_flows: int = 2,
        num_bins: int = 8,
        hidden: Sequence[int] = (64, 64),
        context: int = 32,
    ) -> None:
        size = num_dimensions("Spline", event_shape, num_flows, instead="DiagonalNormal")
        if context < 1 or num_bins < 2:
            raise ConfigError(f"Spline expects context >= 1 and num_bins >= 2; got {context} and {num_bins}")
        super().__init__(event_shape, param_shape=(2 * size + context,))
        self.num_flows, self.num_bins, self.context = num_flows, num_bins, context
        self.hidden = as_shape(tuple(hidden), "hidden")
        self.splines = spline_network(size, num_flows, num_bins, self.hidden, context)

    def forward(self, params: Tensor) -> Flow:
        """(mean, log-variance, h) of shape (..., 2 D + context) to q(z|x)."""
        normal, context = base_and_rest(params, self.event_shape)
        loc, scale = normal.base.loc, normal.base.scale  # type: ignore[attr-defined]
        ndims = len(self.event_shape)
        base = Product(UnitNormal(torch.zeros_like(loc), torch.ones_like(scale), validate_args=False), ndims)
        last = maps.Affine(loc.flatten(-ndims), scale.flatten(-ndims))
        return Flow(base, [maps.TorchTransform(self.splines(context)), last])
