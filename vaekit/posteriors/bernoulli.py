"""Posterior of bits."""

from torch import Tensor

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import Bernoulli as BernoulliDistribution
from vaekit.distributions import Product
from vaekit.shapes import Shape


class Bernoulli(ConditionalDistribution):
    r"""\( q(z|x) = \prod_j \pi_j^{z_j} (1 - \pi_j)^{1 - z_j} \) for z in {0, 1}, logits from the network.

    Bits cannot be reparameterised: gradients are those of the score function, whose noise is great; use several draws
    per row (`ELBO(num_samples=8)`), which are baselines for each other, or `TVO`. The bound is exact.
    `RelaxedBernoulli` has less noisy gradients, but bounds another model, whose latents lie in (0, 1). Use it where a
    code is a set of switches, and the bound is to be that of true bits.

    References:
        Mnih & Gregor, "Neural variational inference and learning in belief networks", 2014,
        https://arxiv.org/abs/1402.0030.

    Args:
        event_shape: shape of z.

    Example:
        >>> import torch
        >>> Bernoulli(3)(torch.zeros(1, 3)).mean
        tensor([0.5000, 0.5000, 0.5000])
    """

    def __init__(self, event_shape: Shape) -> None:
        super().__init__(event_shape, num_params=1)

    def forward(self, params: Tensor) -> Product:
        """Logits of shape (..., 1, *event) to q(z|x)."""
        (logits,) = self.unbind(params)
        return Product(BernoulliDistribution(logits, validate_args=False), len(self.event_shape))
