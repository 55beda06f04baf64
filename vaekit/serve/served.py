"""The models of a service: runs that are open, each with its thread, and how they change for new weights."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vaekit import runs
from vaekit.data import Dataset
from vaekit.errors import ConfigError, VaekitError
from vaekit.paths import as_text
from vaekit.serve import logs
from vaekit.serve.batching import Worker
from vaekit.serve.drift import DriftWatch
from vaekit.serve.limits import Limits
from vaekit.serve.metrics import Metrics
from vaekit.serve.openapi import Shape, example_body


class Served:
    """One model: a run under the name of its folder.

    Args:
        name: its name.
        folder: the folder of the run.
        limits: see `Worker`.
        metrics: the counters of the service.
        run: the run, as `opened` gives it.
        threads: see `Worker`.
    """

    def __init__(self, name: str, folder: Path, limits: Limits, metrics: Metrics, run: runs.Run, threads: int) -> None:
        self.name, self.folder, self._metrics = name, folder, metrics
        self.drift = DriftWatch(run.training_rows)
        self.worker = Worker(run, limits, self, threads)

    @property
    def run(self) -> runs.Run:
        """The run that answers."""
        return self.worker.run

    def reload(self) -> bool:
        """Read the folder anew, and answer by what it holds now; with a folder that is damaged nothing changes."""
        try:
            run = opened(self.folder)
        except (VaekitError, OSError) as error:
            self._metrics.reloads.labels(self.name, "failed").inc()
            logs.say("reload failed", level=40, model=self.name, reason=" ".join(str(error).split()))
            return False
        self.drift = DriftWatch(run.training_rows)
        self.worker.swap(run)
        self._metrics.reloads.labels(self.name, "done").inc()
        logs.say("reloaded", model=self.name)
        return True

    # --- What the worker tells ----------------------------------------------------------------------------------------

    def passed(self, num_requests: int) -> None:
        """See `batching.Watch`."""
        self._metrics.together.labels(self.name).observe(num_requests)

    def saw(self, rows: Dataset) -> None:
        """See `batching.Watch`."""
        num_rows, num_strange = self.drift.saw(rows)
        self._metrics.watched.labels(self.name).inc(num_rows)
        self._metrics.strange.labels(self.name).inc(num_strange)

    def failed(self, error: Exception) -> None:
        """See `batching.Watch`."""
        self._metrics.failures.labels(self.name).inc()
        logs.say_failure("failure", error, model=self.name)


class Fleet:
    """All models of a service, by name.

    Args:
        folders: their folders; the last part of each is its name.
        limits: what each takes.
        threads: of torch for each model; None divides the cores among the models.

    Raises:
        ConfigError: Two folders have one name, or a name is empty.
        ArtifactError: A folder holds no run, or a damaged one.
    """

    def __init__(self, folders: Sequence[Path], limits: Limits, threads: int | None = None) -> None:
        self.limits = limits
        self.metrics = Metrics(self._gauges)
        self.models: dict[str, Served] = {}
        own = threads or max(1, (os.cpu_count() or 1) // max(1, len(folders)))
        found = {name: (folder, opened(folder)) for name, folder in _named(folders).items()}
        for name, (folder, run) in found.items():
            self.models[name] = Served(name, folder, limits, self.metrics, run, own)

    def _gauges(self) -> Iterator[tuple[str, int, dict[str, float]]]:
        for name, model in self.models.items():
            yield name, model.worker.num_waiting, model.drift.drift()

    def reload(self) -> None:
        """Read all folders anew."""
        for model in self.models.values():
            model.reload()

    def close(self) -> None:
        """Answer what waits, and end all threads."""
        for model in self.models.values():
            model.worker.close()


def _named(folders: Sequence[Path]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for folder in folders:
        name = as_text(folder.resolve().name)
        if not name:
            raise ConfigError(f"{folder} has no name to serve it by; name the folder of a run")
        if name in named:
            raise ConfigError(f"two runs are called {name}: {named[name]} and {folder}. Rename one of the folders.")
        named[name] = folder
    return named


def opened(folder: Path) -> runs.Run:
    """A run in memory, which has read its weights and answered a first row: its folder may change or go.

    Raises:
        ArtifactError: The folder holds no run, or a damaged one.
    """
    run = runs.open(folder).in_memory()
    row = example_body(Shape(run), "score")["rows"]
    for ask in (run.score, run.encode):
        with _silently():
            ask(run.rows(row))
    with _silently():
        run.sample(1)
    return run


@contextmanager
def _silently() -> Iterator[None]:
    """For first questions, which take hundreds of times as long as second ones: not every model answers each."""
    with suppress(VaekitError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
