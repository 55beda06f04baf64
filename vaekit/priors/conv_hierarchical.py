"""A prior of several stochastic layers of maps."""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.distributions import Ancestral, Product
from vaekit.distributions.links import normal_of_maps
from vaekit.networks.residual import Descent, as_maps, over_leading, sizes_of


class ConvHierarchical(nn.Module):
    r"""\( p(z) = \prod_l p(z_l | z_{l+1}, \dots, z_L) \) over maps, from a small one at the top to large ones, z flat.

    A state of feature maps goes down from a learned constant; at each layer it gives mean and scale of the layer's
    elements, takes in their draw and grows. So each layer sees all above it. For images; with `posteriors.ConvLadder`,
    which shares this way down, it makes the kind of model that NVAE and VDVAE are, small enough for a CPU. Use it for
    images whose structure lives on several scales.

    References:
        Vahdat & Kautz, "NVAE", 2020, https://arxiv.org/abs/2007.03898; Child, "Very deep VAEs", 2021,
        https://arxiv.org/abs/2011.10650.

    Args:
        maps: shapes (c, H, W) of the latent layers, from the one next to x to the top.
        channels: feature maps of the state.

    Example:
        >>> ConvHierarchical(((2, 4, 4), (4, 2, 2)))().event_shape
        torch.Size([48])
    """

    def __init__(self, maps: Sequence[Sequence[int]], channels: int = 32) -> None:
        super().__init__()
        self.maps, self.channels = as_maps(maps), channels
        self.sizes = sizes_of(self.maps)
        self.event_shape = (sum(self.sizes),)
        self.shared_layers = ("maps", self.maps, self.channels)
        self.start = nn.Parameter(0.1 * torch.randn(channels, *self.maps[-1][1:]))
        pairs = zip(self.maps[1:], self.maps, strict=False)
        self.steps = nn.ModuleList(Descent(channels, above, below[1:]) for above, below in pairs)
        self.params = nn.ModuleList(nn.Conv2d(channels, 2 * shape[0], 3, padding=1) for shape in self.maps)

    def normal(self, layer: int, state: Tensor) -> Product:
        """p(z_l | state) of the layer at place `layer` (0 for z_1), for a state of shape (..., C, H, W)."""
        return normal_of_maps(over_leading(lambda h: self.params[layer](F.silu(h)), state))

    def descend(self, layer: int, above: Tensor, state: Tensor) -> Tensor:
        """The state at the layer at place `layer`, from the draw and the state of the layer above."""
        return self.steps[layer](state, above)

    def _step(self, layer: int, above: Tensor, state: Tensor | None) -> tuple[Distribution, Tensor]:
        state = self.descend(layer, above, self.start if state is None else state)
        return self.normal(layer, state), state

    def forward(self) -> Ancestral:
        """p(z), batch shape ()."""
        steps = [partial(self._step, layer) for layer in reversed(range(len(self.steps)))]
        return Ancestral(self.normal(len(self.maps) - 1, self.start), steps, self.sizes, "down")
