"""Numbers between 0 and 1: beta and continuous Bernoulli."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Beta as TorchBeta
from torch.distributions import ContinuousBernoulli as TorchContinuousBernoulli
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all

from vaekit.distributions.base import Base
from vaekit.distributions.special import HALF_LOG_TWO_PI, deviance, polynomial, stirling_remainder
from vaekit.distributions.support import open_unit_interval

_LEAST = -69.0  # of log a and log b: 1e-30, whose inverse float32 still holds
_CERTAIN = 10.0  # |log-odds| above which m or 1 - m is too small to divide by, and terms of its size may cancel


class Beta(Base):
    r"""The beta distribution with mean \( m = \sigma(l) \) and concentration \( \kappa \), on the open interval (0, 1).

    With \( a = m \kappa \) and \( b = (1 - m) \kappa \), \( p(x) = x^{a - 1} (1 - x)^{b - 1} / B(a, b) \); the variance
    is \( m (1 - m) / (1 + \kappa) \). torch's class takes a and b, and subtracts log-gammas of their size. With
    \( h(e) = e - \log(1 + e) \) and the remainder s of Stirling's formula nothing large cancels, and \( 1 - m \) is
    never formed:
    \[ \log p = -a\,h\left(\frac{x - m}{m}\right) - b\,h\left(\frac{m - x}{1 - m}\right) - \log x (1 - x)
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

    def _logs(self) -> tuple[Tensor, Tensor, Tensor]:
        """log m, log(1 - m) and log kappa."""
        return F.logsigmoid(self.logits), F.logsigmoid(-self.logits), self.concentration.log()

    def _inside(self, value: Tensor) -> Tensor:
        """The nearest point inside: where rounding has carried x to 0 or 1, the density is taken next to it."""
        info = torch.finfo(value.dtype)
        return value.clamp(info.tiny, 1 - 0.5 * info.eps)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws with gradients, shape (*sample_shape, *batch), strictly inside (0, 1)."""
        log_mean, log_rest, log_k = self._logs()
        a, b = ((log_k + part).clamp(min=_LEAST).exp() for part in (log_mean, log_rest))
        return self._inside(TorchBeta(a, b, validate_args=False).rsample(torch.Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats."""
        value = self._inside(value)
        log_x, log_y = value.log(), torch.log1p(-value)
        log_mean, log_rest, log_k = self._logs()
        log_a, log_b = (log_k + log_mean).clamp(min=_LEAST), (log_k + log_rest).clamp(min=_LEAST)
        a, b, ratio_x, ratio_y = log_a.exp(), log_b.exp(), log_x - log_mean, log_y - log_rest
        # x - m from the nearer end, where both may be close to it.
        logits = self.logits.clamp(-_CERTAIN, _CERTAIN)
        mean, rest = torch.sigmoid(logits), torch.sigmoid(-logits)
        off = torch.where(logits > 0, rest - (1 - value), value - mean)
        near = a * deviance(off / mean, ratio_x) + b * deviance(-off / rest, ratio_y)
        kernel = torch.where(logits == self.logits, -near, a * ratio_x + b * ratio_y) - log_x - log_y
        remainder = stirling_remainder(self.concentration) - stirling_remainder(a) - stirling_remainder(b)
        return kernel + 0.5 * (log_a + log_b - log_k) - HALF_LOG_TWO_PI + remainder


_SMALL = 0.03  # |logit| below which series replace quotients of differences, exact there to 1e-11
# Var[x] in powers of l^2, exact to 1e-15 for |l| < 1/2: Bernoulli numbers B_2n times (2n - 1)/(2n)!.
_VARIANCE = (1 / 12, -1 / 240, 1 / 6048, -1 / 172800, 1 / 5322240, -691 / 118879488000, 1 / 5748019200)


class ContinuousBernoulli(TorchContinuousBernoulli):
    r"""torch's `ContinuousBernoulli`, without its clamp of \( \lambda \): \( p(x) \propto e^{l x} \) on [0, 1].

    torch keeps \( \lambda = \sigma(l) \) one rounding error away from 0 and 1, so in float32 its normaliser stops
    growing at |l| = 16 and the density no longer integrates to 1 (to 0.53 at l = 30). In terms of l, and of the
    distance y to the nearer end (x or 1 - x), nothing is lost: \( p(x) = |l| e^{-|l| y} / (1 - e^{-|l|}) \).

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

    def _above(self) -> Tensor:
        """1 where the density rises, so that x - 1 is the way to its nearer end, and 0 where x is."""
        return (self.logits > 0).to(self.logits.dtype)

    def _log_total(self, above: Tensor) -> Tensor:
        r"""\( \log \int_0^1 e^{-|l| y} dy = \log[(1 - e^{-|l|})/|l|] \)."""
        size = self.logits.abs()
        large, square = size.clamp(min=_SMALL), size * size
        series = square * (1 / 24 - square / 2880) + self.logits * (0.5 - above)
        return torch.where(size < _SMALL, series, torch.log(torch.expm1(-large) / -large))

    def _cont_bern_log_norm(self) -> Tensor:
        return F.softplus(-self.logits.abs()) - self._log_total(self._above())

    def log_prob(self, value: Tensor) -> Tensor:
        r"""log p(x) in nats: \( -|l| y - \log \int_0^1 e^{-|l| y'} dy' \), where y is x or 1 - x."""
        above = self._above()
        return self.logits * (value - above) - self._log_total(above)

    @staticmethod
    def _distance(size: Tensor) -> Tensor:
        """E[y] for |l| > 0."""
        return 1 / size + torch.exp(-size) / torch.expm1(-size)

    @property
    def mean(self) -> Tensor:
        """E[x], shape (*batch)."""
        small, safe = self._split()
        series = 0.5 + self.logits / 12 - self.logits**3 / 720
        distance = self._distance(safe.abs())
        return torch.where(small, series, torch.where(safe > 0, 1 - distance, distance))

    @property
    def variance(self) -> Tensor:
        """Var[x], shape (*batch)."""
        small, safe = self._split(0.5)
        tails = torch.sigmoid(safe) * torch.sigmoid(-safe) / torch.tanh(safe / 2) ** 2
        return torch.where(small, polynomial(_VARIANCE, self.logits.clamp(-0.5, 0.5) ** 2), 1 / safe**2 - tails)

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
        size = self.logits.abs().clamp(min=_SMALL)
        large = size * self._distance(size) + torch.log(torch.expm1(-size) / -size)
        return torch.where(self.logits.abs() < _SMALL, -(self.logits**2) / 24, large)
