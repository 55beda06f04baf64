"""What happened in each epoch."""

from typing import Any

from vaekit.frames import to_frame


class History:
    """Lists per epoch under fixed keys, such as `history["seconds"]`, `history["train_elbo"]`, `history["valid_kl"]`.

    Keys: `epoch`, `step` (updates so far), `seconds` (training time of the epoch, without validation), `learning_rate`,
    `skipped` (steps left out because they were not finite), and `train_` or `valid_` plus the name of each term, in
    nats per datum in the units of the data.

    Attributes:
        records: one dict per epoch.
        best_epoch: the epoch whose weights were kept, counted from 1; None where no validation data were given.
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
