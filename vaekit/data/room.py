"""How much fits: into memory, and onto the disk that holds vaekit's cache."""

import os
import shutil
from pathlib import Path

from vaekit.errors import DataError

MEMORY_SHARE = 0.25  # of what is free: reading, dividing and checking data takes up to three times their size
DISK_SHARE = 0.5
_CGROUP = Path("/sys/fs/cgroup")


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
    return num_bytes <= DISK_SHARE * _free_disk()[1]


def _free_disk() -> tuple[Path, int]:
    from vaekit.engine.caches import cache_dir  # here: a name of a data set can be looked up without torch

    folder = cache_dir("rows")
    return folder, shutil.disk_usage(folder).free


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
    folder, free = _free_disk()
    return (
        f"decoded, the rows take {num_bytes / 2**30:.1f} GiB, and {folder} has {free / 2**30:.1f} GiB free, half of "
        f"which may be used. Set VAEKIT_CACHE to a folder on a larger disk"
    )
