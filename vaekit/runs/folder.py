"""The folder of a run: what it holds, who may write it, and whether it is the same run."""

import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from vaekit import engine, recipes
from vaekit.data.reading import PLAIN, Reading
from vaekit.data.schema import Schema
from vaekit.engine import world
from vaekit.errors import ArtifactError, BusyError, ConfigError
from vaekit.recipes import Settings
from vaekit.runs.origin import Local, Origin
from vaekit.saving import artifact
from vaekit.saving.files import write_atomically
from vaekit.training.checkpoint import FILE_NAME as CHECKPOINT

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SETTINGS, METRICS = "settings.json", "metrics.jsonl"
_ASIDE = ".replaced"  # a folder within that of a run: the run that is overwritten, until the new one has begun
DENSITIES = ("density", "bound on a mass")
"""What log p is of a model that draws real numbers. Only those are rounded: means of bits are probabilities."""
_OWN_FILES = (artifact.CONFIG, artifact.WEIGHTS, CHECKPOINT, SETTINGS, METRICS)


class HeldOut(BaseModel):
    """How the validation rows were chosen from the rows that a run was fitted to; see `data.holdout`.

    Attributes:
        fraction: share of the rows.
        seed: of the permutation.
        num_rows: how many they were; None in runs of older versions, which followed the same rule.
        crc32: checksum of their numbers, which tells whether the rule still gives them; None likewise.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    fraction: float = 0.1
    seed: int = 0
    num_rows: int | None = None
    crc32: int | None = None


class DataAbout(BaseModel):
    """What a run remembers of its data: enough to read others like them, and to know the same ones again.

    Attributes:
        source: name or path, as it was given, "-" for stdin; None where the model was only saved. Of an absolute path
            `config.json` has the name of the file alone.
        name: name of the set.
        kind: "image", "table" or "array".
        num_rows: N, validation rows included where they were held out.
        event_shape: shape X of one row.
        columns: names of the columns of a table.
        crc32: checksum of the rows.
        value_range: least and greatest value that can occur.
        dtype: of the rows.
        whole: whether the numbers of the rows are whole, holes aside: of all elements, or of each in the order of
            memory; None in runs of older versions.
        label: column with labels.
        key: column with the identifiers of the rows.
        size: side, or height and width, to which the images of a folder were resized.
        reading: how the file was read, guesses included.
        columns_schema: what the columns are, of a table that holds more than numbers; None otherwise.
        context_schema: what a conditional model is conditioned on; None for all others.
        weights_crc32: checksum of what the rows count, by the column `reading.weight`; None where all count alike.
        start: the run that this one went on from; None where it began with new weights.
        valid: name or path of the validation data, or None.
        valid_crc32: checksum of those.
        held_out: how the validation rows were chosen from the rows; None where all rows were trained on, and in runs of
            older versions.
        local: where the data lie, and what tells how they changed; None where `settings.json` did not come along.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    source: str | None = None
    name: str = ""
    kind: str = "array"
    num_rows: int | None = None
    event_shape: tuple[int, ...] | None = None
    columns: tuple[str, ...] | None = None
    crc32: int | None = None
    value_range: tuple[float, float] | None = None
    dtype: str | None = None
    whole: bool | tuple[bool, ...] | None = None
    label: str | None = None
    key: str | None = None
    size: int | tuple[int, int] | None = None
    reading: Reading = PLAIN
    columns_schema: Schema | None = None
    context_schema: Schema | None = None
    weights_crc32: int | None = None
    start: Origin | None = None
    valid: str | None = None
    valid_crc32: int | None = None
    held_out: HeldOut | None = None
    local: Local | None = None

    def rounded(self, values: np.ndarray) -> np.ndarray:
        """Values of shape (N, *X) with whole numbers where the data had no others."""
        whole = self.whole if self.whole is not None else np.dtype(self.dtype or float).kind in "ui"
        where = whole if isinstance(whole, bool) else np.reshape(whole, values.shape[1:])
        return np.where(where, np.round(values) + 0.0, values)  # + 0.0: no -0

    @classmethod
    def of(cls, metadata: Mapping[str, object], folder: Path | None) -> "DataAbout":
        """What the metadata of a model say of its data, and `settings.json`, if it is in the folder, of their place.

        Raises:
            ArtifactError: if that part of the metadata is damaged.
        """
        try:
            about = cls.model_validate(metadata.get("data", {}))
        except ValidationError as error:
            where = artifact.CONFIG if folder is None else folder / artifact.CONFIG
            raise ArtifactError(f"the description of the data in {where} is damaged") from error
        if folder is None:
            return about
        try:
            stored = Stored.model_validate_json((folder / SETTINGS).read_bytes()).data
        except (OSError, ValueError):
            return about
        if stored.local is None or (stored.crc32, stored.num_rows) != (about.crc32, about.num_rows):
            return about
        return about.model_copy(update={"source": stored.source, "valid": stored.valid, "local": stored.local})


class Stored(BaseModel):
    """What `settings.json` holds."""

    settings: dict[str, Any]
    data: DataAbout


def stored_json(stored: Stored) -> bytes:
    """The content of `settings.json`."""
    tree = {"settings": stored.settings, "data": stored.data.model_dump()}
    return (json.dumps(tree, indent=2, ensure_ascii=False) + "\n").encode()


def is_run(folder: str | Path) -> bool:
    """Whether the folder holds a saved model."""
    return (Path(folder) / artifact.CONFIG).is_file()


def is_finished(run: str | Path) -> bool:
    """Whether a run was fitted to its end."""
    try:
        return bool(artifact.check_weights(run).metadata.get("finished"))
    except ArtifactError:
        return False


def _own_files(folder: Path) -> list[Path]:
    return [folder / name for name in _OWN_FILES if (folder / name).exists()]


def _leftovers(folder: Path) -> set[Path]:
    """Temporary files of writes that were killed."""
    return {path for name in _OWN_FILES for path in folder.glob(f".{name}.*")}


def clear(folder: Path) -> None:
    """Remove what a killed write left; called when the new run is sure to start."""
    for path in _leftovers(folder):
        path.unlink(missing_ok=True)


def set_aside(folder: Path) -> None:
    """Move the run that lies in the folder out of the way of a new one; `settle` decides between the two."""
    aside = folder / _ASIDE
    create(aside)
    for path in _own_files(folder):
        path.replace(aside / path.name)


def settle(folder: Path) -> None:
    """Keep the new run where it got as far as an epoch or a model; otherwise put back the one that was set aside.

    Without either the folder goes, unless something else lies in it.
    """
    aside = folder / _ASIDE
    if not _has_begun(folder):
        clear(folder)
        for path in _own_files(folder):
            path.unlink()
        for path in _own_files(aside):
            path.replace(folder / path.name)
    for path in _own_files(aside):
        path.unlink()
    for empty in (aside, folder):
        if empty.is_dir() and not any(empty.iterdir()):
            empty.rmdir()


def recover(folder: Path) -> None:
    """Settle what a fit that was killed could not."""
    if (folder / _ASIDE).is_dir():
        settle(folder)


def _has_begun(folder: Path) -> bool:
    metrics = folder / METRICS
    return any((folder / name).exists() for name in (CHECKPOINT, artifact.CONFIG)) or (
        metrics.exists() and metrics.stat().st_size > 0
    )


def claim(folder: Path, *, overwrite: bool, resume: bool) -> None:
    """Make sure that the folder may be written; nothing is removed yet.

    Raises:
        ConfigError: if it holds something and neither overwriting nor resuming was asked for.
    """
    if overwrite and resume:
        raise ConfigError("--overwrite and --resume exclude each other")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; a run is a folder")
    if not folder.exists() or not any(path not in _leftovers(folder) for path in folder.iterdir()):
        return
    if not _own_files(folder):
        raise ConfigError(f"{folder} holds files that are not a run's; choose another folder")
    if not overwrite and not resume:
        raise ConfigError(f"{folder} exists; use --resume to go on, --overwrite to start anew, or another folder")


def read_settings(folder: Path) -> Stored | None:
    """Settings and data of the run that lies in the folder; None where there is none."""
    try:
        return Stored.model_validate_json((folder / SETTINGS).read_bytes())
    except FileNotFoundError:
        if any((folder / name).exists() for name in (CHECKPOINT, artifact.CONFIG)):
            raise ArtifactError(
                f"{folder / SETTINGS} is missing; put it back, or start anew with --overwrite"
            ) from None
        return None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(f"{folder / SETTINGS} is damaged ({reason}); start anew with --overwrite") from error


def merge(folder: Path, stored: Stored, wanted: Settings) -> Settings:
    """The settings that the run in the folder was started with; those that were set now have to agree.

    Raises:
        ConfigError: if a key differs from the run's own.
    """
    before = recipes.settings(stored.settings)
    started, now = before.model_dump(), wanted.model_dump(exclude_unset=True)
    for key, value in now.items():
        if value != started[key]:
            raise ConfigError(
                f"{folder} was started with {key}={started[key]}, now it is {value}; drop the key or fit anew"
            )
    return before


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the one process that writes into the folder; the system ends the lock with the process, however it ends.

    An empty folder that was made for the lock goes again. Where the system cannot lock folders there is no lock.

    Raises:
        BusyError: if another process writes into it.
    """
    if fcntl is None or (folder.exists() and not folder.is_dir()):
        yield
        return
    handle = _locked(folder)
    try:
        yield
    finally:
        with suppress(OSError):  # it holds something, or is gone
            folder.rmdir()  # under the lock: it is nobody else's
        os.close(handle)


def _locked(folder: Path) -> int:
    """An open folder with the lock on it."""
    while True:
        create(folder)
        try:
            handle = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # it was another's, who just left
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise BusyError(f"another fit is writing into {folder}; wait for it, or choose another folder") from None
        except OSError:  # a file system without locks
            return handle
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(folder)):
                return handle
        os.close(handle)  # the lock is on a folder that is gone


def save_run(
    folder: Path,
    config: artifact.Config,
    weights: bytes,
    stored: Stored,
    records: Sequence[dict[str, float]],
    overwrite: bool,
) -> None:
    """Write a finished run into a folder.

    Raises:
        ConfigError: if it holds something else, or a run that is not to be overwritten.
    """
    with alone(folder):
        claim(folder, overwrite=overwrite, resume=False)
        for path in _own_files(folder):
            path.unlink()
        write_atomically(folder / SETTINGS, stored_json(stored))
        write_atomically(folder / METRICS, "".join(json.dumps(record) + "\n" for record in records).encode())
        artifact.write(config, weights, folder)


_Options = ParamSpec("_Options")
_Result = TypeVar("_Result")


def one_writer(function: Callable[_Options, _Result]) -> Callable[_Options, _Result]:
    """Let a function have the folder that its argument `run` names `alone`; of a group, process 0 has it."""
    arguments = inspect.signature(function)

    @wraps(function)
    def locked(*args: _Options.args, **options: _Options.kwargs) -> _Result:
        engine.join()
        if world.rank():  # process 0 writes
            return function(*args, **options)
        with alone(Path(arguments.bind(*args, **options).arguments["run"])):
            return function(*args, **options)

    return locked


def create(folder: Path) -> None:
    """Make the folder, or raise an `ArtifactError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"cannot create the folder {folder}: {error.strerror or error}") from error
