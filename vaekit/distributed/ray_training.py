"""Training on a Ray cluster: Ray Train starts the processes, joins them, and starts them anew where one dies."""

import io
import json
import logging
import os
import shutil
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vaekit import runs
from vaekit.distributed.ray_cluster import cluster, raised
from vaekit.distributed.surroundings import environment
from vaekit.engine import world
from vaekit.engine.group import seconds_to_wait
from vaekit.errors import ArtifactError, ConfigError, GroupError, VaekitError
from vaekit.runs.folder import METRICS, SETTINGS
from vaekit.training import Callback
from vaekit.training.callbacks import Run as Loop
from vaekit.training.checkpoint import FILE_NAME as CHECKPOINT

_FILES = (SETTINGS, METRICS, CHECKPOINT)
_RESTARTS = 3
_EVERY = 30  # seconds, at least, between two checkpoints that Ray is handed
_YES = b"yes"
_HEALTH = "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"
_RESERVED = 4096  # bytes of the disk for what the first worker has to say at the end
_SAID, _OUTCOME = "said.txt", "outcome.json"


def fit_on_ray(
    source: str,
    run: str | Path,
    given: dict[str, Any] | None = None,
    *,
    workers: int,
    max_restarts: int = _RESTARTS,
    keep_every: float = _EVERY,
    **options: Any,
) -> None:
    """Fit a model as `runs.fit` does, by the workers of Ray Train, and save it as a run.

    Each worker has one core, or one GPU where the cluster has as many, and takes its share of each batch; batch size,
    order of rows and the best epoch are those of one process. Where a worker dies, Ray starts all of them anew, and
    training goes on from its last checkpoint, which Ray keeps. The first worker writes the folder of the run, which is
    to lie on a disk that all machines see, as the data do. What it has to say stands on stderr.

    Args:
        source: as in `runs.fit`, as for `run`, `given` and the options.
        run: folder to write.
        given: settings by key.
        workers: the number of processes.
        max_restarts: how often the group starts anew.
        keep_every: seconds, at least, between two checkpoints that Ray is handed, at which all workers wait for it.
        **options: those of `runs.fit` but `announce` and `callbacks`.

    Raises:
        ConfigError: if Ray is not installed, or its cluster has fewer cores; and as `runs.fit` raises it.
        GroupError: if the group failed once more than it may start anew, or the cluster does not answer.
        DataError, SupportError, ShapeError, TrainingError, ArtifactError: as `runs.fit` raises them.
    """
    folder = Path(run).absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    for name in ("valid", "start", "data_dir"):
        if options.get(name) is not None:
            options[name] = _absolute(options[name])
    config: dict[str, Any] = {"source": _absolute(source), "run": str(folder), "given": given, "options": options}
    config |= {"name": uuid.uuid4().hex, "keep_every": keep_every}
    # What workers leave for this process lies beside the run, where all machines see it.
    with cluster() as ray, TemporaryDirectory(prefix=".ray-", dir=folder.parent) as storage:
        resources = ray.cluster_resources()
        cores = int(resources.get("CPU", 0))
        if cores < workers:
            raise ConfigError(
                f"the Ray cluster has {cores} cores, and each worker takes one: --workers {cores} at most"
            )
        place = Path(storage)
        (place / _OUTCOME).write_bytes(b" " * _RESERVED)  # there is room for it where the disk fills
        with _heard(place / _SAID):
            _train(config | {"storage": storage}, workers, resources.get("GPU", 0) >= workers, max_restarts)
        outcome = json.loads((place / _OUTCOME).read_text(encoding="utf-8"))
    if outcome:
        raise raised(outcome["kind"], outcome["error"])


def _absolute(source: str | Path) -> str:
    """A path as workers find it, whose folder is another one; names of data sets stay."""
    text = os.path.expanduser(str(source))
    is_path = os.path.exists(text) or any(mark in text for mark in "*?[")
    return os.path.abspath(text) if is_path else str(source)


@contextmanager
def _heard(path: Path) -> Iterator[None]:
    """Let stderr have what the first worker writes to a file, while the body runs."""
    done = threading.Event()

    def follow() -> None:
        place = 0
        while True:
            is_last = done.wait(0.5)
            if path.exists():
                with path.open(encoding="utf-8", errors="replace") as file:
                    file.seek(place)
                    print(file.read(), end="", file=sys.stderr, flush=True)
                    place = file.tell()
            if is_last:
                return

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        yield
    finally:
        done.set()
        follower.join()


def _train(config: dict[str, Any], workers: int, on_gpus: bool, max_restarts: int) -> None:
    """Let Ray Train start the workers, and wait for them."""
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    seconds = seconds_to_wait()
    trainer = TorchTrainer(
        _work,
        train_loop_config=config,
        torch_config=TorchConfig(backend="nccl" if on_gpus else "gloo", timeout_s=int(seconds)),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=on_gpus),
        run_config=RunConfig(
            name=config["name"],
            storage_path=config["storage"],
            failure_config=FailureConfig(max_failures=max_restarts),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )
    try:
        # Ray asks workers for a sign of life: one that hangs is found as soon as the others find it.
        with environment({_HEALTH: os.environ.get(_HEALTH, str(seconds))}):
            trainer.fit()
    except Exception as error:  # Ray raises errors of several families
        said = " ".join(str(error).split())[-300:]
        raise GroupError(
            f"the workers on Ray were started {max_restarts + 1} times and failed each time ({said}). Go on from the "
            "last checkpoint with --resume."
        ) from error


def _work(config: dict[str, Any]) -> None:
    """A worker: `runs.fit` in the group that Ray has made."""
    # As under torch's launcher: a run that this group has begun goes on, another one is in the way.
    os.environ |= {"TORCHELASTIC_RUN_ID": config["name"], "TORCHELASTIC_RESTART_COUNT": "1"}
    folder, place, is_first = Path(config["run"]), Path(config["storage"]), world.rank() == 0
    outcome: dict[str, str] = {}
    with _speaking(place / _SAID if is_first else Path(os.devnull)):
        try:
            if is_first:
                _restore(folder)
            options = {**config["options"], "announce": _say, "callbacks": [_Reports(folder, config["keep_every"])]}
            runs.fit(config["source"], folder, config["given"], **options)
        except GroupError as error:
            if not is_first and _is_settled(place):  # process 0 gave up, for a reason that no new start mends
                return
            with suppress(OSError), (place / _SAID).open("a", encoding="utf-8") as said:
                said.write(f"vaekit: {' '.join(str(error).split())}\n")
            raise
        except (VaekitError, OSError) as error:
            kind = type(error).__name__ if isinstance(error, VaekitError) else ArtifactError.__name__
            outcome = {"error": str(error), "kind": kind}
    if is_first:
        _settle(place, outcome)


def _settle(place: Path, outcome: dict[str, str]) -> None:
    """Tell the process that waits how the run has ended, in the room that is reserved for that."""
    outcome = {name: text[: _RESERVED // 8] for name, text in outcome.items()}  # six bytes a letter at most
    with (place / _OUTCOME).open("r+b") as file:
        file.write(json.dumps(outcome).encode())


def _is_settled(place: Path) -> bool:
    """Whether the first worker ends for good, as it says a moment after the others have heard of it."""
    end = time.monotonic() + 10
    while not (place / _OUTCOME).read_bytes().strip():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


@contextmanager
def _speaking(path: Path) -> Iterator[None]:
    """Let a file have what is written to stderr while the body runs, without what Ray logs, prints included."""
    with redirect_stderr(_Lines(path)), warnings.catch_warnings():
        warnings.showwarning = lambda message, *place, **options: _say(f"vaekit: warning: {message}")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


class _Lines(io.TextIOBase):
    """Text at the end of a file; what finds no room on the disk is lost, and training goes on.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def write(self, text: str) -> int:
        """Write at once."""
        with suppress(OSError), self._path.open("ab", buffering=0) as file:
            file.write(text.encode(errors="replace"))
        return len(text)


def _say(line: str) -> None:
    print(" ".join(line.split()), file=sys.stderr, flush=True)


def _restore(folder: Path) -> None:
    """Fetch the last checkpoint from Ray, where this machine does not have the folder of the run."""
    from ray import train

    checkpoint = train.get_checkpoint()
    if checkpoint is None or (folder / CHECKPOINT).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with checkpoint.as_directory() as kept:
        for path in Path(kept).iterdir():
            shutil.copy2(path, folder / path.name)


class _Reports(Callback):
    """Hand Ray the last checkpoint now and then; all workers wait for each other here."""

    def __init__(self, folder: Path, every: float) -> None:
        self._folder, self._every = folder, every
        self._seen, self._last = 0.0, time.monotonic()

    def on_epoch_end(self, loop: Loop, record: dict[str, float]) -> None:
        """Report, where there is a new checkpoint and the last report is long enough ago: each one takes seconds."""
        with world.together():  # a callback is told by each process for itself; all of them are to decide alike
            if world.from_first(self._is_due) == _YES:
                self._report(record)

    def _report(self, record: dict[str, float]) -> None:
        from ray import train

        self._last = time.monotonic()
        if world.rank():
            train.report(dict(record))
            return
        self._seen = (self._folder / CHECKPOINT).stat().st_mtime
        with TemporaryDirectory() as place:
            for name in _FILES:
                shutil.copy2(self._folder / name, place)
            train.report(dict(record), checkpoint=train.Checkpoint.from_directory(place))

    def _is_due(self) -> bytes:
        path = self._folder / CHECKPOINT
        is_new = path.exists() and path.stat().st_mtime > self._seen
        return _YES if is_new and time.monotonic() - self._last >= self._every else b""
