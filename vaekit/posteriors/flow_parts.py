"""What the flow posteriors share: the base from the first raw parameters."""

from math import prod

from torch import Tensor

from vaekit.distributions import Normal, Product
from vaekit.distributions.links import to_scale


def base_and_rest(params: Tensor, event_shape: tuple[int, ...]) -> tuple[Product, Tensor]:
    """The diagonal normal of the first 2 D raw parameters (mean, log-variance), and the others, shape (..., rest)."""
    size = prod(event_shape)
    loc, raw, rest = params.split([size, size, params.shape[-1] - 2 * size], -1)
    shape = params.shape[:-1] + event_shape
    base = Normal(loc.reshape(shape), to_scale(raw, "log-variance").reshape(shape), validate_args=False)
    return Product(base, len(event_shape)), rest
