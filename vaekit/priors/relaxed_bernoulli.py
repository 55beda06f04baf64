"""Prior of relaxed bits."""

from torch import nn

from vaekit.distributions import Product
from vaekit.distributions import RelaxedBernoulli as RelaxedBernoulliDistribution
from vaekit.distributions.relaxed import check_temperature
from vaekit.priors.logits import Logits, Probs
from vaekit.shapes import Shape, as_shape


class RelaxedBernoulli(nn.Module):
    r"""\( z = \sigma((l + \epsilon)/\tau) \) with logistic noise: the prior of `posteriors.RelaxedBernoulli`.

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
