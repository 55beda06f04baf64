"""Rows on disk that are asked for in batches, like those of a tensor, and read ahead by worker processes."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from typing import Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from vaekit.data.disk_cache import refuse_too_large
from vaekit.errors import DataError

MAX_WORKERS = 8
_BLOCK_BYTES = 2**24
_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
Read = Callable[[np.ndarray], np.ndarray]
Index: TypeAlias = slice | Tensor | np.ndarray


class Source(Protocol):
    """Where rows come from: N rows of one shape and dtype."""

    shape: tuple[int, ...]
    dtype: np.dtype
    is_decoded: bool  # reading is copying: worker processes would only slow it down

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The rows of those indices, shape (B, *X)."""
        ...


class StoredRows:
    """Rows that are read when they are asked for; they stand in for a tensor of shape (N, *X) in blocks.

    Args:
        source: where they come from.
        index: which of the source's rows these are, and in which order; None for all.
        name: what to call them in messages.
    """

    def __init__(self, source: Source, index: np.ndarray | None = None, name: str = "data") -> None:
        self.source, self.name = source, name
        self.index = np.arange(source.shape[0]) if index is None else index

    @property
    def shape(self) -> torch.Size:
        """Shape (N, *X)."""
        return torch.Size((len(self.index), *self.source.shape[1:]))

    @property
    def ndim(self) -> int:
        """Number of dimensions, that of the rows included."""
        return len(self.source.shape)

    @property
    def num_bytes(self) -> int:
        """What all rows would take in memory."""
        return int(np.prod(self.shape, dtype=object)) * self.source.dtype.itemsize

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: Index) -> Tensor:
        """Rows as a tensor; `index` is a slice, or a mask or integers of shape (B,)."""
        return torch.from_numpy(self.source.read(self._at(index)))

    def _at(self, index: Index) -> np.ndarray:
        return np.asarray(self.index[index.numpy() if isinstance(index, Tensor) else index])

    def take(self, indices: Index) -> "StoredRows":
        """Some of the rows, still on disk."""
        return StoredRows(self.source, self._at(indices), self.name)

    def ahead(self, batches: Iterable[slice | Tensor]) -> Generator[Tensor, None, None]:
        """The rows of each batch in turn, decoded in worker processes some batches ahead; see `ahead`.

        The workers end when the iterator is exhausted or closed.
        """
        indices = (self._at(batch) for batch in batches)
        if self.source.is_decoded:
            for index in indices:
                yield torch.from_numpy(self.source.read(index))
            return
        with closing(ahead(self.source.read, indices)) as decoded:
            for rows in decoded:
                yield torch.from_numpy(rows)

    def blocks(self) -> Iterator[Tensor]:
        """All rows in their order, about 16 MiB at a time."""
        size = max(1, _BLOCK_BYTES * len(self) // max(1, self.num_bytes))
        return self.ahead(slice(start, start + size) for start in range(0, len(self), size))

    def in_memory(self) -> Tensor:
        """All rows as one tensor.

        Raises:
            DataError: if they do not fit.
        """
        refuse_too_large(self.num_bytes, self.name)
        rows = torch.from_numpy(np.empty(self.shape, self.source.dtype))
        start = 0
        for block in self.blocks():
            rows[start : start + len(block)] = block
            start += len(block)
        return rows


def num_workers() -> int:
    """One worker for each core that this process may use, at most eight: the step leaves cores idle while it waits."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MAX_WORKERS, cores)


def ahead(read: Read, batches: Iterable[np.ndarray]) -> Generator[np.ndarray, None, None]:
    """Yield `read(indices)` for each of `batches`, in order, computed in worker processes.

    Each worker takes a whole batch at a time and holds at most two, so memory does not grow with the number of rows.
    The workers end with the iterator: when it is exhausted or closed, after an error, and when this process ends,
    however it ends.

    The processes are those of torch's `DataLoader`. On Linux they are forked, which takes milliseconds, and needs
    neither a pickled data set nor a guarded `__main__`; a worker only reads and decodes, so that threads which a fork
    does not carry along are not missed. Other systems start them in their own way.

    Args:
        read: rows of given indices, shape (B, *X); errors that it raises come out here as they are.
        batches: indices of each batch, drawn on as workers become free.

    Raises:
        DataError: if a worker is killed, for instance because memory ran out.
    """
    loader: DataLoader[np.ndarray | Exception] = DataLoader(
        _Batches(read),  # type: ignore[arg-type]
        batch_sampler=batches,  # type: ignore[arg-type]
        collate_fn=_as_it_is,
        num_workers=num_workers(),
        worker_init_fn=partial(_follow_the_parent, os.getpid()),
        multiprocessing_context="fork" if sys.platform == "linux" else None,
        generator=torch.Generator(),  # the loader draws a seed for its workers: not from the stream of the model
    )
    iterator = iter(loader)
    try:
        while True:
            try:
                rows = next(iterator)
            except StopIteration:
                return
            except RuntimeError as error:
                raise DataError(
                    f"A process that decodes rows ended unexpectedly ({str(error).splitlines()[0]}). "
                    "If memory ran out, use smaller batches or images."
                ) from error
            if isinstance(rows, Exception):
                raise rows
            yield rows
    finally:
        iterator._shutdown_workers()  # type: ignore[attr-defined]


class _Batches:
    """What torch calls a map-style data set, read a batch at a time; an error travels as a value, with its message."""

    def __init__(self, read: Read) -> None:
        self.read = read

    def __getitems__(self, indices: np.ndarray) -> np.ndarray | Exception:
        try:
            return self.read(indices)
        except Exception as error:
            return error


def _as_it_is(batch: object) -> object:
    return batch


def _follow_the_parent(parent: int, worker: int) -> None:
    """Ctrl-C reaches every process of the terminal: the parent ends its step and then its workers.

    Where the parent is killed, torch's workers notice, but for one that starts at that moment: it takes whoever adopted
    it for its parent. On Linux the kernel ends the workers (it goes by the thread that started them, which is the one
    that closes the loader), and one that comes too late for that ends itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
