"""Posterior of relaxed bits."""

from torch import Tensor

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import Product
from vaekit.distributions import RelaxedBernoulli as RelaxedBernoulliDistribution
from vaekit.distributions.relaxed import check_temperature
from vaekit.shapes import Shape


class RelaxedBernoulli(ConditionalDistribution):
    r"""\( z = \sigma((l(x) + \epsilon)/\tau) \) with logistic noise: bits relaxed to (0, 1), with gradients.

    A bound on log p(x) of the model whose prior is relaxed too (`priors.RelaxedBernoulli`, at a temperature of its
    own); a prior of bits is refused. Low temperatures give z near 0 or 1 and noisy gradients, high ones the reverse:
    2/3 here and 1/2 in the prior are a tried pair. For a bound with true bits take `Bernoulli`. Use it where switches
    are wanted as codes and training with true bits is too noisy.

    References:
        Maddison et al., "The concrete distribution", 2017, https://arxiv.org/abs/1611.00712.
        Jang et al., "Categorical reparameterization with Gumbel-softmax", 2017, https://arxiv.org/abs/1611.01144.

    Args:
        event_shape: shape of z.
        temperature: \( \tau > 0 \), fixed.

    Raises:
        ConfigError: for a temperature that is not positive.
    """

    def __init__(self, event_shape: Shape, temperature: float = 2 / 3) -> None:
        check_temperature("RelaxedBernoulli", temperature)
        super().__init__(event_shape, num_params=1)
        self.temperature = float(temperature)

    def forward(self, params: Tensor) -> Product:
        """Logits of shape (..., 1, *event) to q(z|x)."""
        (logits,) = self.unbind(params)
        return Product(RelaxedBernoulliDistribution(logits, self.temperature), len(self.event_shape))
