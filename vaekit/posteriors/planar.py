"""Planar flow posterior."""

from torch import Tensor

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import Flow, maps
from vaekit.posteriors.flow_parts import base_and_rest
from vaekit.shapes import Shape, num_dimensions


class Planar(ConditionalDistribution):
    r"""A diagonal normal pushed through K planar maps \( z + u(x) \tanh(w(x) \cdot z + b(x)) \).

    The network gives u, w and b of each map for each x, 2 D + K (2 D + 1) numbers in all; u is moved to where the map
    can be inverted. Each map bends q along one direction, so a few help in two or three dimensions and many are needed
    in more: `Sylvester` and `InverseAutoregressive` go further there. Density at foreign points by a search along w.
    Use it in two or three dimensions whose posterior is bent.

    References:
        Rezende & Mohamed, "Variational inference with normalizing flows", 2015, https://arxiv.org/abs/1505.05770.

    Args:
        event_shape: shape of z.
        num_flows: K.

    Raises:
        ConfigError: for K < 1.

    Example:
        >>> import torch
        >>> head = Planar(2, num_flows=4)
        >>> head.param_shape, head(torch.zeros(3, 24)).rsample().shape
        ((24,), torch.Size([3, 2]))
    """

    def __init__(self, event_shape: Shape, num_flows: int = 8) -> None:
        size = num_dimensions("Planar", event_shape, num_flows, least=1, instead="DiagonalNormal")
        super().__init__(event_shape, param_shape=(2 * size + num_flows * (2 * size + 1),))
        self.num_flows = num_flows
        self._sizes = [size, size, 1]

    def forward(self, params: Tensor) -> Flow:
        """(mean, log-variance, and u, w, b of each map) of shape (..., P) to q(z|x)."""
        base, rest = base_and_rest(params, self.event_shape)
        steps = []
        for step in rest.chunk(self.num_flows, -1):
            u, w, b = step.split(self._sizes, -1)
            steps.append(maps.Planar(u, w, b.squeeze(-1)))
        return Flow(base, steps)
