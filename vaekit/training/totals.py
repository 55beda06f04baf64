"""Means over the rows of an epoch."""

from typing import Any

import torch
from torch import Tensor

_AT_ONCE = 64  # batches that are summed together: one operation per term instead of one per term and batch


class Totals:
    """Collects the terms of one batch after the other; gives the mean of each term over all rows."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[float, float]] = {}
        self.pending: list[tuple[dict[str, Tensor], int]] = []

    def add(self, terms: dict[str, Tensor], num_rows: int, weight: Tensor | None = None) -> None:
        """Add the terms of a batch, of shape (B,), or () for quantities of the whole batch; rows count by weight."""
        terms = {name: term.detach() for name, term in terms.items()}
        if weight is not None:
            self._add_weighted(terms, weight.double())
            return
        self.pending.append((terms, num_rows))
        if len(self.pending) >= _AT_ONCE:
            self._sum_up()

    def _sum_up(self) -> None:
        for name in dict.fromkeys(name for terms, _ in self.pending for name in terms):
            rows = [terms[name].expand(n) for terms, n in self.pending if name in terms]
            total, count = self.sums.get(name, (0.0, 0))
            added = torch.cat(rows).sum(dtype=torch.float64)
            self.sums[name] = (total + float(added), count + sum(map(len, rows)))
        self.pending = []

    def _add_weighted(self, terms: dict[str, Tensor], weight: Tensor) -> None:
        for name, term in terms.items():
            total, count = self.sums.get(name, (0.0, 0.0))
            self.sums[name] = (total + float((term.double() * weight).sum()), count + float(weight.sum()))

    def means(self) -> dict[str, float]:
        """Term to its mean over the rows so far."""
        self._sum_up()
        return {name: total / count for name, (total, count) in self.sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps; batches that are not summed yet stay apart, so that a resumed sum rounds alike."""
        return {"sums": self.sums, "pending": self.pending}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` returned."""
        self.sums, self.pending = state["sums"], state["pending"]
