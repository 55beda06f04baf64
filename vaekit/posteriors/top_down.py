"""A hierarchical posterior that descends from the top, each layer given x and the layer above."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import Ancestral
from vaekit.distributions.links import normal_of
from vaekit.networks.dense import Dense
from vaekit.shapes import as_shape, broadcast_shapes


class TopDown(ConditionalDistribution):
    r"""\( q(z|x) = q(z_L|x) \prod_l q(z_l | z_{l+1}, x) \), each a diagonal Gaussian, z flat.

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
