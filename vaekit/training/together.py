"""Data-parallel training: which rows of a batch a process takes, their noise, and the sum of all gradients.

Every process has the whole model, and knows the order of all rows. Of each batch it takes a share of its own; one
message per step brings the gradients together, and every process makes the same move.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vaekit import engine
from vaekit.engine import world
from vaekit.errors import GroupError
from vaekit.models.row_draws import RowDraws
from vaekit.models.rows import Index, taken
from vaekit.models.view import View

if TYPE_CHECKING:
    from vaekit.training.settings import TrainerSettings


@dataclass(frozen=True)
class Part:
    """What a process takes of a batch.

    Attributes:
        rows: the numbers of its rows in the data set.
        share: the share of its rows in the loss; the shares of all processes add up to 1.
        is_whole: whether every process takes all rows, for there are too few of them: two for each process.
        counts: whether what the process finds of its rows counts in sums over all processes.
        is_silent: whether the rows of the batch all have weight 0.
    """

    rows: Index
    share: float = 1.0
    is_whole: bool = True
    counts: bool = True
    is_silent: bool = False

    @classmethod
    def of(cls, rows: Index, weight: Tensor | None = None) -> "Part":
        """The part of this process.

        Args:
            rows: the numbers of the rows of a batch, or a slice of them.
            weight: of each row of the data set in the loss, shape (N,), or None.
        """
        num_rows, count = _length(rows), world.size()
        if count == 1:
            return cls(rows, is_silent=weight is not None and not bool(taken(weight, rows).any()))
        total = float(num_rows) if weight is None else float(taken(weight, rows).double().sum())
        if num_rows < 2 * count:
            return cls(rows, 1 / count, True, world.rank() == 0, total == 0)
        own = world.part(num_rows)
        mine = rows[own] if isinstance(rows, Tensor) else slice(rows.start + own.start, rows.start + own.stop)
        weighs = float(_length(mine)) if weight is None else float(taken(weight, mine).double().sum())
        return cls(mine, weighs / total if total else 0.0, False, True, total == 0)

    def computing(self) -> AbstractContextManager[None]:
        """A body in which the loss of the part is computed."""
        return world.alone() if self.is_whole else nullcontext()


def _length(rows: Index) -> int:
    return rows.stop - rows.start if isinstance(rows, slice) else len(rows)


def numbers(rows: Index) -> Tensor:
    """The numbers of rows, shape (B,), int64."""
    return torch.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows.cpu()


class StepNoise:
    """The noise of training: a stream through the whole run, or noise that is a function of the step.

    Args:
        seed: of the run.
        place: what the noise is for, a number in the hash that makes seeds.
        by_row: whether the noise of a row depends on the row and the step alone.
        num_samples: draws of z per row.
    """

    def __init__(self, seed: int, place: int, by_row: bool, num_samples: int) -> None:
        self.seed, self.place, self.by_row, self.num_samples = seed, place, by_row, num_samples
        self.stream = engine.Stream(engine.block_seed(seed, place))

    @contextmanager
    def at(self, step: int, rows: Index) -> Iterator[None]:
        """A body that draws the noise of some rows in a step."""
        if not self.by_row and world.size() == 1:
            with self.stream:
                yield
            return
        # Streams by the step need not be kept, so that a run may go on with another number of processes.
        with engine.seeded(engine.block_seed(self.seed, self.place, step, 0 if self.by_row else 1 + world.rank())):
            if not self.by_row:
                yield
                return
            with RowDraws(numbers(rows), engine.block_seed(self.seed, self.place, step), self.num_samples):
                yield


class Together:
    """Brings the processes' losses and gradients together.

    Attributes:
        asks_to_end: whether this process is to end after the step.
        ends: whether one of the processes is; known after the step, by all of them.
    """

    def __init__(self) -> None:
        self.asks_to_end = self.ends = False

    def __call__(
        self, parameters: Sequence[nn.Parameter], value: Tensor, share: float, buffers: Sequence[Tensor] = ()
    ) -> Tensor:
        """Sum the gradients of all processes, in place, and the loss.

        Args:
            parameters: those that are to be moved; a gradient that is not there counts as 0.
            value: the loss of the process's rows, shape (); their gradient has its share in it already.
            share: that of the process.
            buffers: what the forward pass has changed; floating ones become the mean over processes, by their shares.

        Returns:
            The loss of the whole batch, shape ().
        """
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        floating = [buffer for buffer in buffers if buffer.is_floating_point()]
        asks = value.new_tensor(float(self.asks_to_end))
        loss, asked, *sums = world.reduce_together(
            [value.detach() * share, asks, *gradients, *(buffer * share for buffer in floating)]
        )
        for parameter, gradient, total in zip(parameters, gradients, sums[: len(gradients)], strict=True):
            parameter.grad = gradient.copy_(total)
        for buffer, mean in zip(floating, sums[len(gradients) :], strict=True):
            buffer.copy_(mean)
        self.ends = self.asks_to_end or bool(asked > 0)
        return loss


def start_alike(model: nn.Module, objective: nn.Module) -> None:
    """Give model and objective the tensors of process 0."""
    world.take_over([t for module in (model, objective) for t in module.state_dict(keep_vars=True).values()])


def refuse_differences(train: View, valid: View | None, settings: "TrainerSettings") -> None:
    """Refuse to train together on other rows, or by other settings.

    Raises:
        GroupError: on all processes.
    """
    named = {
        "the number of training rows": len(train),
        "the number of validation rows": 0 if valid is None else len(valid),
        "batch_size": settings.batch_size,
        "seed": settings.seed,
        "max_epochs": settings.max_epochs,
        "row_noise": int(settings.row_noise),
    }
    for name, number in named.items():
        if not world.same(number):
            raise GroupError(
                f"the processes of a group train on the same rows by the same settings, of which each takes its share; "
                f"{name} differs: process {world.rank()} has {number}. Hand all rows to each process."
            )
