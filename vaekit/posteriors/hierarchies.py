"""Posteriors of several latent layers: bottom-up, top-down, and ladders."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import Ancestral, Normal, Product
from vaekit.distributions.links import normal_of, normal_of_maps
from vaekit.networks.mlp import Dense
from vaekit.networks.residual import as_maps, over_leading, sizes_of
from vaekit.shapes import as_shape, broadcast_shapes
from vaekit.traits import PartTraits, told

if TYPE_CHECKING:
    from vaekit.models.vae import VAE


class BottomUp(ConditionalDistribution):
    r"""A hierarchical posterior that climbs from the layer next to x.

    \( q(z|x) = q(z_1|x) \prod_l q(z_{l+1} | z_l) \), each a diagonal Gaussian, z flat.

    The posterior of the first deep models, for a `priors.Hierarchical` of the same sizes. Upper layers see x only
    through noisy lower ones and tend to be left unused beyond the second; `Ladder` and `TopDown` train deeper. Use it
    to compare with the first hierarchies, or for two layers.

    References:
        Burda et al., "Importance weighted autoencoders", 2016, https://arxiv.org/abs/1509.00519, section 2; Sonderby
        et al., "Ladder variational autoencoders", 2016, https://arxiv.org/abs/1602.02282, equations 4-5.

    Args:
        sizes: sizes of \( z_1, \dots, z_L \), from the layer next to x to the top.
        hidden: widths of the hidden layers of each step upwards.
        activation: see `networks.MLP`.
    """

    def __init__(self, sizes: Sequence[int], hidden: Sequence[int] = (64,), activation: str = "relu") -> None:
        own_sizes = as_shape(sizes, "sizes")
        super().__init__(sum(own_sizes), param_shape=(2 * own_sizes[0],))
        self.sizes, self.hidden, self.activation = own_sizes, tuple(hidden), activation
        pairs = zip(self.sizes, self.sizes[1:], strict=False)
        self.above = nn.ModuleList(Dense(below, self.hidden, 2 * size, activation) for below, size in pairs)

    def _step(self, layer: int, below: Tensor, state: None) -> tuple[Distribution, None]:
        return normal_of(self.above[layer](below)), None

    def forward(self, params: Tensor) -> Ancestral:
        """(mean, raw scale) of z_1 side by side, shape (..., 2 D_1), to q(z|x)."""
        steps = [partial(self._step, layer) for layer in range(len(self.above))]
        return Ancestral(normal_of(params), steps, self.sizes, "up")


class TopDown(ConditionalDistribution):
    r"""A hierarchical posterior that descends from the top, each layer given x and the layer above.

    \( q(z|x) = q(z_L|x) \prod_l q(z_l | z_{l+1}, x) \), each a diagonal Gaussian, z flat.

    The order of a `priors.Hierarchical`, and the family that the true posterior of two layers belongs to. Its first
    factor \( q(z_L|x) \) has a density of its own, which is what a `VampPrior` at the top is made of. `Ladder` shares
    the prior's conditionals instead of learning its own. Use it for a hierarchy of two or three layers, and under a
    `VampPrior` at the top.

    References:
        Tomczak & Welling, "VAE with a VampPrior", 2018, https://arxiv.org/abs/1705.07120, section 3.2.

    Args:
        sizes: sizes of \( z_1, \dots, z_L \), from the layer next to x to the top.
        hidden: widths of the hidden layers of each step downwards.
        width: number of features of x that the encoder hands to all layers.
        activation: see `networks.MLP`.
    """

    takes_features = True

    def __init__(
        self, sizes: Sequence[int], hidden: Sequence[int] = (64,), width: int = 64, activation: str = "relu"
    ) -> None:
        own_sizes = as_shape(sizes, "sizes")
        super().__init__(sum(own_sizes), param_shape=as_shape(width, "width"))
        self.sizes, self.hidden, self.width, self.activation = own_sizes, tuple(hidden), width, activation
        self.top = nn.Linear(width, 2 * self.sizes[-1])
        pairs = zip(self.sizes[1:], self.sizes, strict=False)
        self.below = nn.ModuleList(Dense(width + above, self.hidden, 2 * size, activation) for above, size in pairs)

    def _step(self, features: Tensor, layer: int, above: Tensor, state: None) -> tuple[Distribution, None]:
        leading = broadcast_shapes(features.shape[:-1], above.shape[:-1])
        both = torch.cat([features.expand(*leading, -1), above.expand(*leading, -1)], -1)
        return normal_of(self.below[layer](both)), None

    def forward(self, params: Tensor) -> Ancestral:
        """Features of x, shape (..., width), to q(z|x)."""
        steps = [partial(self._step, params, layer) for layer in reversed(range(len(self.below)))]
        return Ancestral(normal_of(self.top(params)), steps, self.sizes, "down")


class Ladder(ConditionalDistribution):
    r"""A hierarchical posterior that corrects the prior's own way down by what it saw of x.

    \( q(z|x) = q(z_L|x) \prod_l q(z_l | z_{l+1}, x) \) with \( q(z_l | z_{l+1}, x) \propto p(z_l | z_{l+1})\,
    N(z_l; \hat\mu_l(x), \hat\sigma_l^2(x)) \).

    A deterministic way up gives each layer an estimate \( \hat\mu_l, \hat\sigma_l \); on the way down it is combined
    with the prior's conditional, each weighted by its precision, as Gaussians multiply. q so follows the prior wherever
    x says nothing, which keeps upper layers in use where `BottomUp` loses them. Train it with KL warm-up
    (`ELBO(beta=schedules.Linear(0, 1, ...))`): at full weight from the start, all layers may settle on the prior. The
    conditionals are those of the `priors.Hierarchical` of the model that it is part of (`bind`); under any other prior,
    and before it is part of a model, N(0, I) takes their place. Use it for hierarchies of more than two layers.

    References:
        Sonderby et al., "Ladder variational autoencoders", 2016, https://arxiv.org/abs/1602.02282, equations 14-20.

    Args:
        sizes: sizes of \( z_1, \dots, z_L \), from the layer next to x to the top.
        hidden: widths of the hidden layers of each deterministic step upwards.
        width: features of x at each layer; the encoder makes those of the first one.
        activation: see `networks.MLP`.
    """

    takes_features = True

    def __init__(
        self, sizes: Sequence[int], hidden: Sequence[int] = (64,), width: int = 64, activation: str = "relu"
    ) -> None:
        own_sizes = as_shape(sizes, "sizes")
        super().__init__(sum(own_sizes), param_shape=as_shape(width, "width"))
        self.sizes, self.hidden, self.width, self.activation = own_sizes, tuple(hidden), width, activation
        self.up = nn.ModuleList(Dense(width, self.hidden, width, activation) for _ in self.sizes[1:])
        self.estimates = nn.ModuleList(nn.Linear(width, 2 * size) for size in self.sizes)
        # The model's prior, in a tuple: it is no submodule of the posterior.
        self._bound: tuple[Any, ...] = ()

    def bind(self, model: "VAE") -> None:
        """Share the conditionals of the model's prior, where it is a hierarchy of the same sizes."""
        shares = told(PartTraits, model.prior).shared_layers == ("vectors", self.sizes)
        self._bound = (model.prior,) if shares else ()

    def _step(self, estimate: Product, layer: int, above: Tensor, state: None) -> tuple[Distribution, None]:
        if not self._bound:
            leading = broadcast_shapes(above.shape[:-1], estimate.batch_shape)
            zero = above.new_zeros(*leading, self.sizes[layer])
            return _precision_weighted(Normal(zero, torch.ones_like(zero), validate_args=False), estimate.base), None
        return _precision_weighted(self._bound[0].conditional(layer, above).base, estimate.base), None

    def forward(self, params: Tensor) -> Ancestral:
        """Features of x, shape (..., width), to q(z|x)."""
        features = [params]
        for up in self.up:
            features.append(up(features[-1]))
        estimates = [normal_of(linear(h)) for linear, h in zip(self.estimates, features, strict=True)]
        steps = [partial(self._step, estimates[layer], layer) for layer in reversed(range(len(self.up)))]
        return Ancestral(estimates[-1], steps, self.sizes, "down")


def _precision_weighted(p: Any, estimate: Any) -> Product:
    r"""The Gaussian proportional to the product of two: precisions add up, means are weighted by them."""
    precision_p, precision_x = p.scale**-2, estimate.scale**-2
    variance = 1 / (precision_p + precision_x)
    loc = variance * (precision_p * p.loc + precision_x * estimate.loc)
    return Product(Normal(loc, variance.sqrt(), validate_args=False), 1)


class ConvLadder(ConditionalDistribution):
    r"""A posterior over several layers of maps that follows the prior's way down.

    \( q(z|x) = \prod_l q(z_l | z_{l+1}, \dots, z_L, x) \) over maps: \( N(\mu_l + \sigma_l \Delta\mu_l,\, (\sigma_l
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

    takes_features = True

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

    def bind(self, model: "VAE") -> None:
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
