"""Posteriors of relaxed bits and of relaxed one-hot codes."""

from torch import Tensor

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import Product, RelaxedOneHotCategorical
from vaekit.distributions import RelaxedBernoulli as RelaxedBernoulliDistribution
from vaekit.distributions.discrete import check_num_classes
from vaekit.distributions.relaxed import check_temperature
from vaekit.shapes import Shape, as_shape


class RelaxedBernoulli(ConditionalDistribution):
    r"""Posterior of relaxed bits.

    \( z = \sigma((l(x) + \epsilon)/\tau) \) with logistic noise: bits relaxed to (0, 1), with gradients.

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


class RelaxedCategorical(ConditionalDistribution):
    r"""Posterior of relaxed categories.

    \( z_i = \mathrm{softmax}((l_i(x) + g_i)/\tau) \) with Gumbel noise: one-hot vectors relaxed to the simplex.

    A bound on log p(x) of the model whose prior is relaxed too (`priors.RelaxedCategorical`, at a temperature of its
    own); a prior of one-hot vectors is refused. Low temperatures give z near one-hot and noisy gradients, high ones the
    reverse; the density has no peak inside the simplex while the temperature stays below 1/(C - 1). For a bound with
    true categories take `Categorical`. Use it where classes are wanted as codes and training with true categories is
    too noisy.

    References:
        Maddison et al., "The concrete distribution", 2017, https://arxiv.org/abs/1611.00712.
        Jang et al., "Categorical reparameterization with Gumbel-softmax", 2017, https://arxiv.org/abs/1611.01144.

    Args:
        code_shape: shape of the codes, an int or a tuple; the event of z has one more dimension, the classes.
        num_classes: C.
        temperature: \( \tau > 0 \), fixed.

    Raises:
        ConfigError: if C < 2, or for a temperature that is not positive.
    """

    def __init__(self, code_shape: Shape, num_classes: int = 10, temperature: float = 2 / 3) -> None:
        check_num_classes("RelaxedCategorical", num_classes)
        check_temperature("RelaxedCategorical", temperature)
        event_shape = (*as_shape(code_shape, "code_shape"), num_classes)
        super().__init__(event_shape, param_shape=event_shape)
        self.code_shape, self.num_classes, self.temperature = event_shape[:-1], num_classes, float(temperature)

    def forward(self, params: Tensor) -> RelaxedOneHotCategorical:
        """Unnormalised log-probabilities of shape (..., *codes, C) to q(z|x)."""
        return RelaxedOneHotCategorical(params, self.temperature, len(self.code_shape))
