"""IDX files, the format of MNIST: a big-endian header (type, number of dimensions, sizes), then the values."""

import math
import re
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vaekit.data.dataset import Dataset
from vaekit.data.kinds import IMAGES, described
from vaekit.data.readers.safe_reading import BoundedGzip, reading, refuse_bomb
from vaekit.errors import DataError
from vaekit.paths import as_text

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MAX_DEFLATE = 1032  # the largest factor by which deflate can expand its input


def read_idx(path: str | Path) -> np.ndarray:
    """Read an IDX file, gzipped or not.

    Never more than one byte beyond what the header declares is read, and nothing at all where the file cannot hold
    as much as it declares.

    Args:
        path: The file; gzip is recognised by its first bytes, whatever the name.

    Returns:
        The array, in native byte order.

    Raises:
        DataError: The file cannot be read, is no IDX file, or is longer or shorter than its header says.

    References:
        Y. LeCun, C. Cortes, C. Burges, The MNIST database, http://yann.lecun.com/exdb/mnist/
    """
    path = Path(path)
    with reading(path):
        with open(path, "rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        with BoundedGzip(path) if zipped else open(path, "rb") as stream:
            shape, dtype = _read_header(stream, path)  # type: ignore[arg-type]
            num_bytes = math.prod(shape) * dtype.itemsize
            _check_capacity(num_bytes, path, zipped)
            data = _read_at_most(stream, num_bytes + 1)  # type: ignore[arg-type]
    if len(data) != num_bytes:
        came = f"only {len(data):,} are there" if len(data) < num_bytes else "more follow"
        raise DataError(
            f"{path} is damaged: its header declares shape {shape} of {dtype}, {num_bytes:,} bytes, but {came}. "
            "Copy or download it again."
        )
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def with_suffix(name: str) -> str:
    """A file's name, with .idx in the place of endings such as -idx3 and .idx1-int, of which there are many."""
    return re.sub(r"[-.]idx\d(-\w+)?(?=(\.gz)?$)", ".idx", name)


def idx_dataset(path: Path) -> Dataset:
    """Read an IDX file as a data set; 8-bit images (N, H, W) become (N, 1, H, W).

    Args:
        path: The file.

    Returns:
        The data set, without labels.
    """
    x = read_idx(path)
    about = described(x.dtype, x.ndim)
    if about["kind"] == IMAGES.name and x.ndim == 3:
        x = x[:, None]
    return Dataset(x, name=as_text(path.name), source=str(path), **about)


def _read_header(stream: BinaryIO, path: Path) -> tuple[tuple[int, ...], np.dtype]:
    magic = _read_at_most(stream, 4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in DTYPES or magic[3] == 0:
        raise DataError(
            f"{path} is not an IDX file: it starts with {magic.hex(' ') or 'nothing'}, not 00 00 TYPE DIMS."
        )
    num_dims = magic[3]
    sizes = _read_at_most(stream, 4 * num_dims)
    if len(sizes) < 4 * num_dims:
        raise DataError(f"{path} is truncated within its header of {num_dims} dimensions. Copy or download it again.")
    shape = struct.unpack(f">{num_dims}I", sizes)
    if num_dims > 8:
        raise DataError(f"{path} declares {num_dims} dimensions; at most 8 are read. Is it an IDX file?")
    return shape, np.dtype(DTYPES[magic[2]])


def _check_capacity(num_bytes: int, path: Path, zipped: bool) -> None:
    size = path.stat().st_size
    if num_bytes > size * (MAX_DEFLATE if zipped else 1):
        raise DataError(
            f"{path} is truncated: its header declares {num_bytes:,} bytes, more than its {size:,} bytes can hold. "
            "Copy or download it again."
        )
    if zipped:
        refuse_bomb(num_bytes, path)


def _read_at_most(stream: BinaryIO, num_bytes: int) -> bytearray:
    """Read `num_bytes` or up to the end; a raw stream may return less at a time."""
    data = bytearray()
    while len(data) < num_bytes and (chunk := stream.read(min(num_bytes - len(data), 2**24))):
        data += chunk
    return data
