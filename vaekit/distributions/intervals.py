"""Numbers between 0 and 1: beta and continuous Bernoulli."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Beta as TorchBeta
from torch.distributions import ContinuousBernoulli as TorchContinuousBernoulli
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all

from vaekit.distributions.base import Base
from vaekit.distributions.special import HALF_LOG_TWO_PI, stirling_remainder
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
    support: constraints.Constraint = open_unit_interval
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

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
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


_SMALL = 0.03  # |logit| below which series replace quotients of differences, exact there to 1e-11


class ContinuousBernoulli(TorchContinuousBernoulli):
    r"""torch's `ContinuousBernoulli`, without its clamp of \( \lambda \): \( p(x) \propto e^{l x} \) on [0, 1].

    torch keeps \( \lambda = \sigma(l) \) one rounding error away from 0 and 1, so in float32 its normaliser stops
    growing at |l| = 16 and the density no longer integrates to 1 (to 0.53 at l = 30). In terms of l nothing is lost:
    \( \log C = \log(l / \tanh(l/2)) \), \( E[x] = 1/(1 - e^{-l}) - 1/l \).

    References:
        Loaiza-Ganem & Cunningham, "The continuous Bernoulli", 2019, https://arxiv.org/abs/1907.06845, equations 5-7.

    Example:
        >>> import torch
        >>> ContinuousBernoulli(logits=torch.tensor(30.0)).log_prob(torch.tensor(1.0))
        tensor(3.4012)
    """

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> "ContinuousBernoulli":
        """The same distribution, repeated over `batch_shape`."""
        return ContinuousBernoulli(logits=self.logits.expand(torch.Size(batch_shape)), validate_args=False)

    def _split(self, limit: float = _SMALL) -> tuple[Tensor, Tensor]:
        """Where |l| is below `limit`, and l with those values moved away from 0 so that no quotient is 0/0."""
        small = self.logits.abs() < limit
        return small, torch.where(small, torch.full_like(self.logits, limit), self.logits)

    def _cont_bern_log_norm(self) -> Tensor:
        small, safe = self._split()
        half = (self.logits / 2) ** 2
        series = math.log(2.0) + half / 3 - 7 * half**2 / 90
        return torch.where(small, series, (safe / torch.tanh(safe / 2)).log())

    @property
    def mean(self) -> Tensor:
        """E[x], shape (*batch)."""
        small, safe = self._split()
        series = 0.5 + self.logits / 12 - self.logits**3 / 720
        return torch.where(small, series, -1 / torch.expm1(-safe) - 1 / safe)

    @property
    def variance(self) -> Tensor:
        """Var[x], shape (*batch)."""
        small, safe = self._split()
        series = 1 / 12 - self.logits**2 / 240 + self.logits**4 / 6048
        tails = torch.sigmoid(safe) * torch.sigmoid(-safe) / torch.tanh(safe / 2) ** 2
        return torch.where(small, series, 1 / safe**2 - tails)

    def icdf(self, value: Tensor) -> Tensor:
        r"""The quantile \( \log(1 + u (e^l - 1)) / l \), computed from the nearer end."""
        small, safe = self._split(1e-4)
        above = safe > 0
        # For l > 0, 1 - x is the quantile at 1 - u for -l, whose exponential cannot overflow.
        u = torch.where(above, 1 - value, value)
        inner = (u * torch.expm1(-safe.abs())).clamp(min=-1 + torch.finfo(safe.dtype).eps)
        near = -torch.log1p(inner) / safe.abs()
        outer = torch.where(above, 1 - near, near)
        return torch.where(small, value + self.logits * value * (1 - value) / 2, outer).clamp(0, 1)

    def entropy(self) -> Tensor:
        """Entropy in nats, shape (*batch)."""
        return torch.nn.functional.softplus(self.logits) - self.logits * self.mean - self._cont_bern_log_norm()
