"""Prior of bits."""

from torch import nn

from vaekit.distributions import Bernoulli as BernoulliDistribution
from vaekit.distributions import Product
from vaekit.priors.logits import Logits, Probs
from vaekit.shapes import Shape, as_shape


class Bernoulli(nn.Module):
    r"""\( p(z) = \prod_j \pi_j^{z_j} (1 - \pi_j)^{1 - z_j} \) for z in {0, 1}, with learned or even probabilities.

    Use it with `posteriors.Bernoulli`, with learned probabilities unless even ones are meant.

    References:
        Mnih & Gregor, "Neural variational inference and learning in belief networks", 2014,
        https://arxiv.org/abs/1402.0030.

    Args:
        event_shape: shape of z.
        probs: "learned", one probability per bit, or "uniform", 1/2.

    Raises:
        ConfigError: for another word.

    Example:
        >>> Bernoulli(16)().event_shape
        torch.Size([16])
    """

    def __init__(self, event_shape: Shape, probs: Probs = "learned") -> None:
        super().__init__()
        self.event_shape, self.probs = as_shape(event_shape), probs
        self.logits = Logits(self.event_shape, probs)

    def forward(self) -> Product:
        """p(z), batch shape ()."""
        return Product(BernoulliDistribution(self.logits(), validate_args=False), len(self.event_shape))
