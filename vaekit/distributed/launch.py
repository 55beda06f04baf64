"""Starting the program `vaekit` as several processes of this machine, by torch's own elastic launcher."""

import logging
import os
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from vaekit.distributed.surroundings import environment
from vaekit.engine.group import TIMEOUT
from vaekit.errors import ConfigError, GroupError
from vaekit.outcome import OUTCOME

_RESTARTS = 3


def launch(
    arguments: Sequence[str], workers: int, *, max_restarts: int = _RESTARTS, timeout: float | None = None
) -> int:
    """Run `vaekit` with some arguments as several processes that train as one; return the exit code.

    Where a process ends before the others, the launcher ends them all and starts the group anew. `vaekit fit` then goes
    on from its last checkpoint, and the run becomes what it would have been. An error that vaekit raises on purpose,
    such as a setting that does not exist, ends the group for good. The cores of the machine are divided among the
    processes; messages between them stay on it.

    Args:
        arguments: those of the program, such as ["fit", "digits", "-o", "runs/digits"].
        workers: the number of processes.
        max_restarts: how often the group starts anew.
        timeout: seconds that a process waits for the others; see `join`.

    Returns:
        0, or the exit code of `vaekit`; 128 and its number for a signal.

    Raises:
        ConfigError: for fewer than one process, or where this torch has no launcher.
        GroupError: if the group failed once more than it may start anew.
    """
    if workers < 1:
        raise ConfigError(f"a group has at least one process; got workers={workers}")
    try:
        from torch.distributed.elastic.multiprocessing.api import SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.launcher.api import LaunchConfig, elastic_launch
    except ImportError as error:
        raise ConfigError("this build of torch starts no processes (torch.distributed); train with one") from error
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=workers,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=max_restarts,
    )
    with TemporaryDirectory() as folder, _quiet():
        outcome = Path(folder) / "outcome"
        with environment(_variables(workers, timeout) | {OUTCOME: str(outcome)}):
            try:
                elastic_launch(config, sys.executable)("-m", "vaekit", *arguments)
            except SignalException as error:
                return 128 + int(error.sigval)
            except ChildFailedError as error:
                if not outcome.exists():
                    raise GroupError(_of_failure(error, max_restarts)) from error
        return int(outcome.read_text()) if outcome.exists() else 0


def _of_failure(error: "Exception", max_restarts: int) -> str:
    failed = vars(error).get("failures") or {}
    codes = ", ".join(f"process {number} with exit code {each.exitcode}" for number, each in failed.items())
    return (
        f"the group of processes was started {max_restarts + 1} times and failed each time; the last time ended "
        f"{codes or 'one of them'} (minus its number for a signal; -9 may be a lack of memory). Go on from the last "
        "checkpoint with --resume."
    )


def _variables(workers: int, timeout: float | None) -> dict[str, str]:
    """What the processes are to find in their environment."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, cores // workers)))}
    if sys.platform == "linux" and "GLOO_SOCKET_IFNAME" not in os.environ:
        found["GLOO_SOCKET_IFNAME"] = "lo"
    return found if timeout is None else found | {TIMEOUT: str(timeout)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Let torch's launcher say nothing: what failed says so itself, and `launch` says what became of the group."""
    logger = logging.getLogger("torch.distributed.elastic")
    before, logger.disabled = logger.level, False
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
