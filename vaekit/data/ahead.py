"""Rows read by worker processes, some batches ahead of whoever uses them."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import Any

import numpy as np

from vaekit.errors import DataError

MAX_WORKERS = 8
_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
Read = Callable[[np.ndarray], np.ndarray]


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
    from torch import Generator
    from torch.utils.data import DataLoader

    loader: Any = DataLoader(
        _Batches(read),  # type: ignore[arg-type]
        batch_sampler=batches,  # type: ignore[arg-type]
        collate_fn=_as_it_is,
        num_workers=num_workers(),
        worker_init_fn=partial(_follow_the_parent, os.getpid()),
        multiprocessing_context="fork" if sys.platform == "linux" else None,
        generator=Generator(),  # the loader draws a seed for its workers: not from the stream of the model
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
        iterator._shutdown_workers()


class _Batches:
    """What torch calls a map-style data set, read a batch at a time; an error travels as a value, with its message."""

    def __init__(self, read: Read) -> None:
        self.read = read

    def __getitems__(self, indices: np.ndarray) -> np.ndarray | Exception:
        try:
            return self.read(indices)
        except Exception as error:
            return error


def _as_it_is(batch: Any) -> Any:
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
