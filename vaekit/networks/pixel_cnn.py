"""Masked convolutions: the output at a pixel depends on the pixels before it alone."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MaskedConv2d(nn.Conv2d):
    """A convolution that sees the pixels before its own in raster order, and of its own the channel groups before it.

    The channels of input and output form equally many groups, in order: red, green and blue, say.

    Args:
        in_channels: channels of the input, a multiple of the number of groups.
        out_channels: channels of the output, too.
        kernel_size: odd side of the kernel.
        num_groups: number of groups.
        sees_itself: whether a group sees itself at its own pixel; not in a first layer, whose input is the image.
        bias: as in `nn.Conv2d`.
    """

    mask: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        num_groups: int,
        sees_itself: bool,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)
        middle = kernel_size // 2
        mask = torch.zeros(out_channels, in_channels, kernel_size, kernel_size, dtype=torch.bool)
        mask[:, :, :middle] = True
        mask[:, :, middle, :middle] = True
        source = torch.arange(in_channels) * num_groups // in_channels
        target = (torch.arange(out_channels) * num_groups // out_channels).unsqueeze(1)
        mask[:, :, middle, middle] = source <= target if sees_itself else source < target
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H, W)."""
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)  # type: ignore[arg-type]


class PixelCNN(nn.Module):
    """Logits of each element of an image from the elements before it and a context: a masked layer, then residual ones.

    The order is that of the pixels, row by row, and of the channels within a pixel. A pixel does not see those before
    it that lie in the blind spot of stacked masked convolutions, to the upper right beyond the kernels' reach.

    References:
        van den Oord et al., "Conditional image generation with PixelCNN decoders", 2016,
        https://arxiv.org/abs/1606.05328.

    Args:
        image_shape: (C, H, W).
        num_levels: L, the number of values of an element.
        context_channels: channels of the context, an image of the same sides.
        channels: feature maps per channel of the image.
        num_layers: number of residual layers.
        kernel_size: odd side of the first kernel; those of the other layers have side 3.

    Attributes:
        reach: how many rows and columns away a pixel can matter.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_levels: int,
        context_channels: int,
        channels: int = 32,
        num_layers: int = 4,
        kernel_size: int = 7,
    ) -> None:
        super().__init__()
        groups, width = image_shape[0], channels * image_shape[0]
        self.num_levels, self.reach = num_levels, kernel_size // 2 + num_layers
        self.context = nn.Conv2d(context_channels, width * (num_layers + 1), 1)
        self.first = MaskedConv2d(groups, width, kernel_size, groups, sees_itself=False, bias=False)
        if image_shape == (1, 1, 1):
            self.first.weight.requires_grad_(False)  # there is nothing before a single element
        layers = [MaskedConv2d(width, width, 3, groups, sees_itself=True) for _ in range(num_layers)]
        self.layers = nn.ModuleList(layers)
        self.last = MaskedConv2d(width, groups * num_levels, 1, groups, sees_itself=True)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x, levels of shape (N, C, H, W), and a context (N, context_channels, H, W) to logits (N, C, L, H, W)."""
        contexts = self.context(context).chunk(len(self.layers) + 1, 1)
        h = self.first(2 * x / (self.num_levels - 1) - 1) + contexts[0]
        for layer, shift in zip(self.layers, contexts[1:], strict=True):
            h = h + F.elu(layer(F.elu(h)) + shift)
        return self.last(F.elu(h)).unflatten(1, (-1, self.num_levels))
