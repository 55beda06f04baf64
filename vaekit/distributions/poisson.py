"""The Poisson distribution in terms of its log-rate."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Poisson as TorchPoisson

from vaekit.distributions.stirling import HALF_LOG_TWO_PI, stirling_remainder


class Poisson(TorchPoisson):
    r"""torch's `Poisson`, from the log-rate l, exact for large counts.

    With \( d = l - \log x \) and the remainder s of Stirling's formula,
    \[ \log P(x) = x (d - (e^d - 1)) - \tfrac12 \log 2\pi x - s(x), \qquad \log P(0) = -e^l, \]
    where nothing of the size of \( x \log x \) is left to cancel.

    References:
        Loader, "Fast and accurate computation of binomial probabilities", 2000,
        https://www.r-project.org/doc/reports/CLoader-dbinom-2002.pdf, section 3.

    Args:
        log_rate: l, the logarithm of the mean, any shape.

    Example:
        >>> import torch
        >>> Poisson(torch.tensor(0.0)).log_prob(torch.tensor([0.0, 1.0, 2.0]))
        tensor([-1.0000, -1.0000, -1.6931])
    """

    def __init__(self, log_rate: Tensor, validate_args: bool | None = None) -> None:
        self.log_rate = log_rate
        super().__init__(log_rate.exp(), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Poisson":
        """The same distribution, repeated over `batch_shape`."""
        return Poisson(self.log_rate.expand(torch.Size(batch_shape)), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """log P(x) in nats; x holds integers of any dtype."""
        value = value.to(self.log_rate.dtype)
        x = value.clamp(min=1)
        d = self.log_rate - x.log()
        some = x * (d - torch.expm1(d)) - HALF_LOG_TWO_PI - 0.5 * x.log() - stirling_remainder(x)
        return torch.where(value < 1, -self.rate, some)
