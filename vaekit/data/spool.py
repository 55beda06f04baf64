"""Decoded rows in a file without a name: the memory of data that are larger than memory."""

import mmap
import os
import tempfile
from collections.abc import Iterable

import numpy as np
import torch

from vaekit.engine.caches import cache_dir
from vaekit.errors import DataError

_RESIDENT = 2**28  # bytes of the file that may count as memory of this process before it hands them back
_NEIGHBOURHOOD = 2**16  # what the system maps around a row that is touched


class Spool:
    """N rows of one shape and dtype in a temporary file of the cache folder, mapped into memory page by page.

    The file has no name and ends with the process, however that ends. Its room is reserved at once, so that a full
    disk is an error now and not a crash later. The system keeps recently used pages in memory that nobody else needs;
    this process gives its own view of them back every 256 MiB.

    Args:
        shape: shape (N, *X).
        dtype: of the rows.
        blocks: the rows in order, in pieces of any size.

    Raises:
        DataError: if the file cannot be written.
    """

    is_decoded = True

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, blocks: Iterable[np.ndarray]) -> None:
        self.shape, self.dtype = shape, dtype
        self._row_bytes = int(np.prod(shape[1:])) * dtype.itemsize
        folder = cache_dir("rows")
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                _reserve(file.fileno(), shape[0] * self._row_bytes)
                for block in blocks:
                    file.write(np.ascontiguousarray(block, dtype).data)
                file.flush()
                if file.tell() != shape[0] * self._row_bytes:
                    raise DataError(f"The data changed while they were read: not {shape[0]} rows. Load them again.")
                self._map = mmap.mmap(file.fileno(), 0)
        except OSError as error:
            raise DataError(f"Cannot keep decoded rows in {folder}: {error.strerror or error}.") from error
        self._rows = torch.from_numpy(np.frombuffer(self._map, dtype).reshape(shape))
        self._touched = 0

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The rows of those indices, shape (B, *X)."""
        rows = self._rows.index_select(0, torch.from_numpy(np.ascontiguousarray(indices)))
        self._touched += len(indices) * max(self._row_bytes, _NEIGHBOURHOOD)
        if self._touched > _RESIDENT and hasattr(self._map, "madvise"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._touched = 0
        return rows.numpy()


def _reserve(descriptor: int, num_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, num_bytes)
    else:
        os.truncate(descriptor, num_bytes)
