"""From raw numbers to what distributions take: scales, positive parameters, a diagonal Gaussian."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaekit.distributions.normal import Normal
from vaekit.distributions.product import Product
from vaekit.errors import ConfigError
from vaekit.raw import positive_of, softplus_from_one

BELOW_ONE = 1 - 1e-6  # keeps what must stay above -1 away from it, where rounding would make a determinant 0


def above_minus_one(raw: Tensor) -> Tensor:
    """Any numbers to numbers above -1, with 0 at 0."""
    return BELOW_ONE * (softplus_from_one(raw) - 1)


def normal_of(params: Tensor) -> Product:
    """N(mean, diag scale^2) from (mean, raw scale) side by side, shape (..., 2 D): zeros give N(0, I)."""
    loc, raw = params.chunk(2, -1)
    return Product(Normal(loc, positive_of(raw), validate_args=False), 1)


def normal_of_maps(params: Tensor) -> Product:
    """The flat N(mean, diag scale^2) from maps (mean, raw scale) side by side, shape (..., 2 C, H, W)."""
    loc, raw = (part.flatten(-3) for part in params.chunk(2, -3))
    return Product(Normal(loc, positive_of(raw), validate_args=False), 1)


def check_scale(family: str, scale: str, kinds: Sequence[str]) -> None:
    """Raise a `ConfigError` unless `scale` is one of `kinds`."""
    if scale not in kinds:
        raise ConfigError(f"{family} expects scale in {', '.join(kinds)}; got {scale!r}")


def to_scale(raw: Tensor, kind: str) -> Tensor:
    r"""The scale of v: "log-variance" \( e^{v/2} \), "exp" \( e^v \), "softplus" \( \log(1 + e^v) \), or
    "softplus-variance" \( \sqrt{\log(1 + e^v)} \).

    The variance stays a normal number of v's dtype: densities divide by it. Below, the scale keeps its least value, and
    the gradient of its logarithm that of the link, so that v finds its way back.
    """
    least = math.log(torch.finfo(raw.dtype).tiny) + 0.01  # beyond what rounding may take away
    if kind == "log-variance":
        return torch.exp(0.5 * _at_least(raw, least))
    if kind == "exp":
        return torch.exp(_at_least(raw, 0.5 * least))
    scale = F.softplus(_at_least(raw, least if kind == "softplus-variance" else 0.5 * least))
    return scale.sqrt() if kind == "softplus-variance" else scale


def _at_least(raw: Tensor, least: float) -> Tensor:
    """The larger of both, with the gradient of `raw` everywhere."""
    return torch.where(raw < least, least + (raw - raw.detach()), raw)


PositiveKind = float | Literal["learned", "per-dimension", "network"]

_KINDS = ("learned", "per-dimension", "network")
_LINEAR = 16.0  # above it the exponential goes on as a straight line: 9 million, where float32 stops counting


def log_positive(raw: Tensor) -> Tensor:
    r"""\( \log \mathrm{positive}(r) \): r up to 16, the logarithm of a straight line above."""
    return raw.clamp(max=_LINEAR) + torch.log1p((raw - _LINEAR).clamp(min=0))


def positive(raw: Tensor) -> Tensor:
    r"""\( e^r \) up to r = 16, continued as a straight line: one step of an optimiser changes it by a factor.

    The exponential of a network's output overflows before the first step has taken effect; the line keeps values and
    gradients finite and never flat.
    """
    return raw.clamp(max=_LINEAR).exp() * (1 + (raw - _LINEAR).clamp(min=0))


class PositiveParameter(nn.Module):
    r"""\( \theta = \theta_{min} + f(r) \) with a positive link f, or a fixed number.

    Args:
        event_shape: shape of x.
        value: a number (fixed), "learned" (one value), "per-dimension" (one per element) or "network" (r from the
            decoder).
        name: what the parameter is called in messages.
        floor: \( \theta_{min} > 0 \), of parameters that are not fixed.
        initial: f(0), where the default link starts.
        link: f; None is \( f(r) = \) `positive`\( (r + \log \) initial).

    Attributes:
        num_params: how many parameters per element the network has to give: 1 or 0.

    Raises:
        ConfigError: for another word, or a number that is not positive.
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        value: PositiveKind,
        *,
        name: str,
        floor: float,
        initial: float = 1.0,
        link: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        if not floor > 0:
            raise ConfigError(f"min_{name} is positive; got {floor}")
        if isinstance(value, str):
            if value not in _KINDS:
                raise ConfigError(f'{name} is a number, "learned", "per-dimension" or "network"; got {value!r}')
        elif not 0 < value < math.inf:
            raise ConfigError(f"a fixed {name} is positive; got {value}")
        self.kind, self.floor, self.initial, self.link = value, float(floor), float(initial), link
        self.num_params = 1 if value == "network" else 0
        if isinstance(value, str) and value != "network":
            self.raw = nn.Parameter(torch.zeros(event_shape if value == "per-dimension" else ()))
        elif not isinstance(value, str):
            # Not a buffer: a fixed value is configuration, and follows the dtype of what it is used with.
            self.fixed = float(value)

    def forward(self, like: Tensor, raw: Tensor | None) -> Tensor:
        """The parameter, broadcastable to `like`; `raw` are the network's values where the kind is "network"."""
        if not isinstance(self.kind, str):
            return like.new_full((), self.fixed)
        raw = self.raw if raw is None else raw
        return self.floor + (positive(raw + math.log(self.initial)) if self.link is None else self.link(raw))
