"""Noise that is a function of a row's content, in numpy."""

from collections.abc import Sequence

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio


def _mix(value: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64, elementwise; products wrap around."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: np.ndarray = value ^ (value >> np.uint64(31))
    return result


def _places(size: int, seed: np.uint64) -> np.ndarray:
    """A number for each element of a row, shape (D,)."""
    return _mix(np.arange(1, size + 1, dtype=np.uint64) * _GOLDEN + seed)


def row_hashes(x: np.ndarray, seed: int = 0) -> np.ndarray:
    """A number for each row that depends on its values in float32 and the seed alone, shape (N,), uint64."""
    own = np.uint64(seed % 2**64)
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).reshape(len(x), -1)
    bits = np.where(bits == 0x80000000, np.uint32(0), bits)  # -0 is 0, and all NaN are one
    bits = np.where((bits & np.uint32(0x7FFFFFFF)) > 0x7F800000, np.uint32(0x7F800001), bits)
    signed = bits.view(np.int32).astype(np.int64).view(np.uint64)
    with np.errstate(over="ignore"):
        return _mix((signed * (_places(bits.shape[1], own) | np.uint64(1))).sum(1, dtype=np.uint64) + own)


def content_noise(x: np.ndarray, seed: int, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """Uniform noise on [0, 1) that depends on a row's own values and the seed: the bits that vaekit draws.

    Args:
        x: rows, shape (N, *X).
        seed: any integer.
        shape: event shape of the noise.
        dtype: of the noise.

    Returns:
        Shape (N, *shape).
    """
    size = int(np.prod(shape))
    with np.errstate(over="ignore"):
        mixed = _mix(row_hashes(x, seed)[:, None] + _places(size, np.uint64(seed % 2**64)))
    uniform = ((mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53).astype(dtype)
    most = dtype.type(1 - np.finfo(dtype).eps / 2)
    result: np.ndarray = np.minimum(uniform, most).reshape(len(x), *shape)
    return result


def stream(seed: int, key: int, place: int) -> np.random.Generator:
    """The noise of one input for one row, or for one draw."""
    words = np.array([seed % 2**64, key % 2**64], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=words, counter=np.array([0, 0, 0, place], dtype=np.uint64)))


def drawn(kind: str, source: np.random.Generator, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """Standard normal or uniform noise."""
    if kind == "normal":
        return source.standard_normal(tuple(shape)).astype(dtype)
    uniform = source.random(tuple(shape)).astype(dtype)
    result: np.ndarray = np.minimum(uniform, dtype.type(1 - np.finfo(dtype).eps / 2))
    return result
