"""Decoded rows in a file of the cache, for data that are larger than memory; and whether memory and disk have room."""

import math
import mmap
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np

from vaekit.data.once_here import any_here, num_here, written_once
from vaekit.errors import DataError

MEMORY_SHARE = 0.25  # of what is free: reading, dividing and checking data takes up to three times their size
DISK_SHARE = 0.5
_MAPPED = 2**28  # bytes of a file that may be mapped into memory
_CGROUP = Path("/sys/fs/cgroup")


class DecodedRows:
    """N rows of one shape and dtype in a file, of which each can be read by itself.

    Small files are mapped into memory, and a batch costs what it costs there. Of large ones each row is read: pages of
    a map would count as memory of this process until the whole file does. The system keeps what was read lately in
    memory that nobody else needs.

    Args:
        shape: shape (N, *X).
        dtype: of the rows, in native byte order.
        descriptor: of the file, which is open for reading and is closed with the rows.
        offset: where the first row begins.
    """

    is_decoded = True

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, descriptor: int, offset: int = 0) -> None:
        self.shape, self.dtype = shape, dtype
        self._row_bytes = math.prod(shape[1:]) * dtype.itemsize
        self._descriptor, self._offset = descriptor, offset
        num_bytes = shape[0] * self._row_bytes
        self._rows: np.ndarray | None = None
        if 0 < num_bytes <= _MAPPED or not hasattr(os, "preadv"):
            mapped = mmap.mmap(descriptor, offset + num_bytes, access=mmap.ACCESS_READ)
            self._rows = np.frombuffer(mapped, dtype, math.prod(shape), offset).reshape(shape)
            os.close(descriptor)
        else:
            weakref.finalize(self, os.close, descriptor)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The rows of those indices, shape (B, *X)."""
        if self._rows is not None:
            return self._rows.take(indices, axis=0)
        rows = np.empty((len(indices), *self.shape[1:]), self.dtype)
        memory = memoryview(rows.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
        starts = np.flatnonzero(np.diff(indices, prepend=-2) != 1).tolist()  # of runs of neighbours, each one read
        for start, stop in pairwise([*starts, len(indices)]):
            place = self._offset + int(indices[start]) * self._row_bytes
            self._fill(memory[start * self._row_bytes : stop * self._row_bytes], place)
        return rows

    def _fill(self, memory: memoryview, offset: int) -> None:
        while len(memory):
            num_read = os.preadv(self._descriptor, [memory], offset)
            if num_read <= 0:
                raise DataError("The file of decoded rows ended too early. Load the data again.")
            memory, offset = memory[num_read:], offset + num_read


def decoded(shape: tuple[int, ...], dtype: np.dtype, blocks: Iterable[np.ndarray]) -> DecodedRows:
    """Write rows to a temporary file of the cache folder.

    The file has no name and ends with the process, however that ends. Its room is reserved at once, so that a full
    disk is an error now and not one later. Processes that read the same data together (`once_here.shared`) write one
    file on each machine.

    Args:
        shape: shape (N, *X).
        dtype: of the rows.
        blocks: the rows in order, in pieces of any size; drawn on where the file is written.

    Raises:
        DataError: if the file cannot be written.
        GroupError: if another process was to write it, and could not.
    """
    num_bytes = math.prod(shape) * dtype.itemsize

    def write(beat: Callable[[], None]) -> int:
        folder = rows_folder()
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                _reserve(file.fileno(), num_bytes)
                for block in blocks:
                    file.write(np.ascontiguousarray(block, dtype).data)
                    beat()
                file.flush()
                if file.tell() != num_bytes:
                    raise DataError(f"The data changed while they were read: not {shape[0]} rows. Load them again.")
                return os.dup(file.fileno())
        except OSError as error:
            raise DataError(f"Cannot keep decoded rows in {folder}: {error.strerror or error}.") from error

    return DecodedRows(shape, dtype, written_once(write))


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
    """The rule for data that may be read or left on disk: a quarter of the free memory goes to rows, no more.

    Of processes that read the same data each holds all of them in memory, and all decide alike.
    """
    return not any_here(num_bytes * num_here() > MEMORY_SHARE * free_memory())


def has_disk_room(num_bytes: int) -> bool:
    """Whether rows of that size may be kept in a file of the cache, which takes up to half of the free space."""
    return not any_here(num_bytes > DISK_SHARE * shutil.disk_usage(rows_folder()).free)


def rows_folder() -> Path:
    """Where rows are kept on disk."""
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
    folder = rows_folder()
    free = shutil.disk_usage(folder).free
    return (
        f"decoded, the rows take {num_bytes / 2**30:.1f} GiB, and {folder} has {free / 2**30:.1f} GiB free, half of "
        f"which may be used. Set VAEKIT_CACHE to a folder on a larger disk"
    )
