"""Levels in their order: categories by number, and logistic distributions cut into levels."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical, Distribution, MixtureSameFamily, constraints
from torch.distributions.utils import broadcast_all

from vaekit.distributions.base import Base
from vaekit.shapes import broadcast_shapes


class OrdinalCategorical(Categorical):
    r"""torch's `Categorical` read as a distribution over integers: \( E[x] = \sum_c c\, p_c \) exists.

    torch leaves mean and variance undefined (NaN) because classes need not be ordered; grey levels are.

    Example:
        >>> import torch
        >>> OrdinalCategorical(logits=torch.zeros(3)).mean
        tensor(1.)
    """

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        # Of values of 10^6 torch's `logits - logsumexp(logits)` leaves one digit.
        self.logits = self._param = torch.log_softmax(logits, -1)
        self._num_events = logits.shape[-1]
        Distribution.__init__(self, logits.shape[:-1], validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> "OrdinalCategorical":
        """The same distribution, repeated over `batch_shape`."""
        logits = self.logits.expand(torch.Size(batch_shape) + self.logits.shape[-1:])
        return OrdinalCategorical(logits=logits, validate_args=False)

    @property
    def _levels(self) -> Tensor:
        return torch.arange(self.logits.shape[-1], device=self.logits.device, dtype=self.logits.dtype)

    @property
    def mean(self) -> Tensor:
        """E[x], shape (*batch)."""
        return (self.probs * self._levels).sum(-1)

    @property
    def variance(self) -> Tensor:
        """Var[x], shape (*batch)."""
        return (self.probs * (self._levels - self.mean.unsqueeze(-1)) ** 2).sum(-1)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws as integers in the dtype of the parameters, as every other likelihood of numbers returns them."""
        result: Tensor = super().sample(torch.Size(sample_shape)).to(self.logits.dtype)  # type: ignore[no-untyped-call]
        return result

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats; x holds integers of any dtype."""
        index = value.long().unsqueeze(-1)
        logits = self.logits
        shape = broadcast_shapes(index.shape[:-1], logits.shape[:-1])
        # Index is expanded, logits are not copied: gather reads them through their strides.
        return logits.expand(*shape, -1).gather(-1, index.expand(*shape, 1)).squeeze(-1)


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
    def support(self) -> constraints.Constraint:
        """The integers 0..L-1."""
        return constraints.integer_interval(0, self.num_levels - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """log P(x) in nats; x holds integers of any dtype."""
        return log_mass(value.to(self.loc.dtype), self.loc, self.scale, self.num_levels)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws, integers in the dtype of the parameters, shape (*sample_shape, *batch)."""
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            return draw_levels(self.loc.expand(shape), self.scale.expand(shape), self.num_levels)

    def _tails(self) -> Iterator[tuple[int, Tensor]]:
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


def _chosen(values: Tensor, index: Tensor) -> Tensor:
    """The entries of the last dimension of `values` that `index` names; both broadcast."""
    shape = broadcast_shapes(values.shape[:-1], index.shape)
    return values.expand(*shape, -1).gather(-1, index.expand(shape).unsqueeze(-1)).squeeze(-1)


class DiscretizedLogisticMixture(MixtureSameFamily):
    r"""\( P(x) = \sum_k \pi_k P_k(x) \) over the integers 0..L-1, each \( P_k \) a `DiscretizedLogistic`.

    References:
        Salimans et al., "PixelCNN++", 2017, https://arxiv.org/abs/1701.05517, equation 1.

    Args:
        logits: log-weights of the K components, shape (*batch, K), not normalised.
        loc: locations where the levels span [-1, 1], shape (*batch, K).
        scale: scales on the same axis, shape (*batch, K).
        num_levels: L.

    Example:
        >>> import torch
        >>> d = DiscretizedLogisticMixture(torch.zeros(2), torch.tensor([-1.0, 1.0]), torch.full((2,), 0.01), 3)
        >>> d.log_prob(torch.arange(3)).exp()
        tensor([5.0000e-01, 1.9287e-22, 5.0000e-01])
    """

    def __init__(
        self, logits: Tensor, loc: Tensor, scale: Tensor, num_levels: int = 256, validate_args: bool | None = None
    ) -> None:
        self.loc, self.scale, self.num_levels = loc, scale, num_levels
        components = DiscretizedLogistic(loc, scale, num_levels, validate_args=validate_args)
        super().__init__(Categorical(logits=logits, validate_args=validate_args), components, validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> "DiscretizedLogisticMixture":
        """The same distribution, repeated over `batch_shape`."""
        own = (self.mixture_distribution.logits, self.loc, self.scale)
        logits, loc, scale = (part.expand(*batch_shape, part.shape[-1]) for part in own)
        return DiscretizedLogisticMixture(logits, loc, scale, self.num_levels, validate_args=False)

    @property
    def support(self) -> constraints.Constraint | None:
        """The integers 0..L-1."""
        return self.component_distribution.support

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws, integers in the dtype of the parameters, shape (*sample_shape, *batch): component, then level."""
        with torch.no_grad():
            index = self.mixture_distribution.sample(torch.Size(sample_shape))
            return draw_levels(_chosen(self.loc, index), _chosen(self.scale, index), self.num_levels)


class CoupledDiscretizedLogisticMixture(Base):
    r"""Pixels of C channels: one component per pixel, and channels whose location depends on those before.

    \[ P(x) = \prod_{pixels} \sum_k \pi_k \prod_c P(x_c;\ \mu_{kc} + \sum_{j<c} w_{kcj} u_j,\ s_{kc}),
       \qquad u = 2x/(L-1) - 1, \]
    with P a `DiscretizedLogistic`. Draws are ancestral: component, first channel, second channel given the first.

    `mean` puts the expected channels before into each component's location. It is exact for the first channel; for
    the following ones it is exact up to the clipping at the levels 0 and L - 1, and `has_exact_mean` says so.

    References:
        Salimans et al., "PixelCNN++", 2017, https://arxiv.org/abs/1701.05517, section 2.2.

    Args:
        logits: log-weights of the K components, shape (*batch, H, W, K), not normalised.
        loc: \( \mu \) where the levels span [-1, 1], shape (*batch, C, H, W, K).
        scale: s on the same axis, shape (*batch, C, H, W, K).
        coupling: w, shape (*batch, C (C - 1) / 2, H, W, K), in the order (1, 0), (2, 0), (2, 1), (3, 0) ...
        num_levels: L.
    """

    parameters = ("logits", "loc", "scale", "coupling")
    has_rsample = False
    has_exact_mean = False

    def __init__(self, logits: Tensor, loc: Tensor, scale: Tensor, coupling: Tensor, num_levels: int = 256) -> None:
        self.logits, self.loc, self.scale, self.coupling = logits, loc, scale, coupling
        self.num_levels = num_levels
        super().__init__(loc.shape[:-4], loc.shape[-4:-1], validate_args=False)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(batch_shape={tuple(self.batch_shape)}, event_shape={tuple(self.event_shape)})"

    @property
    def support(self) -> constraints.Constraint:
        """Events of the integers 0..L-1."""
        return constraints.independent(constraints.integer_interval(0, self.num_levels - 1), 3)

    def _channels(self) -> Iterator[tuple[Tensor, Tensor, list[Tensor]]]:
        """Location, scale and couplings to the channels before, of one channel after the other: (*batch, H, W, K)."""
        first = 0
        for c in range(self.event_shape[0]):
            weights = [self.coupling[..., first + j, :, :, :] for j in range(c)]
            yield self.loc[..., c, :, :, :], self.scale[..., c, :, :, :], weights
            first += c

    def log_prob(self, value: Tensor) -> Tensor:
        """log P(x) in nats, shape (*batch,); x holds integers of any dtype."""
        value = value.to(self.loc.dtype).unsqueeze(-1)
        total = torch.log_softmax(self.logits, -1)
        before: list[Tensor] = []
        for c, (loc, scale, weights) in enumerate(self._channels()):
            level = value[..., c, :, :, :]
            for weight, u in zip(weights, before, strict=True):
                loc = loc + weight * u
            total = total + log_mass(level, loc, scale, self.num_levels)
            before.append(centred(level, self.num_levels))
        return total.logsumexp(-1).sum((-1, -2))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws, integers in the dtype of the parameters, shape (*sample_shape, *batch, C, H, W)."""
        with torch.no_grad():
            index = Categorical(logits=self.logits, validate_args=False).sample(torch.Size(sample_shape))
            levels: list[Tensor] = []
            for loc, scale, weights in self._channels():
                place = _chosen(loc, index)
                for weight, level in zip(weights, levels, strict=True):
                    place = place + _chosen(weight, index) * centred(level, self.num_levels)
                levels.append(draw_levels(place, _chosen(scale, index), self.num_levels))
            return torch.stack(levels, -3)

    @property
    def mean(self) -> Tensor:
        """E[x] with the expected channels before in each component's location, shape (*batch, C, H, W)."""
        means: list[Tensor] = []  # per component
        for loc, scale, weights in self._channels():
            for weight, mean in zip(weights, means, strict=True):
                loc = loc + weight * centred(mean, self.num_levels)
            means.append(DiscretizedLogistic(loc, scale, self.num_levels, validate_args=False).mean)
        return (torch.stack(means, -4) * torch.softmax(self.logits, -1).unsqueeze(-4)).sum(-1)
