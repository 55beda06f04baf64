"""Continuous Bernoulli likelihood of values in the unit interval."""

from torch import Tensor

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import ContinuousBernoulli as ContinuousBernoulliDistribution
from vaekit.distributions.product import Missing, Product
from vaekit.shapes import Shape


class ContinuousBernoulli(ConditionalDistribution):
    r"""\( p(x|z) = \prod_i C(\lambda_i) \lambda_i^{x_i} (1 - \lambda_i)^{1 - x_i} \) for x in [0, 1]: a density.

    Use it for grey values where a Bernoulli would be no density. 8-bit images are integers: a density of x / 255 can
    grow without bound at 0 and 1, `DiscretizedLogistic` gives their mass.

    References:
        Loaiza-Ganem & Cunningham, "The continuous Bernoulli", 2019, https://arxiv.org/abs/1907.06845, equations 4-6.

    Args:
        event_shape: shape of x.
        missing: "observed-only" leaves NaN elements of x out of log p.
    """

    def __init__(self, event_shape: Shape, missing: Missing = "error") -> None:
        super().__init__(event_shape, num_params=1)
        self.missing = missing

    def forward(self, params: Tensor) -> Product:
        """Logits of shape (..., 1, *event) to p(x|z)."""
        (logits,) = self.unbind(params)
        base = ContinuousBernoulliDistribution(logits=logits, validate_args=False)
        return Product(base, len(self.event_shape), missing=self.missing)
