"""Poisson likelihood of counts."""

from torch import Tensor

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import Poisson as PoissonDistribution
from vaekit.distributions import Product
from vaekit.distributions.links import log_positive
from vaekit.distributions.product import Missing
from vaekit.shapes import Shape


class Poisson(ConditionalDistribution):
    r"""\( \log p(x|z) = \sum_i x_i \log \lambda_i - \lambda_i - \log x_i! \) for counts x, log-rates from the network.

    Use it for counts whose variance, given z, is their mean: events in a fixed time or area. Where they spread more,
    which most counts do, take `NegativeBinomial`; for integers with a highest value, `DiscretizedLogistic` or
    `Categorical`. Counts are not standardised; in front of an encoder belongs `networks.LogInput`, as presets have it.

    The rate is \( e^r \) up to r = 16, a straight line above, so that it cannot overflow.

    References:
        Zhao et al., "Variational autoencoders for sparse and overdispersed discrete data", 2020,
        https://arxiv.org/abs/1905.00616, section 2.

    Args:
        event_shape: shape of x.
        missing: "observed-only" leaves NaN elements of x out of log p.

    Example:
        >>> import torch
        >>> Poisson(3)(torch.zeros(1, 1, 3)).log_prob(torch.tensor([[0.0, 1.0, 2.0]]))
        tensor([-3.6931])
    """

    def __init__(self, event_shape: Shape, missing: Missing = "error") -> None:
        super().__init__(event_shape, num_params=1)
        self.missing = missing

    def forward(self, params: Tensor) -> Product:
        """Raw log-rates of shape (..., 1, *event) to p(x|z)."""
        (raw,) = self.unbind(params)
        base = PoissonDistribution(log_positive(raw), validate_args=False)
        return Product(base, len(self.event_shape), missing=self.missing)
