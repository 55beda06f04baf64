"""Uniform noise that is a function of a row's own values: the same draw wherever and whenever the row is met."""

import math

import torch
from torch import Tensor

from vaekit.transforms.base import as_floating

_MINUS_ZERO, _INFINITY = -(2**31), 0x7F800000  # the bits of float32; those of NaN lie above the latter
_GOLDEN = -7046029254386353131  # 2**64 over the golden ratio, as int64


def _mix(value: Tensor) -> Tensor:
    """A bijective scrambling of int64 (the finaliser of SplitMix64), elementwise; products wrap around."""
    value = (value ^ ((value >> 30) & 0x3FFFFFFFF)) * -4658895280553007687
    value = (value ^ ((value >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685
    return value ^ ((value >> 31) & 0x1FFFFFFFF)


def _places(size: int, seed: int, device: torch.device) -> Tensor:
    """A number for each element of a row, shape (D,), int64."""
    return _mix(torch.arange(1, size + 1, device=device) * _GOLDEN + seed)


def row_hashes(x: Tensor, seed: int = 0) -> Tensor:
    """A number for each row that depends on its values in float32 and the seed alone, shape (N,), int64.

    8, 8.0 and 8.0 in another precision are one number, so are the zeros of both signs and all NaN.

    Args:
        x: rows of shape (N, *X).
        seed: any integer; counted modulo 2**64.
    """
    seed = _int64(seed)
    bits = x.to(torch.float32).contiguous().view(torch.int32)
    if x.is_floating_point():  # on the bits: arithmetic would lose denormal numbers where a thread flushes them
        bits = torch.where(bits == _MINUS_ZERO, 0, bits)
        bits = torch.where((bits & ~_MINUS_ZERO) > _INFINITY, _INFINITY + 1, bits)
    bits = bits.to(torch.int64).flatten(1)
    return _mix((bits * (_places(bits.shape[1], seed, x.device) | 1)).sum(1) + seed)


def content_noise(
    x: Tensor, seed: int, shape: tuple[int, ...] | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """Uniform noise in [0, 1) that depends on a row's own values and the seed, not on where the row stands.

    Values count in float32: 8-bit integers, float32 and float64 of the same numbers get the same noise, up to the
    rounding of the noise itself. Rows that differ get independent noise.

    Args:
        x: data of shape (N, *X).
        seed: any integer; another seed gives another draw.
        shape: event shape of the noise; None takes X.
        dtype: of the noise; None takes that of x, or what `as_floating` makes of integers.

    Returns:
        Noise of shape (N, *X), or (N, *shape). Equal rows get equal noise.
    """
    dtype = as_floating(x[:0]).dtype if dtype is None else dtype
    shape = tuple(x.shape[1:]) if shape is None else shape
    return hashed_noise(row_hashes(x, seed), seed, shape, dtype)


def hashed_noise(hashes: Tensor, seed: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Uniform noise in [0, 1) that depends on a number for each row and on the seed.

    Args:
        hashes: shape (N,), int64, well mixed: `row_hashes` or `key_hashes`.
        seed: any integer; counted modulo 2**64.
        shape: event shape of the noise.
        dtype: of the noise.

    Returns:
        Noise of shape (N, *shape).
    """
    mixed = _mix(hashes.unsqueeze(1) + _places(math.prod(shape), _int64(seed), hashes.device))
    uniform = ((mixed >> 11) & 0x1FFFFFFFFFFFFF).to(torch.float64).mul(2.0**-53).to(dtype)
    return uniform.reshape(len(hashes), *shape).clamp(max=1 - torch.finfo(dtype).eps / 2)


def key_hashes(keys: Tensor, seed: int) -> Tensor:
    """A number for each row that depends on its key and the seed alone, shape (N,), int64.

    Args:
        keys: integers of shape (N,), such as the numbers of the rows in their data set.
        seed: any integer; counted modulo 2**64.
    """
    return _mix(_mix(keys.to(torch.int64) * _GOLDEN + _int64(seed)) + _int64(seed))


def _int64(seed: int) -> int:
    """The seed modulo 2**64, as a signed number."""
    return (seed + 2**63) % 2**64 - 2**63
