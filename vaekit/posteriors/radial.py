"""Radial flow posterior."""

from torch import Tensor

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import Flow, maps
from vaekit.distributions.links import above_minus_one, positive_of
from vaekit.posteriors.flow_parts import base_and_rest
from vaekit.shapes import Shape, num_dimensions


class Radial(ConditionalDistribution):
    r"""A diagonal normal pushed through K radial maps \( z + \frac{\beta}{\alpha + |z - z_0|}(z - z_0) \).

    The network gives \( z_0, \alpha, \beta \) of each map for each x, 2 D + K (D + 2) numbers in all, with
    \( \alpha = \log(1 + e^{a + c}) \) and \( \beta = \alpha (\log(1 + e^{b + c}) - 1) \); raw numbers of 0 give
    \( \alpha = 1, \beta = 0 \), the identity. Each map makes a ball around a point denser or thinner; in many
    dimensions balls hold little, so use it in two or three, beside `Planar`. Density at foreign points in closed form.

    References:
        Rezende & Mohamed, "Variational inference with normalizing flows", 2015, https://arxiv.org/abs/1505.05770,
        equation 14.

    Args:
        event_shape: shape of z.
        num_flows: K.

    Raises:
        ConfigError: for K < 1.

    Example:
        >>> import torch
        >>> head = Radial(2, num_flows=4)
        >>> head.param_shape, head(torch.zeros(3, 20)).rsample().shape
        ((20,), torch.Size([3, 2]))
    """

    def __init__(self, event_shape: Shape, num_flows: int = 8) -> None:
        size = num_dimensions("Radial", event_shape, num_flows, least=1, instead="DiagonalNormal")
        super().__init__(event_shape, param_shape=(2 * size + num_flows * (size + 2),))
        self.num_flows = num_flows
        self._sizes = [size, 1, 1]

    def forward(self, params: Tensor) -> Flow:
        """(mean, log-variance, and z_0, a, b of each map) of shape (..., P) to q(z|x)."""
        base, rest = base_and_rest(params, self.event_shape)
        steps = []
        for step in rest.chunk(self.num_flows, -1):
            center, a, b = step.split(self._sizes, -1)
            steps.append(maps.Radial(center, positive_of(a.squeeze(-1)), above_minus_one(b.squeeze(-1))))
        return Flow(base, steps)
