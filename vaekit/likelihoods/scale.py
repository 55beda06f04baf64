"""Location-scale likelihoods, and their scale: fixed, learned, one per dimension, or from the network."""

from collections.abc import Callable

from torch import Tensor
from torch.distributions import Distribution

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions.links import PositiveKind, PositiveParameter, softplus_from_one
from vaekit.distributions.product import Missing, Product
from vaekit.shapes import Shape

ScaleKind = PositiveKind


class ScaleParameter(PositiveParameter):
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
        super().__init__(event_shape, scale, name="scale", floor=min_scale, link=softplus_from_one)


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

    @property
    def scale_is_fixed(self) -> bool:
        """Whether `scale` is a number."""
        return isinstance(self.scale, float | int)

    def forward(self, params: Tensor) -> Product:
        """(location[, raw scale]) of shape (..., P, *event) to p(x|z)."""
        loc, *raw = self.unbind(params)
        scale = self.scale_parameter(loc, raw[0] if raw else None)
        base = type(self).family(loc, scale, validate_args=False)
        return Product(base, len(self.event_shape), missing=self.missing)
