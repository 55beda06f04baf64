"""Residual blocks, and the pyramids of feature maps that they make."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaekit.errors import ShapeError
from vaekit.shapes import Shape, as_image_shape, as_shape

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
        result: Tensor = h + self.second(F.silu(self.first(F.silu(h))))
        return result


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


class ConvPyramid(nn.Module):
    """The way up: residual blocks on ever smaller maps, with features of x for each latent layer, concatenated flat.

    References:
        Vahdat & Kautz, "NVAE", 2020, https://arxiv.org/abs/2007.03898; Child, "Very deep VAEs", 2021,
        https://arxiv.org/abs/2011.10650.

    Args:
        in_shape: (C, H, W), or (H, W) for one channel.
        maps: shapes (c, H, W) of the latent layers, from the one next to x to the top.
        channels: features per element of a map.

    Example:
        >>> ConvPyramid((1, 8, 8), maps=((2, 4, 4), (4, 2, 2)), channels=16).out_shape
        (320,)
    """

    def __init__(self, in_shape: Shape, maps: Sequence[Sequence[int]], channels: int = 32) -> None:
        super().__init__()
        self.in_shape, self.maps, self.channels = as_shape(in_shape, "in_shape"), as_maps(maps), channels
        self._image_shape = as_image_shape(in_shape, "in_shape")
        self.out_shape = (channels * sum(height * width for _, height, width in self.maps),)
        self.enter = nn.Conv2d(self._image_shape[0], channels, 3, padding=1)
        self.first = ResidualBlock(channels)
        self.blocks = nn.ModuleList(ResidualBlock(channels) for _ in self.maps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, *in_shape) to (B, features of all layers)."""
        h = self.first(self.enter(x.reshape(len(x), *self._image_shape)))
        features = []
        for shape, block in zip(self.maps, self.blocks, strict=True):
            h = block(F.adaptive_avg_pool2d(h, shape[1:]))
            features.append(h.flatten(1))
        return torch.cat(features, 1)


class ConvTopDown(nn.Module):
    """The way down to x: starts from a learned map, takes in each layer of z where its sides are met, ends as an image.

    All layers reach x, the upper ones through the state that the lower ones are added to.

    References:
        Child, "Very deep VAEs", 2021, https://arxiv.org/abs/2011.10650.

    Args:
        maps: shapes (c, H, W) of the latent layers, from the one next to x to the top; z is flat.
        image_shape: (C, H, W) or (H, W) of the image that the likelihood describes; only its sides matter here.
        channels: features per element of a map.

    Example:
        >>> network = ConvTopDown(((2, 4, 4), (4, 2, 2)), (1, 8, 8), channels=16)
        >>> network.in_shape, network.out_shape
        ((48,), (16, 8, 8))
    """

    def __init__(self, maps: Sequence[Sequence[int]], image_shape: Shape, channels: int = 32) -> None:
        super().__init__()
        self.maps, self.channels, self.image_shape = as_maps(maps), channels, as_shape(image_shape, "image_shape")
        sides = as_image_shape(image_shape, "image_shape")[1:]
        self.in_shape, self.out_shape = (sum(sizes_of(self.maps)),), (channels, *sides)
        self.start = nn.Parameter(0.1 * torch.randn(channels, *self.maps[-1][1:]))
        ends = (sides, *(shape[1:] for shape in self.maps))
        self.steps = nn.ModuleList(Descent(channels, shape, ends[i]) for i, shape in enumerate(self.maps))

    def forward(self, z: Tensor) -> Tensor:
        """(B, sum of all maps) to (B, channels, H, W)."""
        h: Tensor = self.start
        for step, part in zip(list(self.steps)[::-1], z.split(sizes_of(self.maps), -1)[::-1], strict=True):
            h = step(h, part)
        return h
