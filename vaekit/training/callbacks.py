"""Callbacks: what happens beside the loop."""

import json
import logging
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from torch import nn

from vaekit.models.view import View
from vaekit.objectives import Objective
from vaekit.saving.files import write_atomically
from vaekit.training.history import History

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_log = logging.getLogger("vaekit.training")


class Seeded(Protocol):
    """Settings, of which a callback needs the seed."""

    @property
    def seed(self) -> int:
        """Source of all noise of the run."""
        ...


class Run(Protocol):
    """What a callback may know of a run, and `stop`, which it may set.

    Attributes:
        model: the model.
        objective: the objective.
        train: the training rows and the model.
        valid: the validation rows, or None.
        settings: those of the trainer.
        history: what happened so far.
        epoch: number of finished epochs.
        step: number of steps so far, skipped ones included.
        max_epochs: where training ends at the latest.
        num_batches: steps per epoch.
        stop: True ends training after the current epoch.
        signal: name of a signal that asks to end after the current step, or None.
    """

    model: nn.Module
    objective: Objective
    train: View
    valid: View | None
    history: History
    epoch: int
    step: int
    max_epochs: int
    num_batches: int
    stop: bool
    signal: str | None

    @property
    def settings(self) -> Seeded:
        """The trainer's settings."""
        ...


class Callback:
    """Methods that the loop calls. Override what you need; set `loop.stop = True` to end training after the epoch.

    `Run` lists what the loop offers. A callback that draws noise does so from torch's own stream; give it a generator
    for draws that repeat.
    """

    def on_fit_start(self, loop: Run) -> None:
        """Before the first step; after a resume, `loop.history` holds the earlier epochs."""

    def on_step_end(self, loop: Run) -> None:
        """After each step, also after a skipped one."""

    def on_epoch_end(self, loop: Run, record: dict[str, float]) -> None:
        """After validation; `record` is the new line of the history."""

    def on_fit_end(self, loop: Run) -> None:
        """After the last step, also when training was interrupted or failed."""

    def on_weights_chosen(self, loop: Run) -> None:
        """Once the model has the weights that it keeps, unless training failed; they may still be changed here."""


class MetricsFile(Callback):
    """Writes `metrics.jsonl`: one line of JSON per epoch with every term.

    Args:
        path: the file; a resumed run first rewrites the lines of the epochs that the checkpoint knows.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_fit_start(self, loop: Run) -> None:
        """Start afresh, or from what the checkpoint knows."""
        lines = "".join(json.dumps(record) + "\n" for record in loop.history.records)
        write_atomically(self.path, lines.encode())

    def on_epoch_end(self, loop: Run, record: dict[str, float]) -> None:
        """Append one line; a full disk costs the line, not the run."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            warnings.warn(f"cannot write {self.path}: {error.strerror or error}. Training goes on.", stacklevel=2)


def _summary(record: dict[str, float], selects: str) -> str:
    parts = [
        f"{part} {selects} {record[f'{part}_{selects}']:.2f}"
        for part in ("train", "valid")
        if f"{part}_{selects}" in record
    ]
    return ", ".join(parts)


class EpochLog(Callback):
    """A line for each epoch at level INFO of the logger `vaekit.training`, for programs that embed a training."""

    def on_epoch_end(self, loop: Run, record: dict[str, float]) -> None:
        """Log it, where somebody listens."""
        if _log.isEnabledFor(logging.INFO):
            _log.info("epoch %d/%d: %s", loop.epoch, loop.max_epochs, _summary(record, loop.objective.selects))


class ProgressLines(Callback):
    """A plain line on stderr every few seconds, for logs and pipes."""

    def __init__(self, every_seconds: float = 5.0) -> None:
        self.every_seconds = every_seconds
        self.last = -float("inf")

    def on_epoch_end(self, loop: Run, record: dict[str, float]) -> None:
        """Print if it is time."""
        now = time.monotonic()
        final = loop.stop or loop.epoch == loop.max_epochs
        if final or now - self.last >= self.every_seconds:
            self.last = now
            text = f"epoch {loop.epoch}/{loop.max_epochs}: {_summary(record, loop.objective.selects)}"
            print(f"{text} ({record['seconds']:.2f} s)", file=sys.stderr, flush=True)


class ProgressBar(Callback):
    """A rich progress bar on stderr, for terminals."""

    def __init__(self) -> None:
        self.bar: Progress | None = None
        self.task: TaskID | None = None

    def on_fit_start(self, loop: Run) -> None:
        """Show the bar."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        self.bar = Progress(*columns, console=Console(stderr=True))
        self.task = self.bar.add_task("", total=loop.max_epochs, completed=loop.epoch)
        self.bar.start()

    def on_epoch_end(self, loop: Run, record: dict[str, float]) -> None:
        """Move it."""
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=loop.epoch, description=_summary(record, loop.objective.selects))

    def on_fit_end(self, loop: Run) -> None:
        """Leave it as it is."""
        if self.bar is not None:
            self.bar.stop()


def progress_callback() -> Callback:
    """A bar where stderr is a terminal, lines elsewhere."""
    return ProgressBar() if sys.stderr.isatty() else ProgressLines()
