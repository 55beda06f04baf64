"""What training has seen: the history of epochs, and the running means of one."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import StateDict

from vaekit.engine import world
from vaekit.frames import to_frame


class History:
    """Lists per epoch under fixed keys, such as `history["seconds"]`, `history["train_elbo"]`, `history["valid_kl"]`.

    Keys: `epoch`, `step` (updates so far), `seconds` (training time of the epoch, without validation), `learning_rate`,
    `skipped` (steps left out because they were not finite), and `train_` or `valid_` plus the name of each term, in
    nats per datum in the units of the data.

    Attributes:
        records: one dict per epoch.
        best_epoch: the epoch of the best validation bound, counted from 1, whose weights were kept unless the last ones
            were asked for; None where no validation data were given.
        interrupted: the name of the signal that stopped training, or None.
        stopped_early: whether patience ran out.
        engine: how it was computed: `precision` inside networks; `compile` as asked for, and `compiled_at`, the step
            from which on a run with `compile="auto"` was compiled, or None; `threads`, `memory_format` and
            `flush_denormals`.
    """

    def __init__(self, records: list[dict[str, float]] | None = None) -> None:
        self.records = records or []
        self.best_epoch: int | None = None
        self.interrupted: str | None = None
        self.stopped_early = False
        self.engine: dict[str, str | int | bool | None] = {}

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        last = {k: round(v, 4) for k, v in self.records[-1].items()} if self.records else {}
        return f"History({len(self)} epochs, best_epoch={self.best_epoch}, last={last})"

    def keys(self) -> list[str]:
        """Names of the columns, in order of first appearance."""
        return list(dict.fromkeys(key for record in self.records for key in record))

    def __contains__(self, key: object) -> bool:
        return any(key in record for record in self.records)

    def __getitem__(self, key: str) -> list[float]:
        if key not in self and self.records:
            raise KeyError(f"{key!r}; the history has {', '.join(self.keys())}")
        return [record.get(key, float("nan")) for record in self.records]

    def to_frame(self, backend: str | None = None) -> Any:
        """The history as a data frame; see `vaekit.frames.to_frame`."""
        return to_frame({key: self[key] for key in self.keys()}, backend)


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

    def shared(self) -> "Totals":
        """The sums of all processes, each of which has added the same terms."""
        self._sum_up()
        names, result = sorted(self.sums), Totals()
        flat = torch.tensor([self.sums[name] for name in names], dtype=torch.float64)
        result.sums = dict(zip(names, world.reduce(flat).tolist(), strict=True))
        result.sums = {name: (result.sums[name][0], result.sums[name][1]) for name in self.sums}
        return result

    def emptied(self) -> None:
        """Keep the names of the terms alone: another process has the sums."""
        self._sum_up()
        self.sums = dict.fromkeys(self.sums, (0.0, 0.0))

    def means(self) -> dict[str, float]:
        """Term to its mean over the rows so far."""
        self._sum_up()
        return {name: total / count for name, (total, count) in self.sums.items() if count}

    def state_dict(self) -> StateDict:
        """What a checkpoint keeps; batches that are not summed yet stay apart, so that a resumed sum rounds alike."""
        return {"sums": self.sums, "pending": self.pending}

    def load_state_dict(self, state: StateDict) -> None:
        """Put back what `state_dict` returned."""
        self.sums, self.pending = state["sums"], state["pending"]
