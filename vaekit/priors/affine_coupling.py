"""Flow prior of affine couplings."""

from collections.abc import Sequence

from torch import nn

from vaekit.distributions import Flow, maps
from vaekit.priors.flow_parts import HalfNetwork
from vaekit.priors.standard_normal import StandardNormal
from vaekit.shapes import Shape, as_shape, num_dimensions


class AffineCoupling(nn.Module):
    r"""\( p(z) \): standard normal noise pushed through K affine couplings, half of the dimensions at a time (RealNVP).

    A learned prior takes up the mismatch between the aggregate posterior and N(0, I), which costs rate and makes
    samples poor. Density and draws both take one pass, so this is the flow prior to start with; it starts near N(0, I).
    With few data it overfits the codes: watch the bound on held-out rows. Use it where diagnostics find the aggregate
    posterior far from N(0, I) and draws must be fast.

    References:
        Dinh et al., "Density estimation using Real NVP", 2017, https://arxiv.org/abs/1605.08803.
        Chen et al., "Variational lossy autoencoder", 2017, https://arxiv.org/abs/1611.02731 (flows as priors).

    Args:
        event_shape: shape of z, at least two elements.
        num_flows: K; an even number moves both halves equally often.
        hidden: widths of the hidden layers of each coupling's network.

    Raises:
        ConfigError: for K < 1 or fewer than two dimensions.

    Example:
        >>> AffineCoupling(16, num_flows=2, hidden=(32,))().event_shape
        torch.Size([16])
    """

    def __init__(self, event_shape: Shape, num_flows: int = 6, hidden: Sequence[int] = (128, 128)) -> None:
        super().__init__()
        size = num_dimensions("AffineCoupling", event_shape, num_flows, instead="StandardNormal")
        self.event_shape = as_shape(event_shape)
        self.num_flows, self.hidden = num_flows, as_shape(tuple(hidden), "hidden")
        self.base = StandardNormal(self.event_shape)
        self.steps = nn.ModuleList(HalfNetwork(size, self.hidden) for _ in range(num_flows))

    def forward(self) -> Flow:
        """p(z), batch shape ()."""
        chain: list[maps.Map] = []
        for step in self.steps:
            chain += [maps.Coupling(step), maps.Reverse()]
        return Flow(self.base(), chain)
