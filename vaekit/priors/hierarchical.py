"""A prior of several stochastic layers."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.distributions import Ancestral, Product
from vaekit.distributions.links import normal_of
from vaekit.errors import ShapeError
from vaekit.networks.dense import Dense
from vaekit.priors.standard_normal import StandardNormal
from vaekit.shapes import as_shape
from vaekit.traits import PartTraits, told


class Hierarchical(nn.Module):
    r"""\( p(z) = p(z_L) \prod_{l<L} N(z_l; \mu_l(z_{l+1}), \mathrm{diag}\, \sigma_l^2(z_{l+1})) \), z flat.

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

    def bind(self, model: Any) -> None:
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
