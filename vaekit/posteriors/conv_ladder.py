"""A posterior over several layers of maps that follows the prior's way down."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import Ancestral, Normal, Product
from vaekit.distributions.links import normal_of_maps
from vaekit.networks.residual import as_maps, over_leading, sizes_of
from vaekit.shapes import broadcast_shapes
from vaekit.traits import PartTraits, told


class ConvLadder(ConditionalDistribution):
    r"""\( q(z|x) = \prod_l q(z_l | z_{l+1}, \dots, z_L, x) \) over maps: \( N(\mu_l + \sigma_l \Delta\mu_l,\, (\sigma_l
    \Delta\sigma_l)^2) \), relative to \( p(z_l|\cdot) = N(\mu_l, \sigma_l^2) \).

    The two-way inference of deep convolutional hierarchies: features of x come up (`networks.ConvPyramid`), the state
    of the prior comes down, and a layer's shift and scale are made of both. State and conditionals are those of the
    `priors.ConvHierarchical` of the model that it is part of (`bind`). Under any other prior, and before it is part of
    a model, there is no state and N(0, I) takes their place: the layers are then independent given x. Train it with KL
    warm-up, as `Ladder`.

        maps = ((2, 14, 14), (4, 7, 7), (4, 7, 7))
        model = vk.VAE(
            vk.Conditional(vk.networks.ConvPyramid((1, 28, 28), maps), vk.posteriors.ConvLadder(maps)),
            vk.Conditional(vk.networks.ConvTopDown(maps, (1, 28, 28)), vk.likelihoods.Bernoulli((1, 28, 28))),
            vk.priors.ConvHierarchical(maps),
        )

    Use it for images whose structure lives on several scales.

    References:
        Kingma et al., "Improved variational inference with inverse autoregressive flow", 2016,
        https://arxiv.org/abs/1606.04934 (bidirectional inference); Vahdat & Kautz, "NVAE", 2020,
        https://arxiv.org/abs/2007.03898, section 3.2 (relative parameters).

    Args:
        maps: shapes (c, H, W) of the latent layers, from the one next to x to the top.
        channels: feature maps, of x and of the prior's state.
    """

    def __init__(self, maps: Sequence[Sequence[int]], channels: int = 32) -> None:
        own_maps = as_maps(maps)
        num_features = channels * sum(height * width for _, height, width in own_maps)
        super().__init__(sum(sizes_of(own_maps)), param_shape=(num_features,))
        self.maps, self.channels = own_maps, channels
        self.estimates = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(2 * channels, channels, 3, padding=1), nn.SiLU(), nn.Conv2d(channels, 2 * shape[0], 1)
            )
            for shape in self.maps
        )
        # The model's prior, in a tuple: it is no submodule of the posterior.
        self._bound: tuple[Any, ...] = ()

    def bind(self, model: Any) -> None:
        """Follow the model's prior, where it has the same maps and channels."""
        shares = told(PartTraits, model.prior).shared_layers == ("maps", self.maps, self.channels)
        self._bound = (model.prior,) if shares else ()

    def _layer(self, layer: int, features: Tensor, state: Tensor) -> Product:
        """q of one layer from features of x and the state, both of shape (..., C, H, W)."""
        leading = broadcast_shapes(features.shape[:-3], state.shape[:-3])
        both = torch.cat([t.expand(*leading, *t.shape[-3:]) for t in (features, state)], -3)
        change: Any = normal_of_maps(over_leading(self.estimates[layer], both)).base
        if not self._bound:
            return Product(change, 1)
        p = self._bound[0].normal(layer, state).base
        return Product(Normal(p.loc + p.scale * change.loc, p.scale * change.scale, validate_args=False), 1)

    def _step(
        self, layer: int, features: Sequence[Tensor], above: Tensor, state: Tensor | None
    ) -> tuple[Distribution, Tensor]:
        if self._bound:
            prior = self._bound[0]
            state = prior.descend(layer, above, prior.start if state is None else state)
        else:
            state = above.new_zeros(*above.shape[:-1], *features[layer].shape[-3:])
        return self._layer(layer, features[layer], state), state

    def forward(self, params: Tensor) -> Ancestral:
        """Features of all layers side by side, shape (..., sum of C H W), to q(z|x)."""
        sizes = [self.channels * height * width for _, height, width in self.maps]
        parts = zip(params.split(sizes, -1), self.maps, strict=True)
        features = [part.reshape(*part.shape[:-1], self.channels, *shape[1:]) for part, shape in parts]
        top = len(self.maps) - 1
        start = self._bound[0].start if self._bound else torch.zeros_like(features[top])
        steps = [partial(self._step, layer, features) for layer in reversed(range(top))]
        return Ancestral(self._layer(top, features[top], start), steps, sizes_of(self.maps), "down")
