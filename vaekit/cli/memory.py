"""Freed memory: kept for the next step, instead of handed back to the system and asked for again.

glibc gives a freed block of some megabytes back to the system at once, and the next block of that size comes as new
pages, each of which costs about a microsecond when it is first touched. The tensors of a step are such blocks: with all
of them kept, a convolutional step on 64 x 64 pixels takes three quarters of the time, evaluation of a convolutional
model two thirds. The setting holds for a whole process, so that the program makes it and no library call does; other
programs make it by malloc's own variables (`docs/performance.md`).
"""

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt, by glibc's malloc.h
_KEEP = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_THRESHOLD: 2**30}


def keep_freed_memory() -> None:
    """Let this process keep what it frees, for what it asks for next.

    What lies between blocks adds to the peak, by nothing for small networks and up to a third for convolutions. Other C
    libraries, and a user who has set malloc's own variables, are left alone.
    """
    theirs = any(name.startswith("MALLOC_") for name in os.environ)
    if theirs or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  (is this glibc?)
    except (OSError, TypeError, AttributeError):
        return
    for parameter, value in _KEEP.items():
        library.mallopt(parameter, value)
