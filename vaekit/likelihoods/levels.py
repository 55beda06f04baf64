"""Likelihoods of levels: categorical, ordinal, and logistic distributions cut into levels."""

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import CoupledDiscretizedLogisticMixture, OrdinalCategorical, Product, RaggedCategorical
from vaekit.distributions import DiscretizedLogistic as DiscretizedLogisticDistribution
from vaekit.distributions import DiscretizedLogisticMixture as MixtureDistribution
from vaekit.distributions.columns import ragged, ragged_places
from vaekit.distributions.discrete import check_num_classes
from vaekit.distributions.product import Missing
from vaekit.errors import ConfigError
from vaekit.shapes import Shape, as_shape


class Categorical(ConditionalDistribution):
    r"""Categorical likelihood of integers.

    \( p(x|z) = \prod_i \pi_{i, x_i} \) for integers x in 0..C-1: any shape of mass, C parameters per element.

    Use it for categories and, with 256 classes, for pixels whose distribution has several peaks. For smooth images
    `DiscretizedLogistic` needs two parameters instead of 256. Columns of a table may have different numbers of levels.

    References:
        van den Oord et al., "Pixel recurrent neural networks", 2016, https://arxiv.org/abs/1601.06759, section 3.3.

    Args:
        event_shape: shape of x.
        num_classes: C, or one number for each element of an event of shape (D,).
        missing: "observed-only" leaves NaN elements of x out of log p.

    Raises:
        ConfigError: if C < 2, or there are not as many numbers as elements.

    Example:
        >>> import torch
        >>> Categorical(2, num_classes=(2, 4))(torch.zeros(1, 6)).log_prob(torch.tensor([[1.0, 3.0]])).exp()
        tensor([0.1250])
    """

    autocast_params = True
    levels_argument = "num_classes"

    _places: Tensor

    def __init__(self, event_shape: Shape, num_classes: int | Sequence[int] = 256, missing: Missing = "error") -> None:
        if isinstance(num_classes, int):
            check_num_classes("Categorical", num_classes)
            super().__init__(event_shape, num_params=num_classes)
        else:
            num_classes = check_sizes("Categorical", event_shape, num_classes)
            super().__init__(event_shape, param_shape=(sum(num_classes),))
            self.register_buffer("_places", ragged_places(num_classes), persistent=False)
        self.num_classes, self.missing = num_classes, missing
        self.num_levels = num_classes if isinstance(num_classes, int) else 0

    def forward(self, params: Tensor) -> Product:
        """Unnormalised log-probabilities to p(x|z): of shape (..., C, *event), or (..., sum of C_d) for several C."""
        if isinstance(self.num_classes, int):
            logits = params.movedim(-len(self.event_shape) - 1, -1)
            return Product(
                OrdinalCategorical(logits=logits, validate_args=False), len(self.event_shape), missing=self.missing
            )
        base = RaggedCategorical(ragged(params, self._places), self.num_classes, validate_args=False)
        return Product(base, 1, missing=self.missing)


def check_sizes(family: str, event_shape: Shape, sizes: Sequence[int]) -> tuple[int, ...]:
    """Numbers of levels, one for each element of a vector, each at least 2.

    Raises:
        ConfigError: if they are not.
    """
    event, sizes = as_shape(event_shape), tuple(int(size) for size in sizes)
    if event != (len(sizes),):
        raise ConfigError(f"{family} takes a number of levels for each of the elements {event}; got {len(sizes)}")
    check_num_classes(family, min(sizes))
    return sizes


class Ordinal(ConditionalDistribution):
    r"""Likelihood of levels in their order, by cumulative logits.

    \( P(x_d \le k | z) = \sigma(\theta_{dk} - \eta_d(z)) \) for levels 0..C_d - 1: the network moves a latent
    score \( \eta_d \) across thresholds \( \theta_{d1} < \theta_{d2} < \dots \) that are the same for every z.

    Use it for grades, answers on a scale and sizes: one parameter per column instead of C, and neighbouring levels are
    alike. `Categorical` has no order and can give mass to both ends at once.

    References:
        McCullagh, "Regression models for ordinal data", 1980, https://doi.org/10.1111/j.2517-6161.1980.tb01109.x.

    Args:
        event_shape: shape of x.
        num_classes: C, or one number for each element of an event of shape (D,).
        missing: "observed-only" leaves NaN elements of x out of log p.

    Raises:
        ConfigError: if a C is below 2, or there are not as many numbers as elements.

    Example:
        >>> import torch
        >>> Ordinal(1, num_classes=3)(torch.zeros(1, 1, 1)).log_prob(torch.tensor([[0.0]])).detach().exp()
        tensor([0.3333])
    """

    levels_argument = "num_classes"

    def __init__(self, event_shape: Shape, num_classes: int | Sequence[int] = 5, missing: Missing = "error") -> None:
        super().__init__(event_shape, num_params=1)
        self.num_classes, self.missing = num_classes, missing
        self.num_levels = num_classes if isinstance(num_classes, int) else 0
        if isinstance(num_classes, int):
            check_num_classes("Ordinal", num_classes)
            sizes: tuple[int, ...] = (num_classes,) * prod(self.event_shape)
        else:
            sizes = check_sizes("Ordinal", event_shape, num_classes)
        self._sizes = sizes
        # Thresholds at which a score of 0 gives each level the same mass, as a first value and positive steps.
        start = torch.zeros(len(sizes), max(sizes) - 1)
        for d, size in enumerate(sizes):
            start[d, : size - 1] = torch.logit(torch.arange(1, size) / size)
        start = start.reshape(*self.event_shape, -1)
        self.first = nn.Parameter(start[..., :1].clone())
        steps = start.diff(dim=-1).clamp(min=1e-2)
        self.steps = nn.Parameter(torch.log(torch.expm1(steps))) if steps.numel() else None

    def thresholds(self) -> Tensor:
        """The thresholds of each element in their order, shape (*event, C - 1), those of missing levels too."""
        if self.steps is None:  # two levels have one threshold
            return self.first
        return torch.cat([self.first, self.first + F.softplus(self.steps).cumsum(-1)], -1)

    def forward(self, params: Tensor) -> Product:
        """Scores of shape (..., 1, *event) to p(x|z)."""
        (score,) = self.unbind(params)
        masses = self._log_masses(self.thresholds() - score.unsqueeze(-1))
        base: Distribution = OrdinalCategorical(masses, validate_args=False)
        if not isinstance(self.num_classes, int):
            base = RaggedCategorical(masses, self._sizes, validate_args=False)
        return Product(base, len(self.event_shape), missing=self.missing)

    def _log_masses(self, edges: Tensor) -> Tensor:
        """log[sigma(b) - sigma(a)] = log sigma(b) + log sigma(-a) + log(1 - exp(a - b)) between edges a < b."""
        below, above = F.logsigmoid(edges), F.logsigmoid(-edges)
        inner = below[..., 1:] + above[..., :-1] + torch.log(-torch.expm1(edges[..., :-1] - edges[..., 1:]))
        masses = torch.cat([below[..., :1], inner, above[..., -1:]], -1)
        if isinstance(self.num_classes, int):
            return masses
        level = torch.arange(masses.shape[-1], device=masses.device)
        last = torch.tensor(self._sizes, device=masses.device).unsqueeze(-1) - 1
        # The last level of a column with fewer levels reaches up to infinity, and those above it are not there.
        masses = torch.where(level == last, torch.cat([below[..., :1], above], -1), masses)
        return torch.where(level > last, -torch.inf, masses)


_INITIAL = -1.0  # softplus(-1) = 0.31: a third of the half-range, so that no level starts with a mass near zero


def level_scale(raw: Tensor, min_scale: float) -> Tensor:
    """The scale of a logistic density of levels that span [-1, 1], from the network's value."""
    return min_scale + F.softplus(raw + _INITIAL)


class DiscretizedLogistic(ConditionalDistribution):
    """A logistic density cut at the integers 0..L-1: the mass of 8-bit images, comparable in bits per dimension.

    Use it for grey or colour images as they are stored; the encoder may see them rescaled (`networks.RescaleInput`).

    References:
        Kingma et al., "Improved variational inference with inverse autoregressive flow", 2016,
        https://arxiv.org/abs/1606.04934.

    Args:
        event_shape: shape of x.
        num_levels: L, 256 for 8-bit images.
        min_scale: floor of the scale, where the L levels span [-1, 1].
        missing: "observed-only" leaves NaN elements of x out of log p.

    Raises:
        ConfigError: if L < 2 or the floor is not positive.
    """

    min_scale: float
    levels_argument = "num_levels"

    def __init__(
        self, event_shape: Shape, num_levels: int = 256, min_scale: float = 1e-3, missing: Missing = "error"
    ) -> None:
        if num_levels < 2:
            raise ConfigError(f"DiscretizedLogistic expects at least 2 levels; got {num_levels}")
        if min_scale <= 0:
            raise ConfigError(f"min_scale is positive; got {min_scale}")
        super().__init__(event_shape, num_params=2)
        self.num_levels, self.min_scale, self.missing = num_levels, float(min_scale), missing

    def forward(self, params: Tensor) -> Product:
        """(location, raw scale) of shape (..., 2, *event) to p(x|z)."""
        loc, raw = self.unbind(params)
        scale = level_scale(raw, self.min_scale)
        base = DiscretizedLogisticDistribution(loc, scale, self.num_levels, validate_args=False)
        return Product(base, len(self.event_shape), missing=self.missing)


class DiscretizedLogisticMixture(ConditionalDistribution):
    r"""Mixture of discretised logistics: a likelihood of 8-bit images with several peaks and coupled channels.

    \( P(x|z) = \prod_i \sum_k \pi_{ik} P(x_i; \mu_{ik}, s_{ik}) \) for integers x in 0..L-1, K components each.

    Colour images (C, H, W) with C > 1 have one component per pixel, not per element, and each channel's location
    depends linearly on the channels before it (red, then green, then blue); tables and images of one channel have no
    coupling. Use it where `DiscretizedLogistic` is too simple: several plausible values, a background of exactly 0,
    colours that vary together. It costs K times the time and memory; where K = 1 suffices, take that one.

    At the start the K locations are spread over the levels, so that the components differ.

    References:
        Salimans et al., "PixelCNN++", 2017, https://arxiv.org/abs/1701.05517, sections 2.1 and 2.2.

    Args:
        event_shape: shape of x.
        num_components: K; 10 in the paper.
        num_levels: L, 256 for 8-bit images.
        min_scale: floor of the scales, where the L levels span [-1, 1].
        missing: "observed-only" leaves NaN elements of x out of log p; not for coupled channels, which would need a
            sum over the missing one.

    Raises:
        ConfigError: if K < 1, L < 2, the floor is not positive, or elements of coupled channels may be missing.

    Example:
        >>> import torch
        >>> head = DiscretizedLogisticMixture((3, 8, 8), num_components=10)
        >>> head.param_shape  # 10 weights, 3 x 10 locations, 3 x 10 scales and 3 x 10 couplings per pixel
        (100, 8, 8)
        >>> head(torch.zeros(2, 100, 8, 8)).sample().shape
        torch.Size([2, 3, 8, 8])
    """

    min_scale: float
    levels_argument = "num_levels"

    def __init__(
        self,
        event_shape: Shape,
        num_components: int = 5,
        num_levels: int = 256,
        min_scale: float = 1e-3,
        missing: Missing = "error",
    ) -> None:
        if num_components < 1:
            raise ConfigError(f"DiscretizedLogisticMixture expects at least 1 component; got {num_components}")
        if num_levels < 2:
            raise ConfigError(f"DiscretizedLogisticMixture expects at least 2 levels; got {num_levels}")
        if not min_scale > 0:
            raise ConfigError(f"min_scale is positive; got {min_scale}")
        event = as_shape(event_shape)
        channels = event[0] if len(event) == 3 else 1
        if channels > 1 and missing != "error":
            raise ConfigError(
                f"missing={missing!r} needs elements that are independent given z, but the {channels} channels of "
                f"{event} are coupled. Use DiscretizedLogistic or Categorical."
            )
        per_pixel = num_components * (1 + 2 * channels + channels * (channels - 1) // 2)
        if channels > 1:
            super().__init__(event, param_shape=(per_pixel, *event[1:]))
        else:
            super().__init__(event, num_params=per_pixel)
        self.num_components, self.num_levels = num_components, num_levels
        self.min_scale, self.missing, self.channels = float(min_scale), missing, channels

    def forward(self, params: Tensor) -> Distribution:
        """(weights, locations, raw scales[, raw couplings]), of shape (..., *param_shape), to p(x|z)."""
        place = -len(self.param_shape)
        k, c = self.num_components, self.channels
        if c == 1:
            logits, loc, raw = (part.movedim(place, -1) for part in params.split(k, place))
            scale = level_scale(raw, self.min_scale)
            base = MixtureDistribution(logits, self._spread(loc), scale, self.num_levels, validate_args=False)
            return Product(base, len(self.event_shape), missing=self.missing)
        logits, loc, raw, coupling = params.split([k, c * k, c * k, c * (c - 1) // 2 * k], place)
        loc, raw, coupling = (part.unflatten(-3, (-1, k)).movedim(-3, -1) for part in (loc, raw, coupling))
        scale = level_scale(raw, self.min_scale)
        return CoupledDiscretizedLogisticMixture(
            logits.movedim(-3, -1), self._spread(loc), scale, torch.tanh(coupling), self.num_levels
        )

    def _spread(self, loc: Tensor) -> Tensor:
        """Locations around the middles of K equal parts of [-1, 1]."""
        index = torch.arange(self.num_components, dtype=loc.dtype, device=loc.device)
        return loc + ((2 * index + 1) / self.num_components - 1)
