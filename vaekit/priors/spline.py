"""Neural spline flow prior."""

from collections.abc import Sequence

from torch import nn

from vaekit.distributions import Flow, maps
from vaekit.distributions.maps.elementwise import spline_network
from vaekit.errors import ConfigError
from vaekit.priors.standard_normal import StandardNormal
from vaekit.shapes import Shape, as_shape, num_dimensions


class Spline(nn.Module):
    r"""\( p(z) \): standard normal noise pushed through K couplings by neural splines on [-5, 5].

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
