"""Convolutions that are faster as one matrix product: to or from a single pixel, or from a few by a large kernel."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_Sizes = int | Sequence[int]


def convolves(network: nn.Module) -> bool:
    """Whether there are convolutions of images in `network`."""
    return any(isinstance(module, nn.Conv2d | nn.ConvTranspose2d) for module in network.modules())


def matrix_products(x: Tensor, convolves: bool) -> AbstractContextManager[Any]:
    """`MatrixProducts` where a network `convolves` on a CPU; elsewhere a context that does nothing.

    Nothing in a graph, too: torch's compiler does not follow all of a module within such a context.
    """
    applies = convolves and x.device.type == "cpu" and not torch.compiler.is_compiling()
    return MatrixProducts() if applies else nullcontext()


class MatrixProducts(TorchFunctionMode):
    """While it is active, some 2-D convolutions are computed by one matrix product.

    Those whose output or input is a single pixel, which end many encoders and begin many decoders: the product leaves
    out the taps of the kernel that meet nothing but padding, and torch is two to fourteen times slower, gradients
    included. And, in full precision, transposed ones whose kernel holds at least twice as many numbers as the input:
    torch's way of laying out the kernel then costs more than to add up the product's columns. Shapes alone decide.
    """

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The function's value, by whichever way."""
        kwargs = kwargs or {}
        result = None
        if func is torch.conv2d:
            result = _to_pixel(*args, **kwargs)
        elif func is torch.conv_transpose2d:
            result = _transposed(*args, **kwargs)
        return func(*args, **kwargs) if result is None else result


def _pair(sizes: _Sizes) -> tuple[int, ...]:
    return (sizes, sizes) if isinstance(sizes, int) else tuple(sizes)


def _is_plain(x: Tensor, groups: int, dilation: _Sizes) -> bool:
    return x.ndim == 4 and groups == 1 and set(_pair(dilation)) == {1}


def _to_pixel(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: _Sizes = 1,
    padding: _Sizes | str = 0,
    dilation: _Sizes = 1,
    groups: int = 1,
) -> Tensor | None:
    """`torch.conv2d` where its output has one pixel; None elsewhere."""
    if not _is_plain(input, groups, dilation) or isinstance(padding, str):
        return None
    window = []
    for size, kernel, step, pad in zip(input.shape[2:], weight.shape[2:], _pair(stride), _pair(padding), strict=True):
        seen = min(kernel - pad, size)
        if not 0 <= size + 2 * pad - kernel < step or seen < 1:
            return None
        window.append(slice(pad, pad + seen))
    rows, columns = window
    x, w = input[..., : rows.stop - rows.start, : columns.stop - columns.start], weight[..., rows, columns]
    if weight.is_contiguous(memory_format=torch.channels_last):
        x, w = x.permute(0, 2, 3, 1), w.permute(0, 2, 3, 1)
    return F.linear(x.flatten(1), w.flatten(1), bias)[..., None, None]


def _transposed(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: _Sizes = 1,
    padding: _Sizes = 0,
    output_padding: _Sizes = 0,
    groups: int = 1,
    dilation: _Sizes = 1,
) -> Tensor | None:
    """`torch.conv_transpose2d` where its input has one pixel, or its kernel is large beside it; None elsewhere."""
    if not _is_plain(input, groups, dilation):
        return None
    extra = _pair(output_padding)
    if tuple(input.shape[2:]) == (1, 1):
        y = _from_pixel(input, weight, _pair(padding), extra)
    elif weight.numel() >= 2 * input.numel() and not torch.is_autocast_enabled(input.device.type):
        y = _by_columns(input, weight, _pair(stride), _pair(padding), extra)
    else:
        return None
    return y if y is None or bias is None else y + bias.to(y.dtype)[:, None, None]


def _from_pixel(x: Tensor, weight: Tensor, padding: tuple[int, ...], extra: tuple[int, ...]) -> Tensor | None:
    """The part of the kernel that the padding leaves, times the pixel; None where there is more than the kernel."""
    window = []
    for kernel, pad, more in zip(weight.shape[2:], padding, extra, strict=True):
        stop = kernel - pad + more
        if not pad < stop <= kernel:
            return None
        window.append(slice(pad, stop))
    w = weight[..., window[0], window[1]]
    return (x.flatten(1) @ w.flatten(1)).unflatten(1, w.shape[1:])


def _by_columns(
    x: Tensor, weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...], extra: tuple[int, ...]
) -> Tensor:
    """A kernel for each pixel, scaled by one product of all pixels and the kernels, and added up where they overlap."""
    sizes = zip(x.shape[2:], weight.shape[2:], stride, padding, extra, strict=True)
    out = tuple((size - 1) * step - 2 * pad + kernel + more for size, kernel, step, pad, more in sizes)
    columns = x.permute(0, 2, 3, 1).flatten(0, 2) @ weight.flatten(1)
    return F.fold(columns.unflatten(0, (len(x), -1)).transpose(1, 2), out, weight.shape[2:], 1, padding, stride)
