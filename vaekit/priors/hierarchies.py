"""Priors of several latent layers, each given the one above it."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.distributions import Ancestral, Product
from vaekit.distributions.links import normal_of, normal_of_maps
from vaekit.errors import ShapeError
from vaekit.networks.mlp import Dense
from vaekit.networks.residual import Descent, as_maps, over_leading, sizes_of
from vaekit.printing import Printed
from vaekit.priors.normal import StandardNormal
from vaekit.shapes import as_shape
from vaekit.traits import PartTraits, told

if TYPE_CHECKING:
    from vaekit.models.vae import VAE


class Hierarchical(Printed):
    r"""A prior of several stochastic layers.

    \( p(z) = p(z_L) \prod_{l<L} N(z_l; \mu_l(z_{l+1}), \mathrm{diag}\, \sigma_l^2(z_{l+1})) \), z flat.

    With a posterior of the same sizes (`BottomUp`, `TopDown`, `Ladder`) it makes a VAE of L stochastic layers. Use it
    where one layer of Gaussians is too plain a prior; upper layers are easily left unused, less so with `Ladder`, with
    KL warm-up, or with a `VampPrior` at the top.

    References:
        Rezende et al., "Stochastic backpropagation", 2014, https://arxiv.org/abs/1401.4082 (deep latent Gaussian
        models); Sonderby et al., "Ladder variational autoencoders", 2016, https://arxiv.org/abs/1602.02282, equations
        1-3; Tomczak & Welling, "VAE with a VampPrior", 2018, https://arxiv.org/abs/1705.07120, section 3.2.

    Args:
        sizes: sizes of \( z_1, \dots, z_L \), from the layer next to x to the top.
        hidden: widths of the hidden layers of each conditional.
        top: p(z_L), a prior of that size; None is the standard normal.
        activation: see `networks.MLP`.

    Raises:
        ShapeError: if the top prior has another size.

    Example:
        >>> Hierarchical((8, 4, 2))().event_shape
        torch.Size([14])
    """

    def __init__(
        self,
        sizes: Sequence[int],
        hidden: Sequence[int] = (64,),
        top: nn.Module | None = None,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.sizes, self.hidden, self.activation = as_shape(sizes, "sizes"), tuple(hidden), activation
        self.event_shape = (sum(self.sizes),)
        self.shared_layers = ("vectors", self.sizes)
        self.top: Any = StandardNormal(self.sizes[-1]) if top is None else top
        shape = tuple(told(PartTraits, self.top).event_shape or self.sizes[-1:])
        if shape != self.sizes[-1:]:
            raise ShapeError(f"the top layer has size {self.sizes[-1]}, its prior events of shape {shape}")
        pairs = zip(self.sizes[1:], self.sizes, strict=False)
        self.below = nn.ModuleList(Dense(above, self.hidden, 2 * size, activation) for above, size in pairs)

    def bind(self, model: "VAE") -> None:
        """Hand the model on to the prior of the top layer, where that asks for it."""
        bind = told(PartTraits, self.top).bind
        if bind is not None:
            bind(model)

    def conditional(self, layer: int, above: Tensor) -> Product:
        """p(z_l | z_{l+1}) of the layer at place `layer` (0 for z_1), for `above` of shape (..., its size)."""
        return normal_of(self.below[layer](above))

    def _step(self, layer: int, above: Tensor, state: None) -> tuple[Distribution, None]:
        return self.conditional(layer, above), None

    def forward(self) -> Ancestral:
        """p(z), batch shape ()."""
        steps = [partial(self._step, layer) for layer in reversed(range(len(self.below)))]
        return Ancestral(self.top(), steps, self.sizes, "down")


class ConvHierarchical(Printed):
    r"""A prior of several stochastic layers of maps.

    \( p(z) = \prod_l p(z_l | z_{l+1}, \dots, z_L) \) over maps, from a small one at the top to large ones, z flat.

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
        result: Tensor = self.steps[layer](state, above)
        return result

    def _step(self, layer: int, above: Tensor, state: Tensor | None) -> tuple[Distribution, Tensor]:
        state = self.descend(layer, above, self.start if state is None else state)
        return self.normal(layer, state), state

    def forward(self) -> Ancestral:
        """p(z), batch shape ()."""
        steps = [partial(self._step, layer) for layer in reversed(range(len(self.steps)))]
        return Ancestral(self.normal(len(self.maps) - 1, self.start), steps, self.sizes, "down")
