"""Convolutions that are faster as one matrix product: to or from a single pixel, or from a few of many channels."""

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MOST_PIXELS, _LEAST_CHANNELS = 16, 512  # of an input whose transposed convolution is taken apart

Network = TypeVar("Network", bound=nn.Module)


class Conv2d(nn.Conv2d):
    """torch's layer; where its output is a single pixel, on a CPU, it is computed by a matrix product.

    Such layers end many encoders. The product leaves out the taps of the kernel that meet nothing but padding, and
    torch's own way takes two to fourteen times as long there, gradients included.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y = _to_pixel(self, input, weight, bias)
        return super()._conv_forward(input, weight, bias) if y is None else y


_Layer = nn.Conv2d | nn.ConvTranspose2d


class ConvTranspose2d(nn.ConvTranspose2d):
    """torch's layer; where its input is a single pixel, or few of many channels, a matrix product on a CPU.

    Such layers begin many decoders. Which way is taken depends on shapes alone.
    """

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """As torch's, whose arguments these are."""
        y = None if output_size is not None else _transposed(self, input)
        return super().forward(input, output_size) if y is None else y


def adopt(network: Network) -> Network:
    """Let torch's convolutions in `network` be the layers above: the same objects, parameters and hooks.

    It changes the class of layers whose class is exactly torch's; a user's own classes do what they say. Use it for
    encoders that end in a single pixel and decoders that begin with one; no other layer gets faster.

    Args:
        network: any module; its values and gradients stay the same up to rounding.

    Returns:
        The network itself.

    Example:
        >>> adopt(nn.Sequential(nn.Conv2d(1, 8, 4), nn.Flatten()))(torch.zeros(5, 1, 4, 4)).shape
        torch.Size([5, 8])
    """
    for module in network.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = Conv2d
        elif type(module) is nn.ConvTranspose2d:
            module.__class__ = ConvTranspose2d
    return network


def can_gain(channels: int, sides: tuple[int, int]) -> bool:
    """Whether a layer to or from a map of these channels and sides may be faster adopted."""
    pixels = sides[0] * sides[1]
    return pixels == 1 or (pixels <= _MOST_PIXELS and channels >= _LEAST_CHANNELS)


def _is_plain(layer: _Layer, x: Tensor) -> bool:
    """Whether x is a batch of images on a CPU, and the layer one that is described by pairs of sizes alone.

    Not where the layer is recorded to be run elsewhere (torch.export, torch.jit): there a convolution is one, whatever
    the size of the batch.
    """
    pairs = (layer.kernel_size, layer.stride, layer.padding)
    is_described = all(isinstance(sizes, tuple) and len(sizes) == 2 for sizes in pairs)
    undivided = layer.groups == 1 and set(layer.dilation) == {1} and layer.padding_mode == "zeros"
    if not (is_described and undivided and x.ndim == 4 and x.device.type == "cpu") or _is_recorded():
        return False
    return x.shape[1] == layer.in_channels and x.numel() > 0  # of other channels torch says best what is wrong


def _padding(layer: _Layer) -> tuple[int, ...]:
    """Of a layer that is plain; words such as "same" are none."""
    return () if isinstance(layer.padding, str) else layer.padding


def _is_recorded() -> bool:
    is_exporting = getattr(torch.compiler, "is_exporting", None)  # torch has it since 2.7
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return bool(tracing or (is_exporting is not None and is_exporting()))


def _to_pixel(layer: _Layer, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
    """The layer's output where it has one pixel; None elsewhere."""
    if not _is_plain(layer, x):
        return None
    sizes = zip(x.shape[2:], weight.shape[2:], layer.stride, _padding(layer), strict=True)
    window = []
    for size, kernel, step, pad in sizes:
        seen = min(kernel - pad, size)
        if not 0 <= size + 2 * pad - kernel < step or seen < 1:
            return None
        window.append(slice(pad, pad + seen))
    rows, columns = window
    x, w = x[..., : rows.stop - rows.start, : columns.stop - columns.start], weight[..., rows, columns]
    if weight.stride(1) < weight.stride(3):  # channels innermost
        x, w = x.permute(0, 2, 3, 1), w.permute(0, 2, 3, 1)
    return F.linear(x.flatten(1), w.flatten(1), bias)[..., None, None]


def _transposed(layer: nn.ConvTranspose2d, x: Tensor) -> Tensor | None:
    """The layer's output where a matrix product is faster; None elsewhere."""
    if not _is_plain(layer, x) or len(layer.output_padding) != 2:
        return None
    y = _from_pixel(layer, x) if tuple(x.shape[2:]) == (1, 1) else _by_columns(layer, x)
    return y if y is None or layer.bias is None else y + layer.bias.to(y.dtype)[:, None, None]


def _from_pixel(layer: nn.ConvTranspose2d, x: Tensor) -> Tensor | None:
    """The part of the kernel that the padding leaves, times the pixel; None where there is more than the kernel."""
    window = []
    weight, sizes = (
        layer.weight,
        zip(layer.kernel_size, layer.stride, _padding(layer), layer.output_padding, strict=True),
    )
    for kernel, step, pad, more in sizes:
        stop = kernel - pad + more
        if not pad < stop <= kernel or more >= step:
            return None
        window.append(slice(pad, stop))
    w = weight[..., window[0], window[1]]
    out: Tensor = (x.flatten(1) @ w.flatten(1)).unflatten(1, w.shape[1:])
    return out


def _by_columns(layer: nn.ConvTranspose2d, x: Tensor) -> Tensor | None:
    """A kernel for each pixel, scaled by one product of all pixels and the kernels, and added up where they overlap.

    For few pixels of many channels beside a kernel of twice their numbers at least, where torch spends its time on the
    layout of the kernel; in full precision, for overlaps would be rounded one by one; and where each element of the
    output has at most four of them.
    """
    weight, pixels = layer.weight, x.shape[2] * x.shape[3]
    few = pixels <= _MOST_PIXELS and x.shape[1] >= _LEAST_CHANNELS and weight.numel() >= 2 * x.numel()
    overlaps = layer.kernel_size[0] * layer.kernel_size[1] / (layer.stride[0] * layer.stride[1])
    if not few or overlaps > 4 or torch.is_autocast_enabled(x.device.type):
        return None
    sizes = zip(x.shape[2:], layer.kernel_size, layer.stride, _padding(layer), layer.output_padding, strict=True)
    out = tuple((size - 1) * step - 2 * pad + kernel + more for size, kernel, step, pad, more in sizes)
    columns = (x.permute(0, 2, 3, 1).flatten(0, 2) @ weight.flatten(1)).unflatten(0, (-1, pixels)).transpose(1, 2)
    return F.fold(columns, out, layer.kernel_size, 1, _padding(layer), layer.stride)
