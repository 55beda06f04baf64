"""Decoded rows in a file of the cache, for data that are larger than memory; and whether memory and disk have room."""

import mmap
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np

from vaekit.errors import DataError

MEMORY_SHARE = 0.25  # of what is free: reading, dividing and checking data takes up to three times their size
DISK_SHARE = 0.5
_MAPPED = 2**28  # bytes of a file that may be mapped into memory
_CGROUP = Path("/sys/fs/cgroup")


class DecodedRows:
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
        folder = _folder()
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
        self._rows: np.ndarray | None = None
        if num_bytes <= _MAPPED or not hasattr(os, "preadv"):
            self._rows = np.frombuffer(mmap.mmap(descriptor, 0), self.dtype).reshape(self.shape)
        else:
            self._descriptor = os.dup(descriptor)
            weakref.finalize(self, os.close, self._descriptor)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The rows of those indices, shape (B, *X)."""
        if self._rows is not None:
            return self._rows.take(indices, axis=0)
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


def free_memory() -> int:
    """Bytes of memory that this process could still take: what the system has free, within the limit of a container."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        free = _physical_memory() // 2
    try:
        limit, used = (int((_CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        return max(0, min(free, limit - used))
    except (OSError, ValueError):  # no container, or one without a limit
        return free


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 8 * 2**30


def stays_in_memory(num_bytes: int) -> bool:
    """The rule for data that may be read or left on disk: a quarter of the free memory goes to rows, no more."""
    return num_bytes <= MEMORY_SHARE * free_memory()


def has_disk_room(num_bytes: int) -> bool:
    """Whether rows of that size may be kept in a file of the cache, which takes up to half of the free space."""
    return num_bytes <= DISK_SHARE * shutil.disk_usage(_folder()).free


def _folder() -> Path:
    from vaekit.engine.caches import cache_dir  # here: a data set can be looked up without torch

    return cache_dir("rows")


def refuse_too_large(num_bytes: int, name: str) -> None:
    """Refuse to read into memory what does not fit there.

    Raises:
        DataError: It does not.
    """
    free = free_memory()
    if num_bytes > 0.9 * free:
        raise DataError(
            f"{name!r} is on disk, and this needs all of it in memory: {num_bytes / 2**30:.1f} GiB, of which "
            f"{free / 2**30:.1f} GiB are free. Hand over fewer rows: data.take(indices)."
        )


def no_room(num_bytes: int) -> str:
    """What to say where the disk has no room for decoded rows."""
    folder = _folder()
    free = shutil.disk_usage(folder).free
    return (
        f"decoded, the rows take {num_bytes / 2**30:.1f} GiB, and {folder} has {free / 2**30:.1f} GiB free, half of "
        f"which may be used. Set VAEKIT_CACHE to a folder on a larger disk"
    )
