"""Priors of relaxed bits and of relaxed one-hot codes."""

from vaekit.distributions import Product, RelaxedOneHotCategorical
from vaekit.distributions import RelaxedBernoulli as RelaxedBernoulliDistribution
from vaekit.distributions.discrete import check_num_classes
from vaekit.distributions.relaxed import check_temperature
from vaekit.printing import Printed
from vaekit.priors.discrete import Logits, Probs
from vaekit.shapes import Shape, as_shape


class RelaxedBernoulli(Printed):
    r"""Prior of relaxed bits.

    \( z = \sigma((l + \epsilon)/\tau) \) with logistic noise: the prior of `posteriors.RelaxedBernoulli`.

    Its temperature may differ from the posterior's; 1/2 here and 2/3 there are a tried pair. Use it with
    `posteriors.RelaxedBernoulli` and no other.

    References:
        Maddison et al., "The concrete distribution", 2017, https://arxiv.org/abs/1611.00712.

    Args:
        event_shape: shape of z.
        temperature: \( \tau > 0 \), fixed.
        probs: "learned", one log-odds per bit, or "uniform", 0.

    Raises:
        ConfigError: for a temperature that is not positive, or another word.
    """

    def __init__(self, event_shape: Shape, temperature: float = 0.5, probs: Probs = "learned") -> None:
        super().__init__()
        check_temperature("RelaxedBernoulli", temperature)
        self.event_shape, self.temperature, self.probs = as_shape(event_shape), float(temperature), probs
        self.logits = Logits(self.event_shape, probs)

    def forward(self) -> Product:
        """p(z), batch shape ()."""
        return Product(RelaxedBernoulliDistribution(self.logits(), self.temperature), len(self.event_shape))


class RelaxedCategorical(Printed):
    r"""Prior of relaxed categories.

    \( z_i = \mathrm{softmax}((l_i + g_i)/\tau) \) with Gumbel noise: the prior of `posteriors.RelaxedCategorical`.

    Its temperature may differ from the posterior's. Use it with `posteriors.RelaxedCategorical` and no other.

    References:
        Maddison et al., "The concrete distribution", 2017, https://arxiv.org/abs/1611.00712.

    Args:
        code_shape: shape of the codes, an int or a tuple; the event of z has one more dimension, the classes.
        num_classes: C.
        temperature: \( \tau > 0 \), fixed.
        probs: "learned", C logits per code, or "uniform", all equal.

    Raises:
        ConfigError: if C < 2, for a temperature that is not positive, or another word.
    """

    def __init__(
        self, code_shape: Shape, num_classes: int = 10, temperature: float = 0.5, probs: Probs = "learned"
    ) -> None:
        super().__init__()
        check_num_classes("RelaxedCategorical", num_classes)
        check_temperature("RelaxedCategorical", temperature)
        self.code_shape, self.num_classes = as_shape(code_shape, "code_shape"), num_classes
        self.temperature, self.probs = float(temperature), probs
        self.event_shape = (*self.code_shape, num_classes)
        self.logits = Logits(self.event_shape, probs)

    def forward(self) -> RelaxedOneHotCategorical:
        """p(z), batch shape ()."""
        return RelaxedOneHotCategorical(self.logits(), self.temperature, len(self.code_shape))
