"""Networks whose outputs see only the inputs before them: masked perceptrons and masked convolutions."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaekit.errors import ConfigError
from vaekit.shapes import activation, as_shape

_SMALL = 0.1  # of the usual size of the last layer's weights


class MaskedLinear(nn.Linear):
    """A linear layer some of whose weights are 0 for good.

    Args:
        mask: which weights are there, shape (out, in), booleans. A layer without any weight has a bias alone.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask, persistent=False)
        if not bool(mask.any()):
            self.weight.requires_grad_(False)  # it has no effect, and an optimiser nothing to do with it

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        return F.linear(x, self.weight * self.mask, self.bias)


class MaskedMLP(nn.Module):
    r"""P groups of inputs to P groups of outputs, where output group i sees the input groups before i alone.

    Each hidden unit has a degree d in 1..P-1 and sees input groups 1..d; output group i sees hidden units of degree
    below i. One pass gives all conditionals of an autoregressive model; the first group of outputs is a constant. With
    a context there are units of degree 0, too, which see the context alone, and every output depends on it.

    References:
        Germain et al., "MADE: masked autoencoder for distribution estimation", 2015, https://arxiv.org/abs/1502.03509.

    Args:
        num_positions: P.
        in_features: inputs per position.
        out_features: outputs per position.
        hidden: widths of the hidden layers, each at least P - 1 (P with a context), so that every degree occurs.
        activation: as in `MLP`.
        context: entries of the context; 0 for none.

    Raises:
        ConfigError: if a hidden layer is too narrow, or a context meets no hidden layer.

    Example:
        >>> import torch
        >>> MaskedMLP(3, in_features=4, out_features=2)(torch.zeros(5, 3, 4)).shape
        torch.Size([5, 3, 2])
    """

    def __init__(
        self,
        num_positions: int,
        in_features: int = 1,
        out_features: int = 1,
        hidden: Sequence[int] = (128,),
        activation: str = "relu",
        context: int = 0,
    ) -> None:
        super().__init__()
        self.num_positions, self.in_features, self.out_features = num_positions, in_features, out_features
        self.hidden, self.activation, self.context = as_shape(tuple(hidden), "hidden"), activation, context
        self.in_shape, self.out_shape = (num_positions, in_features), (num_positions, out_features)
        num_degrees = num_positions - 1 + bool(context)
        narrow = [width for width in self.hidden if width < num_degrees]
        if narrow:
            raise ConfigError(
                f"{num_positions} positions need hidden layers of at least {num_degrees} units, one per degree; "
                f"got {narrow[0]}"
            )
        if context and not self.hidden:
            raise ConfigError("a context enters at the first hidden layer; got hidden=()")
        self.layers = self._build()
        self.of_context = nn.Linear(context, self.hidden[0], bias=False) if context else None

    def _build(self) -> nn.Sequential:
        positions = torch.arange(1, self.num_positions + 1)
        degrees, layers = positions.repeat_interleave(self.in_features), []
        least = 0 if self.context else 1
        for width in self.hidden if self.num_positions > least else ():  # a single position sees nothing
            next_degrees = least + torch.arange(width) % (self.num_positions - least)
            layers += [MaskedLinear(next_degrees.unsqueeze(1) >= degrees), activation(self.activation)]
            degrees = next_degrees
        outputs = positions.repeat_interleave(self.out_features)
        return nn.Sequential(*layers, MaskedLinear(outputs.unsqueeze(1) > degrees))

    @torch.no_grad()
    def start_small(self) -> "MaskedMLP":
        """Bring the outputs near 0, so that a flow made of them starts near the identity; returns the network."""
        last = self.layers[-1]
        assert isinstance(last, MaskedLinear)
        last.weight.mul_(_SMALL)
        last.bias.zero_()
        return self

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(..., P, in_features), and a context (..., entries) that broadcasts with it, to (..., P, out_features)."""
        h = self.layers[0](x.flatten(-2))
        if self.of_context is not None:
            h = h + self.of_context(context)
        result: Tensor = self.layers[1:](h).unflatten(-1, self.out_shape)
        return result


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
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


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
        result: Tensor = self.last(F.elu(h)).unflatten(1, (-1, self.num_levels))
        return result
