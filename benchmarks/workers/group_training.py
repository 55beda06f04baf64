"""A process of a group that trains, as torchrun starts it: rows per second, and the share of time in messages.

Arguments: mlp or conv, the number of rows of an epoch, and the number of epochs after the first one. Process 0 prints
one line of JSON.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

import vaekit as vk
from benchmarks.common import MLP

_MESSAGES = ("all_reduce", "all_gather", "broadcast", "barrier")


class Timed:
    """The messages of torch, with the time that this process spends in them."""

    def __init__(self) -> None:
        self.seconds, self.count = 0.0, 0
        for name in _MESSAGES:
            setattr(dist, name, self._timed(getattr(dist, name)))

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                self.seconds += time.perf_counter() - started
                self.count += 1

        return timed


class Note(vk.training.Callback):
    """Notes the time in messages at the end of each epoch."""

    def __init__(self, timed: Timed) -> None:
        self.timed = timed
        self.at: list[tuple[float, int, float]] = []

    def on_epoch_end(self, loop: Any, record: dict[str, float]) -> None:
        self.at.append((self.timed.seconds, self.timed.count, time.perf_counter()))


def main() -> None:
    """Train, and say how fast."""
    kind, num_rows, epochs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    timed = Timed()
    vk.distributed.join()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "mlp":
            model, objective = vk.presets.vae((784,), latent_dim=MLP["latent"], hidden=tuple(MLP["hidden"]))
        else:
            model, objective = vk.presets.conv_vae((1, 28, 28), latent_dim=16)
        rows = (torch.rand(num_rows, *((784,) if kind == "mlp" else (1, 28, 28))) > 0.5).float()
    note = Note(timed)
    trainer = vk.Trainer(
        max_epochs=1 + epochs, batch_size=128, compile="off", precision="float32", progress=False, callbacks=[note]
    )
    trainer.fit(model, objective, rows)
    if vk.distributed.rank() == 0:
        (messages, count, start), (messages_end, count_end, end) = note.at[0], note.at[-1]
        steps = epochs * -(-num_rows // 128)
        print(
            json.dumps(
                {
                    "rows_per_second": num_rows * epochs / (end - start),
                    "share": (messages_end - messages) / (end - start),
                    "messages_per_step": (count_end - count) / steps,
                    "step_ms": 1e3 * (end - start) / steps,
                }
            )
        )


if __name__ == "__main__":
    main()
