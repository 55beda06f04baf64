r"""The processes that compute together: which one this is, and sums and rows of all of them.

Without a group of `torch.distributed` the world has one process, and every function here hands back what it is given.
A launcher (`torchrun`, Ray) starts the processes and calls `torch.distributed.init_process_group`. All processes of a
group call the same functions in the same order; what one of them does for itself alone belongs into `alone`.

A loss over the rows of all processes is the sum of their losses, each times the share of its rows; shares add up to 1.
A process takes the gradient of its loss times its share. The gradients of `gather` and `total` bring in what its own
rows mean to the others, so that the sum of all gradients is that of the whole loss. Where each process computes the
same loss over gathered rows, the rule holds as well.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from vaekit.errors import GroupError, VaekitError


class _Here(threading.local):
    """Whether the calling thread computes for itself."""

    apart = False


_here = _Here()


def _alone() -> bool:
    return not (dist.is_available() and dist.is_initialized()) or _here.apart


@contextmanager
def alone() -> Iterator[None]:
    """Compute without the other processes: in the body this process is the world, in this thread."""
    with _apart(True):
        yield


@contextmanager
def together() -> Iterator[None]:
    """Compute with the other processes again, in a body of `alone` that all of them run."""
    with _apart(False):
        yield


@contextmanager
def _apart(apart: bool) -> Iterator[None]:
    before, _here.apart = _here.apart, apart
    try:
        yield
    finally:
        _here.apart = before


def rank() -> int:
    """The number of this process, from 0; process 0 is the one that writes files and speaks."""
    return 0 if _alone() else dist.get_rank()


def size() -> int:
    """The number of processes."""
    return 1 if _alone() else dist.get_world_size()


def part(num_rows: int) -> slice:
    """The rows of this process, where all processes divide `num_rows` rows in their order, as evenly as can be."""
    first, count = rank(), size()
    return slice(num_rows * first // count, num_rows * (first + 1) // count)


@contextmanager
def named_errors() -> Iterator[None]:
    """Say what it means where a message to the other processes fails in the body.

    Raises:
        GroupError: for an error of the connection.
    """
    try:
        yield
    except RuntimeError as error:
        if _alone() or isinstance(error, VaekitError) or not _is_of_connection(error):
            raise
        first = str(error).strip().splitlines()[0]
        raise GroupError(
            f"process {dist.get_rank()} of {dist.get_world_size()} waited in vain for the others: one of them ended, "
            f"or hangs ({first}). Look for its own error; then go on from the last checkpoint with --resume. A group "
            "whose steps take long needs a longer timeout (vaekit.distributed.join)."
        ) from error


_OF_CONNECTION = ("gloo", "nccl", "timed out", "timeout", "connection", "broken pipe", "socket", "process group")


def _is_of_connection(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(word in text for word in _OF_CONNECTION)


def _device() -> torch.device:
    """Where the messages of the group lie."""
    return torch.device("cuda" if "nccl" in dist.get_backend() else "cpu")


def reduce(value: Tensor) -> Tensor:
    """The sum of `value` over all processes, on each of them; without gradients.

    Args:
        value: a tensor of the same shape and dtype on every process; it stays as it is.
    """
    if _alone():
        return value.detach()
    total = value.detach().to(_device(), copy=True)
    with named_errors():
        dist.all_reduce(total)
    return total.to(value.device)


def reduce_together(values: Sequence[Tensor]) -> list[Tensor]:
    """The sums of several tensors over all processes, in one message for each dtype; without gradients.

    Args:
        values: tensors of the same shapes and dtypes on every process.

    Returns:
        New tensors.
    """
    if _alone():
        return [value.detach() for value in values]
    result: list[Tensor] = [value.detach() for value in values]
    for dtype in dict.fromkeys(value.dtype for value in values):
        places = [i for i, value in enumerate(values) if value.dtype == dtype]
        flat = reduce(torch.cat([result[i].reshape(-1) for i in places]))
        pieces = flat.split([result[i].numel() for i in places])
        for i, piece in zip(places, pieces, strict=True):
            result[i] = piece.reshape(result[i].shape)
    return result


def total(value: Tensor) -> Tensor:
    """The sum of `value` over all processes, on each of them, with gradients.

    Args:
        value: a tensor of the same shape and dtype on every process.
    """
    return value if _alone() else _Total.apply(value)  # type: ignore[no-untyped-call]


class _Total(torch.autograd.Function):
    """A sum over processes, of which each has a gradient: that of a part is the sum of theirs."""

    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:
        return reduce(value)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return reduce(gradients[0])


def gather(rows: Tensor) -> Tensor:
    """The rows of all processes in the order of their ranks, on each of them, with gradients.

    The gradient of a process's own rows is the sum of those that all processes have for them.

    Args:
        rows: shape (B, *X); B may differ between processes, and may be 0.

    Returns:
        Shape (B', *X), B' the sum of all B.
    """
    return rows if _alone() else _Gather.apply(rows)  # type: ignore[no-untyped-call]


class _Place(Protocol):
    own: slice


class _Gather(torch.autograd.Function):
    """Rows of all processes; the gradient of a process's own rows is the sum of those that all have for them."""

    @staticmethod
    def forward(ctx: "_Place", rows: Tensor) -> Tensor:
        counts = numbers(len(rows))
        ctx.own = _own(counts)
        message = rows.new_zeros(max(counts), *rows.shape[1:], device=_device())
        message[: len(rows)] = rows
        parts = [torch.empty_like(message) for _ in counts]
        with named_errors():
            dist.all_gather(parts, message)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)]).to(rows.device)

    @staticmethod
    def backward(ctx: "_Place", *gradients: Tensor) -> Tensor:
        return reduce(gradients[0])[ctx.own]


def place_of(num_rows: int) -> slice:
    """Where the rows of this process stand among those that `gather` brings together.

    Args:
        num_rows: B, as for `gather`.
    """
    if _alone():
        return slice(0, num_rows)
    return _own(numbers(num_rows))


def _own(counts: list[int]) -> slice:
    """The place of this process's rows among those of all, of so many each."""
    first = sum(counts[: rank()])
    return slice(first, first + counts[rank()])


def numbers(number: int) -> list[int]:
    """A whole number of each process, in the order of their ranks, on all of them."""
    if _alone():
        return [number]
    mine = torch.zeros(dist.get_world_size(), dtype=torch.int64)
    mine[dist.get_rank()] = number
    result: list[int] = reduce(mine).tolist()
    return result


def same(number: int) -> bool:
    """Whether a whole number is the same on all processes; each of them gets the same answer."""
    return _alone() or len(set(numbers(number))) == 1


def any_of(value: bool) -> bool:
    """Whether `value` holds on one of the processes; each of them gets the same answer."""
    return value if _alone() else bool(reduce(torch.tensor(int(value))) > 0)


def from_first(make: Callable[[], bytes]) -> bytes:
    """What `make` returns on process 0, on all of them; the others do not call it.

    Raises:
        GroupError: on the others, where process 0 raised an error of vaekit, which it raises itself.
    """
    if _alone():
        return make()
    content, failed = b"", None
    if rank() == 0:
        try:
            content = make()
        except (VaekitError, OSError) as error:
            content, failed = str(error).encode(), error
    head = torch.tensor([len(content), int(failed is not None)] if rank() == 0 else [0, 0])
    num_bytes, has_failed = reduce(head).tolist()
    message = torch.zeros(num_bytes, dtype=torch.uint8)
    if rank() == 0:
        message.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else message)
    message = message.to(_device())
    with named_errors():
        dist.broadcast(message, 0)
    told = bytes(message.cpu().numpy())
    if failed is not None:
        raise failed
    if has_failed:
        raise GroupError(f"process 0 gave up: {told.decode()}")
    return told


@torch.no_grad()
def take_over(tensors: Sequence[Tensor]) -> None:
    """Give tensors the values that they have on process 0.

    Args:
        tensors: of the same shapes and dtypes on every process; written to in place.
    """
    if _alone():
        return
    for tensor in tensors:
        message = tensor.detach().to(_device(), copy=True).contiguous()
        with named_errors():
            dist.broadcast(message, 0)
        if rank():
            tensor.copy_(message)
