"""Counts: Poisson, negative binomial, and either with more zeros."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, Gamma, constraints
from torch.distributions import Poisson as TorchPoisson
from torch.distributions.utils import broadcast_all

from vaekit.distributions.base import Base
from vaekit.distributions.special import HALF_LOG_TWO_PI, stirling_remainder


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

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> "Poisson":
        """The same distribution, repeated over `batch_shape`."""
        return Poisson(self.log_rate.expand(torch.Size(batch_shape)), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """log P(x) in nats; x holds integers of any dtype."""
        value = value.to(self.log_rate.dtype)
        x = value.clamp(min=1)
        d = self.log_rate - x.log()
        some = x * (d - torch.expm1(d)) - HALF_LOG_TWO_PI - 0.5 * x.log() - stirling_remainder(x)
        return torch.where(value < 1, -self.rate, some)


_MOST = 1e15  # rate of a draw; the sampler counts in 64-bit integers


class NegativeBinomial(Base):
    r"""Counts with mean \( \mu \) and variance \( \mu + \alpha \mu^2 \): a Poisson whose rate is gamma-distributed.

    With \( r = 1/\alpha \),
    \[ P(x) = \frac{\Gamma(x + r)}{\Gamma(r)\, x!} \frac{\mu^x r^r}{(\mu + r)^{x + r}}, \]
    a Poisson as \( \alpha \to 0 \). torch's class counts failures and successes (r and a logit), and loses this limit
    to cancellation. Here, with the remainder s of Stirling's formula, for x > 0
    \[ \log P(x) = x \log\frac{\mu}{x} + (x + r) \log\frac{1 + \alpha x}{1 + \alpha\mu}
       - \tfrac12 \log[2\pi x (1 + \alpha x)] + s(x + r) - s(r) - s(x), \]
    and \( \log P(0) = -r \log(1 + \alpha \mu) \).

    References:
        Hilbe, "Negative binomial regression", 2nd edition, 2011, https://doi.org/10.1017/CBO9780511973420, chapter 8.

    Args:
        log_mean: \( \log \mu \).
        dispersion: \( \alpha > 0 \).

    Example:
        >>> import torch
        >>> NegativeBinomial(torch.tensor(0.0), torch.tensor(1.0)).log_prob(torch.tensor([0.0, 1.0]))
        tensor([-0.6931, -1.3863])
    """

    parameters = ("log_mean", "dispersion")
    arg_constraints: dict[str, constraints.Constraint] = {  # noqa: RUF012  (the name torch prescribes)
        "log_mean": constraints.real,
        "dispersion": constraints.positive,
    }
    support: constraints.Constraint = constraints.nonnegative_integer
    has_rsample = False

    def __init__(self, log_mean: Tensor, dispersion: Tensor, validate_args: bool | None = None) -> None:
        self.log_mean, self.dispersion = broadcast_all(log_mean, dispersion)
        super().__init__(self.log_mean.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        r"""\( \mu \), shape (*batch)."""
        return self.log_mean.exp()

    @property
    def variance(self) -> Tensor:
        r"""\( \mu + \alpha \mu^2 \), shape (*batch)."""
        return self.mean + self.dispersion * self.mean**2

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws, integers in the dtype of the parameters, shape (*sample_shape, *batch)."""
        with torch.no_grad():
            gamma = Gamma(1 / self.dispersion, torch.ones_like(self.dispersion), validate_args=False)
            rate = gamma.sample(torch.Size(sample_shape)) * (self.dispersion * self.mean)
            return torch.poisson(rate.clamp(max=_MOST))

    def log_prob(self, value: Tensor) -> Tensor:
        """log P(x) in nats; x holds integers of any dtype."""
        value = value.to(self.log_mean.dtype)
        x, r, scaled = value.clamp(min=1), 1 / self.dispersion, self.dispersion * self.mean
        none = -r * torch.log1p(scaled)
        d, widened = self.log_mean - x.log(), torch.log1p(self.dispersion * x)
        # log[(1 + a x)/(1 + a mu)] through the small difference x - mu near the mean, and as it stands far away.
        change = -self.dispersion * x * torch.expm1(d.clamp(max=1)) / (1 + scaled)
        is_near = (change.abs() < 0.5) & (d < 1)
        near = torch.log1p(torch.where(is_near, change, torch.zeros_like(change)))
        ratio = torch.where(is_near, near, widened - torch.log1p(scaled))
        remainder = stirling_remainder(x + r) - stirling_remainder(r) - stirling_remainder(x)
        some = x * d + (x + r) * ratio - HALF_LOG_TWO_PI - 0.5 * (x.log() + widened) + remainder
        return torch.where(value < 1, none, some)


class ZeroInflated(Base):
    r"""\( P(x) = \pi [x = 0] + (1 - \pi) P_0(x) \): a zero with probability \( \pi \), otherwise a draw of `base`.

    References:
        Lambert, "Zero-inflated Poisson regression", 1992, https://doi.org/10.2307/1269547.

    Args:
        base: elementwise distribution of counts \( P_0 \), such as `NegativeBinomial`.
        logits: log-odds of \( \pi \), of the batch shape of `base`.

    Example:
        >>> import torch
        >>> from vaekit.distributions import Poisson
        >>> d = ZeroInflated(Poisson(torch.tensor(0.0)), torch.tensor(0.0))
        >>> d.mean, d.variance
        (tensor(0.5000), tensor(0.7500))
    """

    parameters = ("base", "logits")
    arg_constraints: dict[str, constraints.Constraint] = {"logits": constraints.real}  # noqa: RUF012
    has_rsample = False

    def __init__(self, base: Distribution, logits: Tensor, validate_args: bool | None = None) -> None:
        self.base, self.logits = base, logits.expand(base.batch_shape)
        super().__init__(base.batch_shape, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint | None:
        """That of `base`."""
        return self.base.support

    @property
    def mean(self) -> Tensor:
        r"""\( (1 - \pi) E_0[x] \), shape (*batch)."""
        return torch.sigmoid(-self.logits) * self.base.mean

    @property
    def variance(self) -> Tensor:
        r"""\( (1 - \pi)(Var_0[x] + \pi E_0[x]^2) \), shape (*batch)."""
        extra = torch.sigmoid(self.logits) * self.base.mean**2
        return torch.sigmoid(-self.logits) * (self.base.variance + extra)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws, shape (*sample_shape, *batch)."""
        with torch.no_grad():
            x = self.base.sample(torch.Size(sample_shape))
            return torch.where(torch.rand_like(x) < torch.sigmoid(self.logits), torch.zeros_like(x), x)

    def log_prob(self, value: Tensor) -> Tensor:
        """log P(x) in nats."""
        drawn = F.logsigmoid(-self.logits) + self.base.log_prob(value)
        return torch.where(value == 0, torch.logaddexp(F.logsigmoid(self.logits), drawn), drawn)
