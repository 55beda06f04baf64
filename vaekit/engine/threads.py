"""Threads: denormal numbers, and who sits at the keyboard."""

import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def run_flushing_denormals(function: Callable[[], T]) -> T:
    """Run `function` in a fresh thread in which denormal numbers are flushed to zero; return its result.

    Pixels that never change drive Adam's moments into the denormal range, where a CPU is many times slower. The flag
    reaches only a thread and the pool that it starts, so the caller's own threads keep their arithmetic. Signal
    handlers go on running in the caller's thread while it waits.
    """
    outcome: dict[str, Any] = {}
    done = threading.Event()
    num_threads = torch.get_num_threads()

    def body() -> None:
        try:
            torch.set_flush_denormal(True)
            torch.set_num_threads(num_threads)
            outcome["value"] = function()
        except BaseException as error:
            outcome["error"] = error
        finally:
            done.set()

    thread = threading.Thread(target=body, name="vaekit", daemon=True)
    thread.start()
    done.wait()
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


def in_notebook() -> bool:
    """Whether a person sits at an interactive prompt (Python's or IPython's), where an exit is a loss."""
    ipython = sys.modules.get("IPython")
    return hasattr(sys, "ps1") or (ipython is not None and ipython.get_ipython() is not None)
