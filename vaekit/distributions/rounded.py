"""Counts of any spread, wider or narrower than a Poisson's: a log-normal, rounded."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all

from vaekit.distributions.base import Base
from vaekit.distributions.special import HALF_LOG_TWO_PI

_NARROW = 0.02  # width of a step, in scales, below which its mass is that of its middle: right to 1e-6
_STEPS = 64  # counts whose masses are summed one by one in a mean; above them the steps are narrow
_TOP = 34.0  # log of the largest draw, beyond which float64 does not tell counts apart


class RoundedLogNormal(Base):
    r"""Counts x whose \( \log(x + 1) \) is normal before rounding: \( e^Y - 1 \), rounded, with Y ~ N(mu, s^2).

    \[ P(x) = \Phi\left(\frac{\log(x + 3/2) - \mu}{s}\right) - \Phi\left(\frac{\log(x + 1/2) - \mu}{s}\right), \]
    where the step of 0 reaches down to minus infinity. A small s gives one count nearly all mass, a large one a long
    tail. The difference is taken in logarithms on the side of the tail, and for narrow steps as width times density.

    Args:
        loc: \( \mu \).
        scale: \( s > 0 \).

    Example:
        >>> import torch
        >>> d = RoundedLogNormal(torch.tensor(1.0), torch.tensor(0.5))
        >>> d.log_prob(torch.arange(40.0)).exp().sum()
        tensor(1.0000)
    """

    parameters = ("loc", "scale")
    arg_constraints: dict[str, constraints.Constraint] = {  # noqa: RUF012  (the name torch prescribes)
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    support: constraints.Constraint = constraints.nonnegative_integer
    has_rsample = False

    def __init__(self, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """log P(x) in nats; x holds integers of any dtype."""
        value = value.to(self.loc.dtype)
        lower, upper = torch.log(value + 0.5), torch.log(value + 1.5)
        a, b = (lower - self.loc) / self.scale, (upper - self.loc) / self.scale
        width = torch.log1p(1 / (value + 0.5)) / self.scale
        narrow = width < _NARROW
        middle = a + 0.5 * width
        bent = (middle.square() - 1) * width.square() / 24
        of_narrow = width.log() + bent - 0.5 * middle.square() - HALF_LOG_TWO_PI
        # From the side on which both values of Phi are below a half, and narrow steps, where both are equal, moved out.
        turned = middle > 0
        near = torch.where(turned, -a, b)
        far = near - torch.where(narrow, 1.0, width)
        log_near, log_far = torch.special.log_ndtr(near), torch.special.log_ndtr(far)
        of_wide = log_near + torch.log(-torch.expm1(log_far - log_near))
        of_zero = torch.special.log_ndtr(b)
        return torch.where(value < 1, of_zero, torch.where(narrow, of_narrow, of_wide))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws, integers in the dtype of the parameters, shape (*sample_shape, *batch)."""
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            log_x = self.loc + self.scale * torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
            return torch.floor(log_x.clamp(max=_TOP).exp() - 0.5).clamp(min=0)

    @property
    def mean(self) -> Tensor:
        r"""\( E[x] = \sum_{k \ge 1} P(x \ge k) \), shape (*batch): 64 terms, and the integral of the others."""
        top = _STEPS + 1.0
        return self._below(1.0, 0.0) + self._part(1, top) - top * self._part(0, top)

    @property
    def variance(self) -> Tensor:
        r"""\( E[x^2] - E[x]^2 \), shape (*batch), with \( E[x^2] = \sum_{k \ge 1} (2k - 1) P(x \ge k) \)."""
        top = _STEPS + 1.0
        rest = self._part(2, top) - 2 * self._part(1, top) + (1 - _STEPS**2) * self._part(0, top)
        return (self._below(-1.0, 2.0) + rest - self.mean.square()).clamp(min=0)

    def _below(self, constant: float, slope: float) -> Tensor:
        """The sum over k = 1 to 64 of (constant + slope k) P(x >= k)."""
        total = torch.zeros_like(self.loc)
        for k in range(1, _STEPS + 1):
            total = total + (constant + slope * k) * torch.special.ndtr((self.loc - math.log(k + 0.5)) / self.scale)
        return total

    def _part(self, power: int, least: float) -> Tensor:
        r"""\( E[e^{pY}; e^Y > c] = e^{p\mu + p^2 s^2 / 2}\, \Phi((\mu + p s^2 - \log c) / s) \)."""
        size = (power * self.loc + 0.5 * power**2 * self.scale.square()).clamp(max=_TOP * power).exp()
        beyond = (self.loc + power * self.scale.square() - math.log(least)) / self.scale
        result: Tensor = size * torch.special.ndtr(beyond)
        return result
