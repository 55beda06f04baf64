"""Positive parameters of likelihoods: fixed, learned, one per dimension, or from the network."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from vaekit.errors import ConfigError

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
