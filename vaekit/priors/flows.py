"""Priors that are normalising flows: coupling, masked autoregressive, spline."""

from collections.abc import Sequence

from torch import Tensor, nn

from vaekit.distributions import Flow, maps
from vaekit.distributions.maps.elementwise import spline_network
from vaekit.errors import ConfigError
from vaekit.networks import MaskedMLP
from vaekit.networks.mlp import Dense
from vaekit.printing import Printed
from vaekit.priors.normal import StandardNormal
from vaekit.shapes import Shape, as_shape, num_dimensions


class HalfNetwork(nn.Module):
    """From the first half of z to two raw parameters for each dimension of the rest.

    The last layer starts small, so that the flow starts near the identity.

    Args:
        size: D.
        hidden: widths of the hidden layers.
    """

    def __init__(self, size: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.dense = Dense(size // 2, hidden, 2 * (size - size // 2))
        nn.init.normal_(self.dense.linear.weight, std=0.01)
        nn.init.zeros_(self.dense.linear.bias)

    def forward(self, z: Tensor) -> Tensor:
        """(..., D // 2) to (..., D - D // 2, 2)."""
        result: Tensor = self.dense(z).unflatten(-1, (-1, 2))
        return result


class AffineCoupling(Printed):
    r"""Flow prior of affine couplings.

    \( p(z) \): standard normal noise pushed through K affine couplings, half of the dimensions at a time (RealNVP).

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


class MaskedAutoregressive(Printed):
    r"""Masked autoregressive flow prior.

    \( p(z) \): K steps \( \epsilon_i = e^{a_i} z_i + t_i \) from z to noise, \( (t_i, a_i) \) from
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


class Spline(Printed):
    r"""Neural spline flow prior.

    \( p(z) \): standard normal noise pushed through K couplings by neural splines on [-5, 5].

    Each dimension moves by a monotone rational-quadratic spline, so a few steps make several modes, where
    `AffineCoupling` needs many; beyond [-5, 5] the density is that of N(0, I). Fast both ways. The splines come from
    zuko: `pip install vaekit[flows]`. Use it where the codes form clusters.

    References:
        Durkan et al., "Neural spline flows", 2019, https://arxiv.org/abs/1906.04032.

    Args:
        event_shape: shape of z, at least two elements.
        num_flows: K.
        num_bins: pieces of each spline.
        hidden: widths of the hidden layers of each step's network.

    Raises:
        ConfigError: for K < 1, fewer than two bins or dimensions, and where zuko is not installed.
    """

    def __init__(
        self, event_shape: Shape, num_flows: int = 4, num_bins: int = 8, hidden: Sequence[int] = (64, 64)
    ) -> None:
        super().__init__()
        size = num_dimensions("Spline", event_shape, num_flows, instead="StandardNormal")
        if num_bins < 2:
            raise ConfigError(f"Spline expects num_bins of at least 2; got {num_bins}")
        self.event_shape = as_shape(event_shape)
        self.num_flows, self.num_bins = num_flows, num_bins
        self.hidden = as_shape(tuple(hidden), "hidden")
        self.base = StandardNormal(self.event_shape)
        self.splines = spline_network(size, num_flows, num_bins, self.hidden)

    def forward(self) -> Flow:
        """p(z), batch shape ()."""
        return Flow(self.base(), [maps.Inverse(maps.TorchTransform(self.splines(None)))])
