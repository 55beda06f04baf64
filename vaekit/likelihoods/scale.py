"""Location-scale likelihoods, and their scale: fixed, learned, one per dimension, or from the network."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions.product import Missing, Product
from vaekit.errors import ConfigError
from vaekit.networks.shapes import Shape

ScaleKind = float | Literal["learned", "per-dimension", "network"]

# softplus(x + _UNIT) is 1 at x = 0, so that every kind of scale starts at 1.
_UNIT = 0.5413248546129181


class ScaleParameter(nn.Module):
    r"""\( \sigma = \sigma_{min} + \mathrm{softplus}(r + c) \), with c such that \( \sigma \approx 1 \) at r = 0.

    The floor keeps the density finite: without it, a column that the decoder fits exactly drives sigma to 0 and log p
    to infinity.

    Args:
        event_shape: shape of x.
        scale: a number (fixed), "learned" (one value), "per-dimension" (one per element) or "network" (r from the
            decoder).
        min_scale: the floor \( \sigma_{min} > 0 \).

    Raises:
        ConfigError: for another word, or a number that is not positive.
    """

    def __init__(self, event_shape: tuple[int, ...], scale: ScaleKind, min_scale: float) -> None:
        super().__init__()
        if min_scale <= 0:
            raise ConfigError(f"min_scale is positive; got {min_scale}")
        if isinstance(scale, str):
            if scale not in ("learned", "per-dimension", "network"):
                raise ConfigError(f'scale is a number, "learned", "per-dimension" or "network"; got {scale!r}')
        elif not scale > 0:
            raise ConfigError(f"a fixed scale is positive; got {scale}")
        self.kind, self.min_scale = scale, float(min_scale)
        self.num_params = 1 if scale == "network" else 0
        if isinstance(scale, str) and scale != "network":
            self.raw = nn.Parameter(torch.zeros(event_shape if scale == "per-dimension" else ()))
        elif not isinstance(scale, str):
            # Not a buffer: a fixed scale is configuration, and follows the dtype of what it is used with.
            self.fixed = float(scale)

    def forward(self, like: Tensor, raw: Tensor | None) -> Tensor:
        """The scale, broadcastable to `like`; `raw` are the network's values where the kind is "network"."""
        if not isinstance(self.kind, str):
            return like.new_full((), self.fixed)
        raw = self.raw if raw is None else raw
        return self.min_scale + F.softplus(raw + _UNIT)


class LocationScale(ConditionalDistribution):
    """A product of location-scale densities: location from the network, scale as chosen. Members name their `family`.

    Args:
        event_shape: shape of x.
        scale: a number (fixed), "learned" (one value for all), "per-dimension", or "network".
        min_scale: floor of a scale that is not fixed, in units of x as the model sees it.
        missing: "observed-only" leaves NaN elements of x out of log p.

    Raises:
        ConfigError: if the scale is no positive number and none of the words.
    """

    family: Callable[..., Distribution]

    def __init__(
        self,
        event_shape: Shape,
        scale: ScaleKind = "per-dimension",
        min_scale: float = 1e-3,
        missing: Missing = "error",
    ) -> None:
        super().__init__(event_shape, num_params=2 if scale == "network" else 1)
        self.scale, self.min_scale, self.missing = scale, min_scale, missing
        self.scale_parameter = ScaleParameter(self.event_shape, scale, min_scale)

    def forward(self, params: Tensor) -> Product:
        """(location[, raw scale]) of shape (..., P, *event) to p(x|z)."""
        loc, *raw = self.unbind(params)
        scale = self.scale_parameter(loc, raw[0] if raw else None)
        base = type(self).family(loc, scale, validate_args=False)
        return Product(base, len(self.event_shape), missing=self.missing)
