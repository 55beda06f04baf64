"""The processes that compute together: which one this is, and sums and rows of all of them.

Without a group of `torch.distributed` the world has one process, and every function here hands back what it is given.
A launcher (`torchrun`, Ray) starts the processes and calls `torch.distributed.init_process_group`.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def _alone() -> bool:
    return not (dist.is_available() and dist.is_initialized())


def rank() -> int:
    """The number of this process, from 0; process 0 is the one that writes files and speaks."""
    return 0 if _alone() else dist.get_rank()


def size() -> int:
    """The number of processes."""
    return 1 if _alone() else dist.get_world_size()


def reduce(value: Tensor) -> Tensor:
    """The sum of `value` over all processes, on each of them; without gradients.

    Args:
        value: a tensor of the same shape and dtype on every process; it stays as it is.
    """
    if _alone():
        return value.detach()
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def gather(rows: Tensor) -> Tensor:
    """The rows of all processes in the order of their ranks, on each of them, with gradients.

    The gradient of a process's own rows is the sum of those that all processes have for them.

    Args:
        rows: shape (B, *X), the same on every process.

    Returns:
        Shape (size * B, *X).
    """
    if _alone():
        return rows
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(rows))
