"""Moves that are left out: where a loss or its gradient is not finite, nothing is to change."""

from collections.abc import Callable

import torch
from torch import Tensor

from vaekit.errors import TrainingError

MAX_SKIPPED = 3
"""So many moves in a row that were not finite end training."""


class Guard:
    """Decides whether an update is made, and puts back what its forward pass changed where it is not.

    Args:
        buffers: what a forward pass may change, such as running statistics.

    Attributes:
        num_skipped: how many updates were left out.
        in_a_row: how many of them were the last ones.
    """

    def __init__(self, buffers: list[Tensor]) -> None:
        self.buffers = buffers
        self.num_skipped = self.in_a_row = 0

    def keep(self) -> list[Tensor]:
        """The buffers before the forward pass."""
        return [buffer.clone() for buffer in self.buffers]

    def passes(self, kept: list[Tensor], value: Tensor, why: Callable[[], str]) -> bool:
        """Whether `value`, shape (), is finite; elsewhere the kept buffers are put back, and the update is counted.

        Raises:
            TrainingError: with the words of `why`, after three updates in a row that were not finite.
        """
        if bool(torch.isfinite(value)):
            self.in_a_row = 0
            return True
        for buffer, before in zip(self.buffers, kept, strict=True):
            buffer.copy_(before)
        self.num_skipped += 1
        self.in_a_row += 1
        if self.in_a_row >= MAX_SKIPPED:
            raise TrainingError(why())
        return False
