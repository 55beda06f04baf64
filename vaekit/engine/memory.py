"""Freed memory: kept for the next step, instead of handed back to the system and asked for again.

glibc gives a freed block of some megabytes back to the system at once, and the next block of that size comes as new
pages, each of which costs about a microsecond when it is first touched. The tensors of a step are such blocks: with all
of them kept, a convolutional step on 64 x 64 pixels takes three quarters of the time, evaluation of a convolutional
model two thirds. Other C libraries, and a user who has set malloc's own variables, are left alone.
"""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # parameters of mallopt, by glibc's malloc.h
_KEEP = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_THRESHOLD: 2**30}
_RELEASE = {_TRIM_THRESHOLD: 2**26, _MMAP_THRESHOLD: 2**25}  # the most that glibc itself ends up with
_lock, _num_keepers = threading.Lock(), 0


@cache
def _mallopt() -> Any:
    """glibc's function of that name, or None where there is none, or where the user has made settings of his own."""
    theirs = any(name.startswith("MALLOC_") for name in os.environ)
    if theirs or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return None
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  (is this glibc?)
        return library.mallopt
    except (OSError, TypeError, AttributeError):
        return None


def _set(values: dict[int, int]) -> None:
    mallopt = _mallopt()
    if mallopt is not None:
        for parameter, value in values.items():
            mallopt(parameter, value)


@contextmanager
def keeping_memory() -> Iterator[None]:
    """Keep what is freed while the body runs, in this process, for what it asks for next; may be nested.

    What lies between blocks adds to the peak, by nothing for small networks and up to a third for convolutions. After
    the body glibc's own largest thresholds hold, 64 MiB: what is more goes back as blocks are freed.
    """
    global _num_keepers
    with _lock:
        _num_keepers += 1
        if _num_keepers == 1:
            _set(_KEEP)
    try:
        yield
    finally:
        with _lock:
            _num_keepers -= 1
            if not _num_keepers:
                _set(_RELEASE)


def start_sharing_memory(thread: threading.Thread) -> None:
    """Start a thread that takes its memory where the process does, not from a place of its own.

    Threads otherwise get blocks of 64 MiB each, which go back to the system as soon as they are empty. Where no thread
    of the process asked for memory before, glibc goes on like that for the threads that come later.
    """
    _set({_ARENA_MAX: 1})
    try:
        thread.start()
    finally:
        _set({_ARENA_MAX: 0})
