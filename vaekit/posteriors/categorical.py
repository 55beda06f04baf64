"""Posterior of categories."""

from torch import Tensor

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import OneHotCategorical
from vaekit.distributions.discrete import check_num_classes
from vaekit.shapes import Shape, as_shape


class Categorical(ConditionalDistribution):
    r"""\( q(z|x) = \prod_i \pi_{i, z_i} \) for codes i in C classes each, as one-hot vectors of shape (*codes, C).

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
