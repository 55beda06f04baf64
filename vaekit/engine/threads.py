"""Threads: denormal numbers, and who sits at the keyboard."""

import ctypes
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from vaekit.engine.memory import start_sharing_memory

T = TypeVar("T")
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_SMALL_STEP = 4 * 10**6  # products of a row and a weight, half a millisecond of one core for a training step


@cache
def _openmp() -> Any:
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

    With the pools of two threads there are more workers than cores, and libgomp then lets workers sleep between
    operations instead of spinning: a small training step becomes a fifth slower.
    """
    runtime = _openmp()
    if runtime is not None:
        runtime.omp_pause_resource_all(2)  # omp_pause_hard


def is_small_step(model: nn.Module, batch_size: int) -> bool:
    """Whether a training step has so little arithmetic that what surrounds it takes most of the time.

    A rule, not a measurement: a run repeats bit for bit.
    """
    reuses_weights = any(isinstance(module, _CONVOLUTIONS) for module in model.modules())
    num_products = batch_size * sum(parameter.numel() for parameter in model.parameters())
    return not reuses_weights and num_products < _SMALL_STEP


def threads_for(model: nn.Module, batch_size: int) -> int:
    """How many threads a training step deserves: one where it is so small that handing out the work costs more."""
    return 1 if is_small_step(model, batch_size) else torch.get_num_threads()


def run_flushing_denormals(
    function: Callable[[], T], num_threads: int | None = None, device: torch.device | None = None
) -> T:
    """Run `function` in a fresh thread in which denormal numbers are flushed to zero; return its result.

    Pixels that never change drive Adam's moments into the denormal range, where a CPU is many times slower. The flag
    reaches only a thread and the pool that it starts, so the caller's own threads keep their arithmetic. Signal
    handlers go on running in the caller's thread while it waits.

    Args:
        function: what to run.
        num_threads: threads for its parallel operations; None takes as many as the caller has.
        device: where it computes. On any but the CPU it runs in the caller's thread: denormals cost nothing there, and
            torch keeps recorded CUDA graphs per thread.
    """
    if device is not None and device.type != "cpu":
        return function()
    outcome: dict[str, Any] = {}
    done = threading.Event()
    callers = torch.get_num_threads()

    def body() -> None:
        try:
            torch.set_flush_denormal(True)
            torch.set_num_threads(num_threads or callers)
            outcome["value"] = function()
        except BaseException as error:
            outcome["error"] = error
        finally:
            done.set()

    release_pool()
    thread = threading.Thread(target=body, name="vaekit", daemon=True)
    start_sharing_memory(thread)
    done.wait()
    thread.join()
    torch.set_num_threads(callers)  # part of the setting belongs to the process, not to the thread
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


def flushes_denormals() -> bool:
    """Whether this machine can flush denormal numbers to zero; tried in a thread of its own, which then ends."""
    answer: list[bool] = []
    thread = threading.Thread(target=lambda: answer.append(torch.set_flush_denormal(True)), name="vaekit")
    thread.start()
    thread.join()
    return bool(answer and answer[0])


def in_notebook() -> bool:
    """Whether a person sits at an interactive prompt (Python's or IPython's), where an exit is a loss."""
    ipython = sys.modules.get("IPython")
    return hasattr(sys, "ps1") or (ipython is not None and ipython.get_ipython() is not None)
