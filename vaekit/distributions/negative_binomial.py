"""The negative binomial distribution by its mean and dispersion."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Gamma, constraints
from torch.distributions.utils import broadcast_all

from vaekit.distributions.base import Base
from vaekit.distributions.stirling import HALF_LOG_TWO_PI, stirling_remainder

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
    support: Any = constraints.nonnegative_integer
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

    def sample(self, sample_shape: Any = ()) -> Tensor:
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
