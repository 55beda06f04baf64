"""Inverse autoregressive flow posterior."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import Flow, maps
from vaekit.errors import ConfigError
from vaekit.networks import MaskedMLP
from vaekit.posteriors.flow_parts import base_and_rest
from vaekit.shapes import Shape, as_shape, num_dimensions


class InverseAutoregressive(ConditionalDistribution):
    r"""A diagonal normal pushed through K gated steps \( z' = g \odot z + (1 - g) \odot m \) with
    \( (m, s)_i \) from \( z_1 \dots z_{i-1} \) and \( h(x) \), \( g = \sigma(s + 2) \) (IAF).

    Each step's m and s come from a masked network of its own, and the order of the dimensions turns round between
    steps. The encoder gives mean and log-variance of the base and a context h(x). Draws with their density cost one
    pass of each network; the density of a foreign point, which `STL` and `DReG` ask for, costs D passes. The steps
    start near the identity, so that training starts as with `DiagonalNormal`. Use it in many dimensions, and give it
    more updates than a diagonal posterior needs.

    References:
        Kingma et al., "Improved variational inference with inverse autoregressive flow", 2016,
        https://arxiv.org/abs/1606.04934, algorithm 1.

    Args:
        event_shape: shape of z, at least two elements.
        num_flows: K.
        hidden: widths of the hidden layers of each masked network.
        context: number of entries of h(x).

    Raises:
        ConfigError: for K < 1, an empty context, no hidden layer or one narrower than D, or fewer than two dimensions.

    Example:
        >>> import torch
        >>> head = InverseAutoregressive(3, hidden=(8,), context=4)
        >>> head.param_shape, head(torch.zeros(5, 10)).rsample().shape
        ((10,), torch.Size([5, 3]))
    """

    def __init__(
        self, event_shape: Shape, num_flows: int = 2, hidden: Sequence[int] = (128,), context: int = 32
    ) -> None:
        size = num_dimensions("InverseAutoregressive", event_shape, num_flows, instead="DiagonalNormal")
        if context < 1:
            raise ConfigError(f"InverseAutoregressive expects a context of at least 1 entry; got {context}")
        super().__init__(event_shape, param_shape=(2 * size + context,))
        self.num_flows, self.hidden, self.context = num_flows, as_shape(tuple(hidden), "hidden"), context
        self.steps = nn.ModuleList(
            MaskedMLP(size, 1, 2, self.hidden, "elu", context).start_small() for _ in range(num_flows)
        )

    def forward(self, params: Tensor) -> Flow:
        """(mean, log-variance, h) of shape (..., 2 D + context) to q(z|x)."""
        base, context = base_and_rest(params, self.event_shape)
        chain: list[maps.Map] = []
        for step in self.steps:
            chain += [maps.Reverse()] if chain else []
            chain.append(maps.Autoregressive(partial(step, context=context), maps.gated))
        return Flow(base, chain)
