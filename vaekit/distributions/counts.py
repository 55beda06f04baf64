"""Counts: Poisson, negative binomial, and either with more zeros."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, Gamma, constraints
from torch.distributions import Poisson as TorchPoisson
from torch.distributions.utils import broadcast_all

from vaekit.distributions.base import Base
from vaekit.distributions.special import HALF_LOG_TWO_PI, deviance, stirling_remainder
from vaekit.traits import Kept

_MOST = 1e15  # rate of a draw; the sampler counts in 64-bit integers


def _poisson(log_rate: Tensor, value: Tensor) -> Tensor:
    """log P(x) of a Poisson from its log-rate and x."""
    rate, x = log_rate.exp(), value.clamp(min=1)
    log_x = x.log()
    some = -x * deviance((rate - x) / x, log_rate - log_x) - HALF_LOG_TWO_PI - 0.5 * log_x - stirling_remainder(x)
    return torch.where(value < 1, -rate, some)


class _PoissonLogMass(torch.autograd.Function):
    r"""`_poisson` with the gradient \( x - e^l \) in one piece."""

    generate_vmap_rule = True

    @staticmethod
    def forward(log_rate: Tensor, value: Tensor) -> Tensor:
        return _poisson(log_rate, value)

    @staticmethod
    def setup_context(ctx: Kept, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Kept, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        log_rate, value = ctx.saved_tensors
        of_rate = (gradient * (value - log_rate.exp())).sum_to_size(log_rate.shape)
        if not ctx.needs_input_grad[1]:
            return of_rate, None
        return of_rate, (gradient * (log_rate - torch.digamma(value + 1))).sum_to_size(value.shape)


class Poisson(TorchPoisson):
    r"""torch's `Poisson`, from the log-rate l, exact for large counts.

    With \( h(e) = e - \log(1 + e) \) and the remainder s of Stirling's formula,
    \[ \log P(x) = -x\,h(e^l / x - 1) - \tfrac12 \log 2\pi x - s(x), \qquad \log P(0) = -e^l, \]
    where nothing of the size of x is left to cancel.

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

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws, integers in the dtype of the parameters, shape (*sample_shape, *batch)."""
        with torch.no_grad():
            rate = self.rate.clamp(max=_MOST)
            return torch.poisson(rate.expand(self._extended_shape(torch.Size(sample_shape))))

    def log_prob(self, value: Tensor) -> Tensor:
        """log P(x) in nats; x holds integers of any dtype."""
        value = value.to(self.log_rate.dtype)
        if torch.compiler.is_compiling():  # the compiler fuses the plain formula
            return _poisson(self.log_rate, value)
        result: Tensor = _PoissonLogMass.apply(self.log_rate, value)  # type: ignore[no-untyped-call]
        return result


_TOP = 70.0  # log-mean above which the mean is left where it is, so that nothing overflows


class NegativeBinomial(Base):
    r"""Counts with mean \( \mu \) and variance \( \mu + \alpha \mu^2 \): a Poisson whose rate is gamma-distributed.

    With \( r = 1/\alpha \),
    \[ P(x) = \frac{\Gamma(x + r)}{\Gamma(r)\, x!} \frac{\mu^x r^r}{(\mu + r)^{x + r}}, \]
    a Poisson as \( \alpha \to 0 \). torch's class counts failures and successes (r and a logit), and loses this limit
    to cancellation. Here, with \( c = (x - \mu)/(1 + \alpha\mu) \), \( h(e) = e - \log(1 + e) \) and the remainder s
    of Stirling's formula, for x > 0
    \[ \log P(x) = -x\,h(-c/x) - r\,h(\alpha c) - \tfrac12 \log[2\pi x (1 + \alpha x)] + s(x + r) - s(r) - s(x), \]
    and \( \log P(0) = -r \log(1 + \alpha \mu) \): no two terms of the size of x cancel.

    References:
        Loader, "Fast and accurate computation of binomial probabilities", 2000,
        https://www.r-project.org/doc/reports/CLoader-dbinom-2002.pdf, section 4.
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
        log_mean = self.log_mean.clamp(max=_TOP)
        x, r, mean = value.clamp(min=1), 1 / self.dispersion, log_mean.exp()
        scaled, log_x, widened = self.dispersion * mean, x.log(), torch.log1p(self.dispersion * x)
        growth = torch.log1p(scaled) + (self.log_mean - _TOP).clamp(min=0)  # log(1 + a mu)
        c, change = (x - mean) / (1 + scaled), widened - growth
        of_x = x * deviance(-c / x, self.log_mean - log_x + change)
        of_r = r * deviance(self.dispersion * c, change, fine=True)  # r^2 h is a part of the gradient
        remainder = stirling_remainder(x + r) - stirling_remainder(r) - stirling_remainder(x)
        some = remainder - of_x - of_r - HALF_LOG_TWO_PI - 0.5 * (log_x + widened)
        return torch.where(value < 1, -r * growth, some)


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
