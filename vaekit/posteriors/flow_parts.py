"""What the flow posteriors share: the base from the first raw parameters, and the demand for dimensions."""

from math import prod

from torch import Tensor

from vaekit.distributions import Normal, Product
from vaekit.errors import ConfigError
from vaekit.networks.shapes import Shape, as_shape
from vaekit.posteriors.scale import to_scale


def check_num_flows(family: str, num_flows: int) -> None:
    """Raise a `ConfigError` unless there is at least one step."""
    if num_flows < 1:
        raise ConfigError(f"{family} expects num_flows of at least 1; got {num_flows}. DiagonalNormal has none.")


def num_dimensions(family: str, event_shape: Shape, least: int = 1) -> int:
    """D, the number of elements of z.

    Raises:
        ConfigError: if there are fewer than `least`.
    """
    size = prod(as_shape(event_shape))
    if size < least:
        raise ConfigError(
            f"{family} mixes dimensions of z and expects at least {least} of them; got {size}, a flow without enough "
            "dimensions. Use a larger latent_dim, or DiagonalNormal, Planar or Radial, which take one dimension."
        )
    return size


def base_and_rest(params: Tensor, event_shape: tuple[int, ...]) -> tuple[Product, Tensor]:
    """The diagonal normal of the first 2 D raw parameters (mean, log-variance), and the others, shape (..., rest)."""
    size = prod(event_shape)
    loc, raw, rest = params.split([size, size, params.shape[-1] - 2 * size], -1)
    shape = params.shape[:-1] + event_shape
    base = Normal(loc.reshape(shape), to_scale(raw, "log-variance").reshape(shape), validate_args=False)
    return Product(base, len(event_shape)), rest
