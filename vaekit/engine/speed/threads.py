"""Threads: denormal numbers, and who sits at the keyboard."""

import ctypes
import math
import os
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

T = TypeVar("T")
_lock = threading.Lock()
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
# Products of a row and a weight in a training step: half a millisecond of one core, and where what surrounds the
# arithmetic still takes a tenth.
_SMALL_STEP, _CALLS_MATTER = 4 * 10**6, 6 * 10**7


@cache
def _openmp() -> ctypes.CDLL | None:
    """The OpenMP runtime that torch brings along, or None where it is another one or has no pause."""
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*")):
        try:
            runtime = ctypes.CDLL(str(path))
            runtime.omp_pause_resource_all.argtypes = [ctypes.c_int]
        except (OSError, AttributeError):
            continue
        return runtime
    return None


def release_pool() -> None:
    """End the worker threads that the calling thread holds for parallel operations; the next operation starts new ones.

    New ones take over how the calling thread treats denormal numbers. Where the runtime cannot end them they go on as
    they are, which costs time, not correctness.
    """
    runtime = _openmp()
    if runtime is not None:
        runtime.omp_pause_resource_all(2)  # omp_pause_hard


if sys.platform != "win32":
    # A process that is forked (multiprocessing's Pool on Linux) gets no workers, but their bookkeeping: its first
    # parallel operation would wait for them for ever. Without a pool both processes start one when they need it.
    os.register_at_fork(before=release_pool)


def _num_products(model: nn.Module, batch_size: int) -> float:
    """Products of a row and a weight in a training step; without bound where convolutions use weights over and over."""
    if any(isinstance(module, _CONVOLUTIONS) for module in model.modules()):
        return math.inf
    return batch_size * sum(parameter.numel() for parameter in model.parameters())


def is_small_step(model: nn.Module, batch_size: int) -> bool:
    """Whether a training step has so little arithmetic that what surrounds it takes most of the time.

    A rule, not a measurement: a run repeats bit for bit.
    """
    return _num_products(model, batch_size) < _SMALL_STEP


def calls_matter(model: nn.Module, batch_size: int) -> bool:
    """Whether the calls between the kernels of a compiled training step take a share of its time; a rule, too."""
    return _num_products(model, batch_size) < _CALLS_MATTER


def threads_for(model: nn.Module, batch_size: int) -> int:
    """How many threads a training step deserves: one where it is so small that handing out the work costs more."""
    return 1 if is_small_step(model, batch_size) else torch.get_num_threads()


def _elsewhere(function: Callable[[], T]) -> T:
    """The result of `function` in a new thread."""
    results: list[T] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def _set_num_threads(number: int) -> None:
    """Let the calling thread use `number` threads, and leave the number that threads to come start with.

    torch sets both at once: a thread that starts while a small model is trained would keep a single thread for good.
    """
    with _lock:
        default = _elsewhere(torch.get_num_threads)
        torch.set_num_threads(number)
        _elsewhere(lambda: torch.set_num_threads(default))


def run_flushing_denormals(
    function: Callable[[], T], num_threads: int | None = None, device: torch.device | None = None
) -> T:
    """Run `function` while denormal numbers are flushed to zero; return its result.

    Pixels that never change drive Adam's moments into the denormal range, where a CPU is many times slower. The flag
    belongs to a thread and to the workers that it starts: they are started anew, and once more afterwards, so that the
    caller's arithmetic stays what it was.

    Args:
        function: what to run.
        num_threads: threads for its parallel operations; None takes as many as the caller has.
        device: where it computes. On any but the CPU denormals cost nothing, and the function runs as it is.
    """
    if device is not None and device.type != "cpu":
        return function()
    num_before, flushed_before = torch.get_num_threads(), is_flushing()
    release_pool()
    torch.set_flush_denormal(True)
    _set_num_threads(num_threads or num_before)
    try:
        return function()
    finally:
        _set_num_threads(num_before)
        torch.set_flush_denormal(flushed_before)
        release_pool()


def is_flushing() -> bool:
    """Whether denormal numbers are zero in this thread."""
    return bool(torch.tensor(2e-38, dtype=torch.float32, device="cpu") * 0.1 == 0)


def flushes_denormals() -> bool:
    """Whether this machine can flush denormal numbers to zero."""
    return run_flushing_denormals(is_flushing)


def in_notebook() -> bool:
    """Whether a person sits at an interactive prompt (Python's or IPython's), where an exit is a loss."""
    ipython = sys.modules.get("IPython")
    return hasattr(sys, "ps1") or (ipython is not None and ipython.get_ipython() is not None)
