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

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt, by glibc's malloc.h
_KEEP = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_THRESHOLD: 2**30}
_RELEASE = {_TRIM_THRESHOLD: 2**26, _MMAP_THRESHOLD: 2**25}  # the most that glibc itself ends up with
_lock, _num_keepers = threading.Lock(), 0


@cache
def _glibc() -> Any:
    """The C library where it is glibc, or None, also where the user has made settings of his own."""
    theirs = any(name.startswith("MALLOC_") for name in os.environ)
    if theirs or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return None
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  (is this glibc?)
        return library
    except (OSError, TypeError, AttributeError):
        return None


def _set(values: dict[int, int]) -> None:
    library = _glibc()
    if library is not None:
        for parameter, value in values.items():
            library.mallopt(parameter, value)


@contextmanager
def keeping_memory(give_back: bool = False) -> Iterator[None]:
    """Keep what is freed while the body runs, in this process, for what it asks for next; may be nested.

    What lies between blocks adds to the peak, by nothing for small networks and up to a third for convolutions. After
    the body glibc's own largest thresholds hold: more than 64 MiB at the end of the heap go back as blocks are freed.

    Args:
        give_back: give all free memory back after the body, in some milliseconds; what comes next gets it as new pages.
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
                if give_back and (library := _glibc()) is not None:
                    library.malloc_trim(0)
