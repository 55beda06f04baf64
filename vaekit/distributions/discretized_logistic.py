"""The discretised logistic distribution over the integers 0..L-1."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all

from vaekit.distributions.base import Base


def log_mass(value: Tensor, loc: Tensor, scale: Tensor, num_levels: int) -> Tensor:
    """log P(x) of a logistic density cut at the integers 0..L-1, as `DiscretizedLogistic` defines it.

    Args:
        value: integers of the dtype of `loc`, any shape that broadcasts.
        loc: location where the levels span [-1, 1].
        scale: scale on the same axis.
        num_levels: L.
    """
    lower, upper = _edges(value, loc, scale, num_levels)
    # log[sigma(b) - sigma(a)] = log sigma(b) + log sigma(-a) + log(1 - exp(a - b)), with a < b.
    width = 2.0 / ((num_levels - 1) * scale)
    inner = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-width))
    first, last = value <= 0, value >= num_levels - 1
    return torch.where(first, F.logsigmoid(upper), torch.where(last, F.logsigmoid(-lower), inner))


def draw_levels(loc: Tensor, scale: Tensor, num_levels: int) -> Tensor:
    """One draw of the integers 0..L-1 for each location and scale, in their dtype and shape."""
    uniform = torch.rand(loc.shape, dtype=loc.dtype, device=loc.device)
    info = torch.finfo(loc.dtype)
    continuous = loc + scale * torch.logit(uniform.clamp(info.tiny, 1 - info.eps))
    level = torch.floor((continuous + 1.0) * (0.5 * (num_levels - 1)) + 0.5)
    return level.clamp(0, num_levels - 1)


def centred(level: Tensor, num_levels: int) -> Tensor:
    """Levels 0..L-1 on the axis where they span [-1, 1]."""
    return (2.0 / (num_levels - 1)) * level - 1.0


def _edges(value: Tensor, loc: Tensor, scale: Tensor, num_levels: int) -> tuple[Tensor, Tensor]:
    """Standardised lower and upper edge of the bin of each integer."""
    centre, half = centred(value, num_levels) - loc, 1.0 / (num_levels - 1)
    return (centre - half) / scale, (centre + half) / scale


class DiscretizedLogistic(Base):
    r"""A logistic density cut into L bins: a probability mass over the integers 0..L-1.

    With integers mapped to \( u = 2x/(L-1) - 1 \in [-1, 1] \) and half a bin \( h = 1/(L-1) \),
    \[ P(x) = \sigma((u + h - \mu)/s) - \sigma((u - h - \mu)/s), \]
    where the first bin reaches down to minus infinity and the last one up to infinity, so the masses sum to 1. The
    difference is computed as a product, \( e^{-b}(1 - e^{-(a-b)}) \sigma(a) \sigma(b) \) in logarithms, which stays
    exact where both terms are close to 0 or to 1.

    References:
        Kingma et al., "Improved variational inference with inverse autoregressive flow", 2016,
        https://arxiv.org/abs/1606.04934, section C.
        Salimans et al., "PixelCNN++", 2017, https://arxiv.org/abs/1701.05517, equation 2.

    Args:
        loc: location \( \mu \) on the scale where the data span [-1, 1].
        scale: scale \( s > 0 \) on the same scale.
        num_levels: L.
    """

    parameters = ("loc", "scale")
    arg_constraints: dict[str, constraints.Constraint] = {  # noqa: RUF012  (the name torch prescribes)
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    has_rsample = False

    def __init__(self, loc: Tensor, scale: Tensor, num_levels: int = 256, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        self.num_levels = num_levels
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def support(self) -> Any:
        """The integers 0..L-1."""
        return constraints.integer_interval(0, self.num_levels - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """log P(x) in nats; x holds integers of any dtype."""
        return log_mass(value.to(self.loc.dtype), self.loc, self.scale, self.num_levels)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, integers in the dtype of the parameters, shape (*sample_shape, *batch)."""
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            return draw_levels(self.loc.expand(shape), self.scale.expand(shape), self.num_levels)

    def _tails(self) -> Any:
        """P(x >= k) for k = 1..L-1, one at a time: L tensors at once would not fit for images."""
        for k in range(1, self.num_levels):
            lower, _ = _edges(torch.full_like(self.loc, k), self.loc, self.scale, self.num_levels)
            yield k, torch.sigmoid(-lower)

    @property
    def mean(self) -> Tensor:
        r"""\( E[x] = \sum_{k \ge 1} P(x \ge k) \), exact, shape (*batch)."""
        total = torch.zeros_like(self.loc)
        for _, tail in self._tails():
            total = total + tail
        return total

    @property
    def variance(self) -> Tensor:
        r"""\( E[x^2] - E[x]^2 \) with \( E[x^2] = \sum_{k \ge 1} (2k - 1) P(x \ge k) \), shape (*batch)."""
        mean, second = torch.zeros_like(self.loc), torch.zeros_like(self.loc)
        for k, tail in self._tails():
            mean = mean + tail
            second = second + (2 * k - 1) * tail
        return second - mean**2
