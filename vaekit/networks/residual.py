"""What convolutional hierarchies are made of: residual blocks, and one step on the way down."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod

import torch.nn.functional as F
from torch import Tensor, nn

from vaekit.errors import ShapeError
from vaekit.shapes import as_image_shape

Maps = tuple[tuple[int, int, int], ...]


def as_maps(shapes: Sequence[Sequence[int]]) -> Maps:
    """Shapes (C, H, W) of several latent maps, from the layer next to x to the top.

    Raises:
        ShapeError: if one is no such shape, or a map is larger than the one below it.
    """
    maps = tuple(as_image_shape(tuple(shape), "a latent map") for shape in shapes)
    for below, above in pairwise(maps):
        if above[1] > below[1] or above[2] > below[2]:
            raise ShapeError(f"maps do not grow from the layer next to x to the top; got {below[1:]} below {above[1:]}")
    if not maps:
        raise ShapeError("a hierarchy has at least one latent map")
    return maps


def sizes_of(maps: Maps) -> tuple[int, ...]:
    """The number of elements of each map."""
    return tuple(prod(shape) for shape in maps)


def over_leading(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A function of images, for x of shape (..., C, H, W) with any leading dimensions."""
    y = function(x.reshape(-1, *x.shape[-3:]))
    return y.reshape(*x.shape[:-3], *y.shape[-3:])


class ResidualBlock(nn.Module):
    """h + conv(a(conv(a(h)))) with 3 x 3 kernels and a = SiLU; shape (B, C, H, W) stays.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, h: Tensor) -> Tensor:
        """h of shape (B, C, H, W)."""
        return h + self.second(F.silu(self.first(F.silu(h))))


class Descent(nn.Module):
    """One step down: what a layer drew is added to the state, which then grows to the sides of the next layer.

    Args:
        channels: C of the state.
        latent: shape (c, H, W) of the layer's z.
        sides: sides of the state after the step.
    """

    def __init__(self, channels: int, latent: tuple[int, int, int], sides: tuple[int, int]) -> None:
        super().__init__()
        self.latent, self.sides = latent, sides
        self.enter = nn.Conv2d(latent[0], channels, 1)
        self.block = ResidualBlock(channels)

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        """h of shape (C, H, W) or (..., C, H, W) and z of shape (..., c H W) to the next state (..., C, H', W')."""
        h = h + over_leading(self.enter, z.reshape(*z.shape[:-1], *self.latent))
        return over_leading(lambda maps: self.block(F.interpolate(maps, self.sides)), h)
