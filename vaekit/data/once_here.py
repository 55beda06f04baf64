"""What the processes of a group that read the same data do once on each machine, for all of them.

Within `shared`, one process of each machine decodes, and the others of that machine open the file that it wrote. The
file has no name: they reach it through /proc, so that nothing is left behind however the group ends. Where there is
no /proc, each process decodes for itself.
"""

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from vaekit.errors import GroupError, VaekitError

Beat = Callable[[], None]
_SHARED: ContextVar[bool] = ContextVar("_SHARED", default=False)
_SECONDS = 1.0  # between two signs of life
_MACHINE = Path("/proc/sys/kernel/random/boot_id")


@contextmanager
def shared() -> Iterator[None]:
    """A body in which all processes of a group read the same data by the same calls, each of which does its share."""
    token = _SHARED.set(True)
    try:
        yield
    finally:
        _SHARED.reset(token)


def is_shared() -> bool:
    """Whether several processes read the same data now."""
    if not _SHARED.get():
        return False
    from vaekit.engine import world  # here: a data set can be looked up without torch

    return world.size() > 1


def any_here(value: bool) -> bool:
    """Whether `value` holds for one of the processes that read the same data, so that all of them decide alike."""
    if not is_shared():
        return value
    from vaekit.engine import world

    return world.any_of(value)


def num_here() -> int:
    """How many of the processes that read the same data share the memory of this machine."""
    if not is_shared():
        return 1
    machines = _machines()
    from vaekit.engine import world

    return machines.count(machines[world.rank()])


def written_once(write: Callable[[Beat], int]) -> int:
    """The descriptor of a file that one process of each machine writes.

    Args:
        write: writes a file and returns its descriptor, which is open for reading. The function that it is handed is
            called as often as may be while it works: the others wait for signs of life, and not for the file.

    Returns:
        A descriptor of one's own of that file.

    Raises:
        GroupError: where the process that writes gave up; it raises its own error.
    """
    if not is_shared():
        return write(lambda: None)
    from vaekit.engine import world

    rank, machines = world.rank(), _machines()
    writer = machines.index(machines[rank])
    own = _by_turns(write if rank == writer else None)
    status = os.fstat(own) if own is not None else None
    about = (0, 0, 0) if status is None else (own or 0, status.st_dev, status.st_ino)
    descriptors, devices, inodes = (world.numbers(number) for number in about)
    pids = world.numbers(os.getpid())
    if own is None:
        own = _opened(pids[writer], descriptors[writer], (devices[writer], inodes[writer]))
    world.any_of(False)  # whoever wrote may close the file when all have opened it
    if world.any_of(own is None):  # such as processes of several users
        written = _by_turns(write if own is None else None)
        own = written if own is None else own
    assert own is not None
    return own


def computed_once(compute: Callable[[Beat], bytes]) -> bytes:
    """What one process of each machine computes, on all of them; see `written_once`."""
    if not is_shared():
        return compute(lambda: None)
    import tempfile

    def write(beat: Beat) -> int:
        content = compute(beat)
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.flush()
            return os.dup(file.fileno())

    descriptor = written_once(write)
    with open(descriptor, "rb") as file:
        file.seek(0)  # the writer's place is behind the end
        return file.read()


def _by_turns(write: Callable[[Beat], int] | None) -> int | None:
    """Let some processes write, while the others wait for them; the descriptor of whoever wrote."""
    from vaekit.engine import world

    last, found, failed = time.monotonic(), None, None

    def beat() -> None:
        nonlocal last
        if time.monotonic() - last > _SECONDS:
            world.any_of(True)
            last = time.monotonic()

    if write is not None:
        try:
            found = write(beat)
        except (VaekitError, OSError) as error:
            failed = error
    while world.any_of(False):  # somebody still writes
        pass
    gave_up = [rank for rank, has_failed in enumerate(world.numbers(int(failed is not None))) if has_failed]
    if failed is not None:
        raise failed
    if gave_up:
        if found is not None:
            os.close(found)
        raise GroupError(f"process {gave_up[0]}, which reads the data for all of its machine, gave up; it says why")
    return found


def _machines() -> list[int]:
    """A number of the machine of each process; processes that cannot see each other's files have different ones."""
    from vaekit.engine import world

    name = f"process {world.rank()}"
    if sys.platform == "linux":
        with suppress(OSError):
            name = _MACHINE.read_text() + os.readlink("/proc/self/ns/pid")
    return world.numbers(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "big"))


def _opened(pid: int, descriptor: int, identity: tuple[int, int]) -> int | None:
    """The file that another process has open; None where this one may not open it."""
    try:
        found = os.open(f"/proc/{pid}/fd/{descriptor}", os.O_RDONLY)
    except OSError:
        return None
    status = os.fstat(found)
    if (status.st_dev, status.st_ino) == identity:
        return found
    os.close(found)
    return None
