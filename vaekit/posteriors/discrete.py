"""Posteriors of bits and of one-hot codes."""

from torch import Tensor

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import Bernoulli as BernoulliDistribution
from vaekit.distributions import OneHotCategorical, Product
from vaekit.distributions.discrete import check_num_classes
from vaekit.shapes import Shape, as_shape


class Bernoulli(ConditionalDistribution):
    r"""Posterior of bits.

    \( q(z|x) = \prod_j \pi_j^{z_j} (1 - \pi_j)^{1 - z_j} \) for z in {0, 1}, logits from the network.

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


class Categorical(ConditionalDistribution):
    r"""Posterior of categories.

    \( q(z|x) = \prod_i \pi_{i, z_i} \) for codes i in C classes each, as one-hot vectors of shape (*codes, C).

    Categories cannot be reparameterised: gradients are those of the score function, whose noise is great; use several
    draws per row (`ELBO(num_samples=8)`), which are baselines for each other, or `TVO`. The bound is exact.
    `RelaxedCategorical` has less noisy gradients, but bounds another model, whose latents lie inside the simplex. Use
    it where a code is a choice among classes, and the bound is to be that of true categories.

    References:
        Mnih & Gregor, "Neural variational inference and learning in belief networks", 2014,
        https://arxiv.org/abs/1402.0030.

    Args:
        code_shape: shape of the codes, an int or a tuple; the event of z has one more dimension, the classes.
        num_classes: C.

    Raises:
        ConfigError: if C < 2.

    Example:
        >>> Categorical(3, num_classes=4).event_shape
        (3, 4)
    """

    def __init__(self, code_shape: Shape, num_classes: int = 10) -> None:
        check_num_classes("Categorical", num_classes)
        event_shape = (*as_shape(code_shape, "code_shape"), num_classes)
        super().__init__(event_shape, param_shape=event_shape)
        self.code_shape, self.num_classes = event_shape[:-1], num_classes

    def forward(self, params: Tensor) -> OneHotCategorical:
        """Unnormalised log-probabilities of shape (..., *codes, C) to q(z|x)."""
        return OneHotCategorical(params, len(self.code_shape))
