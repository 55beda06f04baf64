"""Masked autoregressive flow prior."""

from collections.abc import Sequence

from torch import nn

from vaekit.distributions import Flow, maps
from vaekit.networks import MaskedMLP
from vaekit.priors.standard_normal import StandardNormal
from vaekit.shapes import Shape, as_shape, num_dimensions


class MaskedAutoregressive(nn.Module):
    r"""\( p(z) \): K steps \( \epsilon_i = e^{a_i} z_i + t_i \) from z to noise, \( (t_i, a_i) \) from
    \( z_1 \dots z_{i-1} \) (MAF).

    The order of the dimensions turns round between steps. The density takes one pass of each masked network and is
    finer than that of as many couplings; a draw takes D passes. Training needs densities only. It starts near N(0, I);
    overfitting as in `AffineCoupling`. Use it where log p(x) counts more than the time of a draw.

    References:
        Papamakarios et al., "Masked autoregressive flow for density estimation", 2017,
        https://arxiv.org/abs/1705.07057.

    Args:
        event_shape: shape of z, at least two elements.
        num_flows: K.
        hidden: widths of the hidden layers of each masked network.

    Raises:
        ConfigError: for K < 1, a hidden layer narrower than D - 1, or fewer than two dimensions.

    Example:
        >>> MaskedAutoregressive(16, num_flows=2, hidden=(32,))().event_shape
        torch.Size([16])
    """

    def __init__(self, event_shape: Shape, num_flows: int = 4, hidden: Sequence[int] = (128, 128)) -> None:
        super().__init__()
        size = num_dimensions("MaskedAutoregressive", event_shape, num_flows, instead="StandardNormal")
        self.event_shape = as_shape(event_shape)
        self.num_flows, self.hidden = num_flows, as_shape(tuple(hidden), "hidden")
        self.base = StandardNormal(self.event_shape)
        self.steps = nn.ModuleList(MaskedMLP(size, 1, 2, self.hidden, "elu").start_small() for _ in range(num_flows))

    def forward(self) -> Flow:
        """p(z), batch shape ()."""
        chain: list[maps.Map] = []
        for step in self.steps:
            # The network sees z, not the noise: the inverse of what the posterior's steps are.
            chain += [maps.Inverse(maps.Autoregressive(step, maps.bounded)), maps.Reverse()]
        return Flow(self.base(), chain)
