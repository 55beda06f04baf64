"""Event shapes and shapes of batches, and the activations between layers of these shapes."""

from collections.abc import Callable, Sequence
from itertools import zip_longest
from math import prod, sqrt
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from vaekit.errors import ArgumentTypeError, ConfigError, ShapeError

Shape = int | Sequence[int]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky-relu": lambda: nn.LeakyReLU(0.2),
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
}

# With these, signals keep about their size from layer to layer; those that are not named do so with the root of 2.
_GAINS = {"tanh": 5 / 3, "leaky-relu": sqrt(2 / (1 + 0.2**2)), "softplus": 1.0}


def as_shape(shape: Shape, name: str = "shape") -> tuple[int, ...]:
    """An int or a sequence of positive ints as a tuple.

    Raises:
        ShapeError: if a side is below 1 or not an integer.
    """
    sides: tuple[Any, ...] = (shape,) if isinstance(shape, Integral | int) else tuple(shape)
    if not all(isinstance(side, Integral) and int(side) >= 1 for side in sides):
        raise ShapeError(f"{name} is a positive int or a tuple of them; got {shape!r}")
    return tuple(int(side) for side in sides)


def check_count(value: object, name: str, least: int = 1) -> None:
    """Raise a `ConfigError` unless a value is an int (or numpy's) from `least` on: no text, no fraction, no bool."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise ArgumentTypeError(f"{name} is an int; got {value!r} ({type(value).__name__})")
    if int(value) < least:
        raise ConfigError(f"{name} is at least {least}; got {value}")


def as_image_shape(shape: Shape, name: str) -> tuple[int, int, int]:
    """(C, H, W), or (H, W) read as one channel.

    Raises:
        ShapeError: for any other number of dimensions.
    """
    sides = as_shape(shape, name)
    if len(sides) == 2:
        sides = (1, *sides)
    if len(sides) != 3:
        raise ShapeError(f"{name} of a convolutional network is (C, H, W) or (H, W); got {tuple(sides)}")
    return sides[0], sides[1], sides[2]


def as_vector(family: str, shape: Shape, least: int = 1) -> tuple[int, ...]:
    """The shape of an event of one dimension.

    Raises:
        ShapeError: for more dimensions, or fewer than `least` entries.
    """
    sides = as_shape(shape)
    if len(sides) != 1 or sides[0] < least:
        entries = f" with at least {least} entries" if least > 1 else ""
        raise ShapeError(f"{family} takes events of one dimension{entries}; got shape {sides}. Flatten z.")
    return sides


def num_dimensions(family: str, event_shape: Shape, num_flows: int, *, least: int = 2, instead: str) -> int:
    """D, the number of elements of z, for a flow, which asks for dimensions to mix and at least one step.

    Args:
        family: name of the posterior or prior.
        event_shape: shape of z.
        num_flows: K.
        least: the least D.
        instead: what has no steps and takes any D.

    Raises:
        ConfigError: if there are fewer dimensions, or no step.
    """
    if num_flows < 1:
        raise ConfigError(f"{family} expects num_flows of at least 1; got {num_flows}. {instead} has none.")
    size = prod(as_shape(event_shape))
    if size < least:
        raise ConfigError(
            f"{family} mixes dimensions of z and expects at least {least} of them; got {size}, a flow without enough "
            f"dimensions. Use a larger latent_dim, or {instead}."
        )
    return size


def activation(name: str) -> nn.Module:
    """A new activation module.

    Raises:
        ConfigError: if there is none of that name.
    """
    if name not in _ACTIVATIONS:
        raise ConfigError(f"activation is one of {', '.join(_ACTIVATIONS)}; got {name!r}")
    return _ACTIVATIONS[name]()


def gain(name: str) -> float:
    """Standard deviation of a weight, times the root of its fan-in, before the activation of that name."""
    return _GAINS.get(name, sqrt(2.0))


def broadcast_shapes(*shapes: Sequence[int]) -> torch.Size:
    """The shape that tensors of these shapes broadcast to; torch's function of this name loads sympy, half a second.

    Raises:
        ShapeError: if they do not broadcast.
    """
    sizes = []
    for column in zip_longest(*(reversed(shape) for shape in shapes), fillvalue=1):
        size = next((n for n in column if n != 1), 1)
        if any(n not in (1, size) for n in column):
            raise ShapeError(f"shapes {', '.join(str(tuple(shape)) for shape in shapes)} do not broadcast")
        sizes.append(size)
    return torch.Size(sizes[::-1])


def near(value: Tensor, spikes: Tensor) -> Tensor:
    """Which of the spikes, shape (D, S), values of shape (..., D) are, up to the rounding of float32: (..., D, S)."""
    tolerance = 4 * torch.finfo(torch.float32).eps * spikes.abs().clamp(min=1)
    return (value.unsqueeze(-1) - spikes).abs() <= tolerance
