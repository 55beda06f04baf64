"""Decoded rows in a file without a name: the memory of data that are larger than memory."""

import mmap
import os
import tempfile
import weakref
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import torch

from vaekit.engine.caches import cache_dir
from vaekit.errors import DataError

_MAPPED = 2**28  # bytes of a file that may be mapped into memory


class Spool:
    """N rows of one shape and dtype in a temporary file of the cache folder.

    The file has no name and ends with the process, however that ends. Its room is reserved at once, so that a full
    disk is an error now and not one later. Small files are mapped into memory, and a batch costs what it costs there.
    Of large ones each row is read: pages of a map would count as memory of this process until the whole file does.
    The system keeps what was read lately in memory that nobody else needs.

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
        num_bytes = shape[0] * self._row_bytes
        folder = cache_dir("rows")
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                _reserve(file.fileno(), num_bytes)
                for block in blocks:
                    file.write(np.ascontiguousarray(block, dtype).data)
                file.flush()
                if file.tell() != num_bytes:
                    raise DataError(f"The data changed while they were read: not {shape[0]} rows. Load them again.")
                self._open(file.fileno(), num_bytes)
        except OSError as error:
            raise DataError(f"Cannot keep decoded rows in {folder}: {error.strerror or error}.") from error

    def _open(self, descriptor: int, num_bytes: int) -> None:
        self._rows: torch.Tensor | None = None
        if num_bytes <= _MAPPED or not hasattr(os, "preadv"):
            mapped = np.frombuffer(mmap.mmap(descriptor, 0), self.dtype)
            self._rows = torch.from_numpy(mapped.reshape(self.shape))
        else:
            self._descriptor = os.dup(descriptor)
            weakref.finalize(self, os.close, self._descriptor)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The rows of those indices, shape (B, *X)."""
        if self._rows is not None:
            return self._rows.index_select(0, torch.from_numpy(np.ascontiguousarray(indices))).numpy()
        rows = np.empty((len(indices), *self.shape[1:]), self.dtype)
        memory = memoryview(rows.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
        starts = np.flatnonzero(np.diff(indices, prepend=-2) != 1).tolist()  # of runs of neighbours, each one read
        for start, stop in pairwise([*starts, len(indices)]):
            self._fill(memory[start * self._row_bytes : stop * self._row_bytes], int(indices[start]) * self._row_bytes)
        return rows

    def _fill(self, memory: memoryview, offset: int) -> None:
        while len(memory):
            num_read = os.preadv(self._descriptor, [memory], offset)
            if num_read <= 0:
                raise DataError("The file of decoded rows ended too early. Load the data again.")
            memory, offset = memory[num_read:], offset + num_read


def _reserve(descriptor: int, num_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, num_bytes)
    else:
        os.truncate(descriptor, num_bytes)
