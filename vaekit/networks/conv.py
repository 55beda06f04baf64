"""Convolutional networks of stride-2 blocks, for images of any size from 8 x 8 up."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from vaekit import contrib
from vaekit.networks.context import modulated, run
from vaekit.shapes import Shape, activation, as_image_shape, as_shape

_CHANNELS = (32, 64, 128, 256)


def _halved(sides: tuple[int, int], times: int) -> list[tuple[int, int]]:
    """The sides before and after each of `times` stride-2 convolutions (kernel 3, padding 1): n becomes ceil(n / 2)."""
    steps = [sides]
    for _ in range(times):
        height, width = steps[-1]
        steps.append(((height + 1) // 2, (width + 1) // 2))
    return steps


def _channels_last(thing: Any) -> Any:
    """A tensor, or the weights of a module, with channels innermost: convolutions and batch norm are faster so."""
    return thing.to(memory_format=torch.channels_last)


def _run(blocks: nn.Sequential, x: Tensor, bears_low_precision: bool, context: Tensor | None = None) -> Tensor:
    """The blocks with channels innermost; in full precision where low precision cannot be trusted.

    On maps with a side of 1, taps of a 3 x 3 kernel meet nothing but padding, and torch's bfloat16 kernels for CPUs
    leave the gradients of such taps as they find the memory.
    """
    if bears_low_precision or not torch.is_autocast_enabled(x.device.type):
        return run(blocks, _channels_last(x), context)
    with torch.autocast(x.device.type, enabled=False):
        return run(blocks, _channels_last(x.to(next(blocks.parameters()).dtype)), context)


def default_channels(sides: tuple[int, int]) -> tuple[int, ...]:
    """Up to four blocks, as many as leave at least two rows and columns: batch norm then sees more than one value."""
    blocks = 1
    while blocks < len(_CHANNELS) and min(_halved(sides, blocks + 1)[-1]) >= 2:
        blocks += 1
    return _CHANNELS[:blocks]


class ConvEncoder(nn.Module):
    """Blocks of convolution (3 x 3, stride 2), batch norm and leaky ReLU (slope 0.2).

    Use it for images.

    References:
        Radford et al., "Unsupervised representation learning with deep convolutional generative adversarial networks",
        2016, https://arxiv.org/abs/1511.06434.

    Args:
        in_shape: (C, H, W), or (H, W) for one channel; any sides, odd and unequal ones too.
        channels: output channels of each block; None takes up to four blocks of 32, 64, 128, 256.
        activation: see `MLP`.
        batch_norm: whether blocks normalise.
        context_dim: see `MLP`.

    Example:
        >>> ConvEncoder((3, 45, 28)).out_shape
        (256, 3, 2)
    """

    def __init__(
        self,
        in_shape: Shape,
        channels: Sequence[int] | None = None,
        activation: str = "leaky-relu",
        batch_norm: bool = True,
        context_dim: int = 0,
    ) -> None:
        super().__init__()
        self.in_shape = as_shape(in_shape, "in_shape")
        self._image_shape = as_image_shape(in_shape, "in_shape")
        sides = self._image_shape[1:]
        self.channels = as_shape(tuple(channels or default_channels(sides)), "channels")
        self.activation, self.batch_norm, self.context_dim = activation, batch_norm, context_dim
        self.blocks = self._build()
        steps = _halved(sides, len(self.channels))
        self.out_shape = (self.channels[-1], *steps[-1])
        if contrib.can_gain(self.channels[-1], steps[-1]):
            contrib.adopt(self.blocks)
        self.bears_low_precision = min(map(min, steps[:-1])) >= 2

    def _build(self) -> nn.Sequential:
        layers: list[nn.Module] = []
        incoming = self._image_shape[0]
        for outgoing in self.channels:
            layers.append(nn.Conv2d(incoming, outgoing, 3, stride=2, padding=1, bias=not self.batch_norm))
            layers += [nn.BatchNorm2d(outgoing)] if self.batch_norm else []
            layers.append(activation(self.activation))
            incoming = outgoing
        result: nn.Sequential = _channels_last(modulated(layers, self.context_dim))
        return result

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(B, *in_shape), and contexts (B, E) where it takes any, to (B, channels[-1], H', W')."""
        return _run(self.blocks, x.reshape(x.shape[0], *self._image_shape), self.bears_low_precision, context)


class ConvDecoder(nn.Module):
    """The mirror of `ConvEncoder`: a linear layer, then blocks of transposed convolution, batch norm and leaky ReLU.

    The result has the sides of the image and the channels of the last block; `Conditional` adds the 1 x 1 convolution
    that makes distribution parameters of it.

    References:
        Radford et al., "Unsupervised representation learning with deep convolutional generative adversarial networks",
        2016, https://arxiv.org/abs/1511.06434.

    Args:
        in_shape: event shape of z.
        image_shape: (C, H, W) or (H, W) of the image that the likelihood describes; only its sides matter here.
        channels: channels of each block, from deep to shallow; None mirrors the encoder's.
        activation: see `MLP`.
        batch_norm: whether blocks normalise.
        context_dim: see `MLP`.

    Example:
        >>> ConvDecoder(16, (3, 45, 28)).out_shape
        (32, 45, 28)
    """

    def __init__(
        self,
        in_shape: Shape,
        image_shape: Shape,
        channels: Sequence[int] | None = None,
        activation: str = "leaky-relu",
        batch_norm: bool = True,
        context_dim: int = 0,
    ) -> None:
        super().__init__()
        self.in_shape = as_shape(in_shape, "in_shape")
        self.image_shape = as_shape(image_shape, "image_shape")
        sides = as_image_shape(image_shape, "image_shape")[1:]
        self.channels = as_shape(tuple(channels or default_channels(sides)[::-1]), "channels")
        self.activation, self.batch_norm, self.context_dim = activation, batch_norm, context_dim
        self.out_shape = (self.channels[-1], *sides)
        steps = _halved(sides, len(self.channels))[::-1]
        self._start = (self.channels[0], *steps[0])
        self.bears_low_precision = min(steps[0]) >= 2
        self.linear = nn.Linear(prod(self.in_shape), prod(self._start))
        self.blocks = self._build(steps)
        if contrib.can_gain(self.channels[0], steps[0]):
            contrib.adopt(self.blocks)

    def _build(self, steps: list[tuple[int, int]]) -> nn.Sequential:
        layers: list[nn.Module] = []
        for incoming, outgoing, small, large in zip(
            (self.channels[0], *self.channels), self.channels, steps, steps[1:], strict=False
        ):
            # A transposed convolution gives 2n - 1; the extra row or column makes it 2n where the encoder halved 2n.
            extra = (large[0] - 2 * small[0] + 1, large[1] - 2 * small[1] + 1)
            layers.append(
                nn.ConvTranspose2d(
                    incoming, outgoing, 3, stride=2, padding=1, output_padding=extra, bias=not self.batch_norm
                )
            )
            layers += [nn.BatchNorm2d(outgoing)] if self.batch_norm else []
            layers.append(activation(self.activation))
        result: nn.Sequential = _channels_last(modulated(layers, self.context_dim))
        return result

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """(B, *in_shape), and contexts (B, E) where it takes any, to (B, channels[-1], H, W)."""
        h = self.linear(z.flatten(1)).reshape(z.shape[0], *self._start)
        return _run(self.blocks, h, self.bears_low_precision, context)
