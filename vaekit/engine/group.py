"""Joining the group of processes that a launcher has started."""

import atexit
import os
from datetime import timedelta
from typing import TYPE_CHECKING, TypedDict

import torch
import torch.distributed as dist

from vaekit.engine import world
from vaekit.errors import ConfigError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
TIMEOUT = "VAEKIT_GROUP_TIMEOUT"
"""The variable that says how many seconds a process waits for the others."""
_SECONDS = 600.0


class _Place(TypedDict, total=False):
    store: "Store"
    rank: int
    world_size: int


def is_launched() -> bool:
    """Whether a launcher (torchrun, srun with the variables of torchrun) says that this process is one of several."""
    return all(os.environ.get(name) for name in _VARIABLES) and os.environ["WORLD_SIZE"] != "1"


def launched_rank() -> int:
    """The number of this process as the launcher says; 0 without one. It needs no group."""
    return int(os.environ["RANK"]) if is_launched() else 0


def is_restarted() -> bool:
    """Whether the launcher has started the group anew after one of its processes ended."""
    return is_launched() and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def join(timeout: float | None = None) -> None:
    """Join the group that the launcher's variables name; nothing where there are none, or the group is joined already.

    Messages go by nccl where each process of a machine has a GPU of its own, and by gloo elsewhere. The group ends with
    the process.

    Args:
        timeout: seconds that a process waits for the others in one message, before a `GroupError`; None takes the
            variable VAEKIT_GROUP_TIMEOUT, or 600. It is to be longer than the longest step.

    Raises:
        ConfigError: for a timeout that is no positive number.
        GroupError: if the others cannot be reached.
    """
    if not dist.is_available() or dist.is_initialized() or not is_launched():
        return
    seconds = seconds_to_wait(timeout)
    on_gpus = torch.cuda.is_available() and dist.is_nccl_available()
    local = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")))
    on_gpus = on_gpus and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) <= torch.cuda.device_count() > local
    if on_gpus:
        torch.cuda.set_device(local)
    with world.named_errors():
        dist.init_process_group("nccl" if on_gpus else "gloo", timeout=timedelta(seconds=seconds), **_meeting_place())
    atexit.register(_leave)


def _meeting_place() -> _Place:
    """Where the processes find each other.

    The launcher of one machine keeps one store for all starts of a group. Each start gets names of its own there: a
    process that was killed while the group formed has left its address, at which nobody answers.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or os.environ.get("GROUP_WORLD_SIZE") != "1":
        return {}
    from torch._C._distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, rank, size = next(rendezvous("env://"))
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return {"store": PrefixStore(f"start-{start}", store), "rank": rank, "world_size": size}


def seconds_to_wait(timeout: float | None = None) -> float:
    """The seconds that a process waits for the others in one message; see `join`.

    Raises:
        ConfigError: for a timeout that is no positive number.
    """
    given = os.environ.get(TIMEOUT, _SECONDS) if timeout is None else timeout
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e8:
        raise ConfigError(f"the timeout of a group is a positive number of seconds; got {given!r} ({TIMEOUT})")
    return seconds


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
