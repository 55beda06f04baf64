"""The beta distribution by its mean and concentration."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Beta as TorchBeta
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all

from vaekit.distributions.base import Base
from vaekit.distributions.stirling import HALF_LOG_TWO_PI, stirling_remainder
from vaekit.distributions.support import open_unit_interval

_LEAST = -69.0  # of log a and log b: 1e-30, whose inverse float32 still holds


class Beta(Base):
    r"""The beta distribution with mean \( m = \sigma(l) \) and concentration \( \kappa \), on the open interval (0, 1).

    With \( a = m \kappa \) and \( b = (1 - m) \kappa \), \( p(x) = x^{a - 1} (1 - x)^{b - 1} / B(a, b) \); the variance
    is \( m (1 - m) / (1 + \kappa) \). torch's class takes a and b, and subtracts log-gammas of their size. With the
    remainder s of Stirling's formula nothing large cancels, and \( 1 - m \) is never formed:
    \[ \log p = a \log\frac{x}{m} + b \log\frac{1 - x}{1 - m} - \log x (1 - x)
       + \tfrac12 \log\frac{ab}{2\pi\kappa} + s(\kappa) - s(a) - s(b). \]

    References:
        Ferrari & Cribari-Neto, "Beta regression for modelling rates and proportions", 2004,
        https://doi.org/10.1080/0266476042000214501.

    Args:
        logits: l, the log-odds of the mean.
        concentration: \( \kappa > 0 \).

    Example:
        >>> import torch
        >>> Beta(torch.tensor(0.0), torch.tensor(4.0)).log_prob(torch.tensor(0.5)).exp()
        tensor(1.5000)
    """

    parameters = ("logits", "concentration")
    arg_constraints: dict[str, constraints.Constraint] = {  # noqa: RUF012  (the name torch prescribes)
        "logits": constraints.real,
        "concentration": constraints.positive,
    }
    support: Any = open_unit_interval
    has_rsample = True

    def __init__(self, logits: Tensor, concentration: Tensor, validate_args: bool | None = None) -> None:
        self.logits, self.concentration = broadcast_all(logits, concentration)
        super().__init__(self.logits.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """m, shape (*batch)."""
        return torch.sigmoid(self.logits)

    @property
    def variance(self) -> Tensor:
        """m (1 - m) / (1 + kappa), shape (*batch)."""
        return torch.sigmoid(self.logits) * torch.sigmoid(-self.logits) / (1 + self.concentration)

    def _log_shapes(self) -> tuple[Tensor, Tensor]:
        """log a and log b."""
        log_a, log_b = (self.concentration.log() + F.logsigmoid(odds) for odds in (self.logits, -self.logits))
        return log_a.clamp(min=_LEAST), log_b.clamp(min=_LEAST)

    def _inside(self, value: Tensor) -> Tensor:
        """The nearest point inside: where rounding has carried x to 0 or 1, the density is taken next to it."""
        info = torch.finfo(value.dtype)
        return value.clamp(info.tiny, 1 - 0.5 * info.eps)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws with gradients, shape (*sample_shape, *batch), strictly inside (0, 1)."""
        log_a, log_b = self._log_shapes()
        return self._inside(TorchBeta(log_a.exp(), log_b.exp(), validate_args=False).rsample(torch.Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats."""
        value = self._inside(value)
        log_x, log_y = value.log(), torch.log1p(-value)
        log_a, log_b = self._log_shapes()
        a, b = log_a.exp(), log_b.exp()
        kernel = a * (log_x - F.logsigmoid(self.logits)) + b * (log_y - F.logsigmoid(-self.logits)) - log_x - log_y
        remainder = stirling_remainder(self.concentration) - stirling_remainder(a) - stirling_remainder(b)
        return kernel + 0.5 * (log_a + log_b - self.concentration.log()) - HALF_LOG_TWO_PI + remainder
