"""Counts of any spread, wider or narrower than a Poisson's: a log-normal, or another power of a normal, rounded."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all

from vaekit.distributions.base import Base
from vaekit.distributions.special import HALF_LOG_TWO_PI
from vaekit.raw import box_cox, log_of_box_cox

POWERS = (0.0, 0.25, 0.5, 1.0)
"""Of counts that may be normal: their logarithm, fourth root, root, themselves."""

_NARROW = 0.02  # width of a step, in scales, below which its mass is that of its middle: right to 1e-6
_STEPS = 64  # counts whose masses are summed one by one in a mean; above them the steps are narrow
_TOP = 34.0  # log of the largest draw, beyond which float64 does not tell counts apart


class RoundedLogNormal(Base):
    r"""Counts x of which \( \log(x + 1) \), or a power, is normal before rounding.

    \[ P(x) = \Phi\left(\frac{h(x + 3/2) - \mu}{s}\right) - \Phi\left(\frac{h(x + 1/2) - \mu}{s}\right), \qquad
       h(u) = \frac{(u / c)^p - 1}{p}, \quad h(u) = \log(u / c) \text{ for } p = 0, \]
    where the step of 0 reaches down to minus infinity: x is u - 1, rounded, with \( h(u) \sim N(\mu, s^2) \). A small
    s gives one count nearly all mass, a large one a long tail, which the power p shortens: a square root (p = 1/2) has
    that of a Poisson, of which it makes the spread the same at each mean. Near the count c - 1 all powers have steps
    of the same width, 1/c. The difference is taken in logarithms on the side of the tail, and for narrow steps as
    width times density.

    References:
        Box & Cox, "An analysis of transformations", 1964, https://doi.org/10.1111/j.2517-6161.1964.tb00553.x (h).
        Anscombe, "The transformation of Poisson, binomial and negative-binomial data", 1948,
        https://doi.org/10.1093/biomet/35.3-4.246 (the root).

    Args:
        loc: \( \mu \).
        scale: \( s > 0 \).
        power: p, out of `POWERS`; a number, or a tensor for the last dimensions of the batch.
        centre: \( c > 0 \), likewise.

    Example:
        >>> import torch
        >>> d = RoundedLogNormal(torch.tensor(1.0), torch.tensor(0.5))
        >>> d.log_prob(torch.arange(40.0)).exp().sum()
        tensor(1.0000)
        >>> RoundedLogNormal(torch.tensor(0.0), torch.tensor(0.5), power=0.5, centre=4.0).mean
        tensor(3.2548)
    """

    parameters = ("loc", "scale")
    arg_constraints: dict[str, constraints.Constraint] = {  # noqa: RUF012  (the name torch prescribes)
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    support: constraints.Constraint = constraints.nonnegative_integer
    has_rsample = False

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor,
        validate_args: bool | None = None,
        *,
        power: float | Tensor = 0.0,
        centre: float | Tensor = 1.0,
    ) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        self.power = power.to(self.loc) if isinstance(power, Tensor) else float(power)
        self.log_centre = centre.to(self.loc).log() if isinstance(centre, Tensor) else math.log(centre)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def _bent(self, log_u: Tensor) -> Tensor:
        """h(u)."""
        return box_cox(log_u - self.log_centre, self.power)

    def log_prob(self, value: Tensor) -> Tensor:
        """log P(x) in nats; x holds integers of any dtype."""
        value = value.to(self.loc.dtype)
        lower, upper = torch.log(value + 0.5), torch.log(value + 1.5)
        a, b = (self._bent(lower) - self.loc) / self.scale, (self._bent(upper) - self.loc) / self.scale
        ratio = torch.log1p(1 / (value + 0.5))
        # h(u r) - h(u) without a difference: (u / c)^p times h(c r).
        width = (self.power * (lower - self.log_centre)).exp() * box_cox(ratio, self.power) / self.scale
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
            y = self.loc + self.scale * torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
            log_u = self.log_centre + log_of_box_cox(y, self.power)
            return torch.floor(log_u.clamp(max=_TOP).exp() - 0.5).clamp(min=0)

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
            least = self._bent(torch.full_like(self.loc, math.log(k + 0.5)))
            total = total + (constant + slope * k) * torch.special.ndtr((self.loc - least) / self.scale)
        return total

    def _part(self, order: int, least: float) -> Tensor:
        r"""\( E[u^m; u > t] \) of what is rounded, for the order m, shape (*batch)."""
        if not isinstance(self.power, Tensor):
            return self._part_of(self.power, order, least)
        found = torch.zeros_like(self.loc)
        for power in POWERS:
            own = self.power == power
            if torch.compiler.is_compiling() or bool(own.any()):
                found = torch.where(own, self._part_of(power, order, least), found)
        return found

    def _part_of(self, power: float, order: int, least: float) -> Tensor:
        r"""The same for one power p.

        \( e^{m\mu + m^2 s^2 / 2}\, \Phi((\mu + m s^2 - \log t) / s) \) for p = 0; for others u/c is the 1/p-th
        power of a normal, and the moment that of a normal, cut off below: \( M_k = \mu M_{k-1} + (k - 1) s^2 M_{k-2} +
        s^2 a^{k-1} \phi(a) \).
        """
        if power == 0:
            loc = self.loc + self.log_centre
            size = (order * loc + 0.5 * order**2 * self.scale.square()).clamp(max=_TOP * order).exp()
            beyond = (loc + order * self.scale.square() - math.log(least)) / self.scale
            result: Tensor = size * torch.special.ndtr(beyond)
            return result
        loc, scale = 1 + power * self.loc.double(), power * self.scale.double()
        at = torch.as_tensor(power * (math.log(least) - self.log_centre), device=loc.device).double().exp()
        beyond = (loc - at) / scale
        at_edge = (-0.5 * beyond.square() - HALF_LOG_TWO_PI).exp() * scale
        moments = [torch.special.ndtr(beyond)]
        for k in range(1, round(order / power) + 1):
            further = (k - 1) * scale.square() * moments[k - 2] if k > 1 else 0.0
            moments.append(loc * moments[-1] + further + at_edge * at ** (k - 1))
        raised = torch.as_tensor(order * self.log_centre, device=loc.device).double().exp()
        moment: Tensor = (raised * moments[-1]).clamp(0, math.exp(_TOP * order))
        return moment.to(self.loc)
