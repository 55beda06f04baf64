"""A hierarchical posterior that climbs from the layer next to x."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import Ancestral
from vaekit.distributions.links import normal_of
from vaekit.networks.dense import Dense
from vaekit.shapes import as_shape


class BottomUp(ConditionalDistribution):
    r"""\( q(z|x) = q(z_1|x) \prod_l q(z_{l+1} | z_l) \), each a diagonal Gaussian, z flat.

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
