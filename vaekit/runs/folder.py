"""The folder of a run: what it holds, who may write it, and whether it is the same run."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from vaekit import artifact, recipes
from vaekit.errors import ArtifactError, ConfigError
from vaekit.recipes import AnyDataset, Settings
from vaekit.training.checkpoint import FILE_NAME as CHECKPOINT

SETTINGS, METRICS = "settings.json", "metrics.jsonl"
_OWN_FILES = (artifact.CONFIG, artifact.WEIGHTS, CHECKPOINT, SETTINGS, METRICS)


class _Data(BaseModel):
    """What a resumed run must find again."""

    model_config = ConfigDict(extra="allow")

    source: str
    num_rows: int
    event_shape: list[int]
    crc32: int
    valid: str | None
    valid_crc32: int | None


class _Stored(BaseModel):
    """What `settings.json` holds."""

    settings: dict[str, Any]
    data: _Data


def digest(dataset: AnyDataset) -> int:
    """A checksum of the rows: a resumed run must see the same data, in memory or on disk."""
    checksum = 0
    for x in dataset.blocks():
        checksum = zlib.crc32(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data, checksum)
    return checksum


def describe_data(dataset: AnyDataset, source: str, options: dict[str, Any]) -> dict[str, Any]:
    """What a run remembers of its data: enough to read others like them, and to know the same ones again."""
    columns = None if dataset.columns is None else list(dataset.columns)
    described = {"source": source, "name": dataset.name, "kind": dataset.kind, "num_rows": len(dataset)}
    described |= {"event_shape": list(dataset.event_shape), "columns": columns, "crc32": digest(dataset)}
    value_range = None if dataset.value_range is None else [float(v) for v in dataset.value_range]
    return described | {"value_range": value_range, "dtype": str(dataset.dtype), **options}


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


def clear(folder: Path, *, overwrite: bool) -> None:
    """Remove what a killed write left, and with `overwrite` the old run; called when the new one is sure to start."""
    for path in [*_leftovers(folder), *(_own_files(folder) if overwrite else [])]:
        path.unlink(missing_ok=True)


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


def read_settings(folder: Path) -> dict[str, Any]:
    """Settings of the run that lies in the folder."""
    try:
        stored = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        return _Stored.model_validate(stored).model_dump()
    except FileNotFoundError:
        if any((folder / name).exists() for name in (CHECKPOINT, artifact.CONFIG)):
            raise ArtifactError(
                f"{folder / SETTINGS} is missing; put it back, or start anew with --overwrite"
            ) from None
        return {}
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(f"{folder / SETTINGS} is damaged ({reason}); start anew with --overwrite") from error


def merge(folder: Path, wanted: Settings, described: dict[str, Any]) -> Settings:
    """The settings of the run in the folder, with which those that were set now have to agree.

    Raises:
        ConfigError: if a key or the data differ from the run's own.
    """
    stored = read_settings(folder)
    if not stored:
        return wanted
    before = recipes.settings(stored["settings"])
    started, now = before.model_dump(), wanted.model_dump(exclude_unset=True)
    for key, value in now.items():
        if value != started[key]:
            raise ConfigError(
                f"{folder} was started with {key}={started[key]}, now it is {value}; drop the key or fit anew"
            )
    for key in ("num_rows", "event_shape", "crc32", "valid_crc32"):
        if described[key] != stored["data"][key]:
            raise ConfigError(f"{folder} was fitted to other data ({key} differs); hand over the same ones or fit anew")
    return before


def create(folder: Path) -> None:
    """Make the folder, or raise an `ArtifactError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"cannot create the folder {folder}: {error.strerror or error}") from error


def withdraw(folder: Path) -> None:
    """Take back the folder of a run that failed before its first step; what an earlier fit left stays."""
    if not any((folder / name).exists() for name in (CHECKPOINT, artifact.CONFIG, METRICS)):
        (folder / SETTINGS).unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()
