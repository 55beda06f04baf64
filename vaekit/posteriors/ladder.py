"""A hierarchical posterior that corrects the prior's own way down by what it saw of x."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import Ancestral, Normal, Product
from vaekit.distributions.links import normal_of
from vaekit.networks.dense import Dense
from vaekit.shapes import as_shape, broadcast_shapes
from vaekit.traits import PartTraits, told


class Ladder(ConditionalDistribution):
    r"""\( q(z|x) = q(z_L|x) \prod_l q(z_l | z_{l+1}, x) \) with \( q(z_l | z_{l+1}, x) \propto p(z_l | z_{l+1})\,
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

    def bind(self, model: Any) -> None:
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
