"""Runs: folders that hold a fitted model with its settings and its history."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from vaekit import artifact, data, engine, recipe, spec
from vaekit.errors import ArtifactError, ConfigError, DataError, TrainingError, VaekitError
from vaekit.files import write_atomically
from vaekit.training import History
from vaekit.training.checkpoint import FILE_NAME as CHECKPOINT
from vaekit.training.checkpoint import remove_checkpoint

SETTINGS, METRICS = "settings.json", "metrics.jsonl"
_OWN_FILES = (artifact.CONFIG, artifact.WEIGHTS, CHECKPOINT, SETTINGS, METRICS)


def _digest(dataset: data.Dataset) -> int:
    """A checksum of the rows: a resumed run must see the same data."""
    return zlib.crc32(np.ascontiguousarray(dataset.x).reshape(-1).view(np.uint8).data)


def _describe_data(dataset: data.Dataset, source: str, options: dict[str, Any]) -> dict[str, Any]:
    columns = None if dataset.columns is None else list(dataset.columns)
    described = {"source": source, "name": dataset.name, "kind": dataset.kind, "num_rows": len(dataset)}
    described |= {"event_shape": list(dataset.event_shape), "columns": columns, "crc32": _digest(dataset)}
    value_range = None if dataset.value_range is None else [float(v) for v in dataset.value_range]
    return described | {"value_range": value_range, "dtype": str(dataset.x.dtype), **options}


def is_finished(run: str | Path) -> bool:
    """Whether a run was fitted to its end."""
    try:
        return bool(artifact.read_config(run).metadata.get("finished"))
    except ArtifactError:
        return False


def _own_files(folder: Path) -> list[Path]:
    return [folder / name for name in _OWN_FILES if (folder / name).exists()]


def _claim(folder: Path, *, overwrite: bool, resume: bool) -> None:
    """Make sure that the folder may be written.

    Raises:
        ConfigError: if it holds something and neither overwriting nor resuming was asked for.
    """
    if overwrite and resume:
        raise ConfigError("--overwrite and --resume exclude each other")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; a run is a folder")
    if not folder.exists() or not any(folder.iterdir()):
        return
    own = _own_files(folder)
    if not own:
        raise ConfigError(f"{folder} holds files that are not a run's; choose another folder")
    if overwrite:
        for path in own:
            path.unlink()
    elif not resume:
        raise ConfigError(f"{folder} exists; use --resume to go on, --overwrite to start anew, or another folder")


def _stored(folder: Path) -> dict[str, Any]:
    """Settings of the run that lies in the folder."""
    try:
        return json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{folder / SETTINGS} is damaged ({error}); start anew with --overwrite") from error


def _merge(folder: Path, given: dict[str, Any], described: dict[str, Any] | None) -> dict[str, Any]:
    """What was given, on top of what the run in the folder was started with.

    Raises:
        ConfigError: if a key or the data differ from the run's own.
    """
    stored = _stored(folder)
    if not stored:
        return given
    before = recipe.settings(stored["settings"]).model_dump()
    now = recipe.settings({**stored["settings"], **given}).model_dump()
    for key, value in now.items():
        if value != before[key]:
            raise ConfigError(
                f"{folder} was started with {key}={before[key]}, now it is {value}; drop the key or fit anew"
            )
    for key in ("num_rows", "event_shape", "crc32"):
        if described is not None and described[key] != stored["data"][key]:
            raise ConfigError(f"{folder} was fitted to other data ({key} differs); hand over the same ones or fit anew")
    return {key: value for key, value in before.items() if value is not None}


def fit(
    source: str,
    run: str | Path,
    given: dict[str, Any] | None = None,
    *,
    valid: str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    label: str | None = None,
    size: int | None = None,
    data_dir: str | Path | None = None,
    progress: bool = True,
) -> History | None:
    """Fit a model to data and save it: what `vaekit fit` does.

    Args:
        source: name or path of the data; of a named set, the training part.
        run: folder to write; see `vaekit.artifact` for what it holds.
        given: settings by key; see `recipe.Settings`.
        valid: name or path of validation data; None holds out a fixed tenth.
        overwrite: replace a run that is there.
        resume: go on with a run that is there; without a checkpoint from the beginning, a finished one stays as it is.
        label: column of a table with labels.
        size: side to which the images of a folder are resized.
        data_dir: where named sets are looked for first.
        progress: whether to report on stderr.

    Returns:
        The history, or None where the run was finished already.

    Raises:
        ConfigError: for settings that do not exist or a folder that may not be written.
        DataError, SupportError, ShapeError, TrainingError, ArtifactError: as the parts raise them.
    """
    folder = Path(run)
    recipe.settings(given or {})
    _claim(folder, overwrite=overwrite, resume=resume)
    dataset = data.load(source, part="train", data_dir=data_dir, label=label, size=size)
    described = _describe_data(dataset, source, {"label": label, "size": size})
    wanted = recipe.settings(_merge(folder, given or {}, described) if resume else given or {})
    if resume and is_finished(folder):
        return None
    data.warn_constant_columns(dataset)
    if valid is None:
        train, held_out = data.holdout(dataset)
    else:
        train, held_out = dataset, data.load(valid, part="test", data_dir=data_dir, label=label, size=size)
    with engine.seeded(engine.block_seed(wanted.seed, 0)):
        model, objective = recipe.build(wanted, train)
    trainer = recipe.make_trainer(wanted, len(train), progress=progress)
    _create(folder)
    stored = {"settings": wanted.model_dump(exclude_none=True), "data": described}
    write_atomically(folder / SETTINGS, (json.dumps(stored, indent=2) + "\n").encode())
    about = {**stored, "finished": False, "max_epochs": trainer.max_epochs, "objective": repr(objective)}
    try:
        history = trainer.fit(model, objective, train, held_out, run=folder, resume=resume)
    except (KeyboardInterrupt, SystemExit, TrainingError):
        artifact.save(model, folder, metadata=about)
        raise
    except VaekitError:
        _withdraw(folder)
        raise
    about |= {"finished": True, "epochs": len(history), "best_epoch": history.best_epoch}
    about |= {"stopped_early": history.stopped_early, "seconds": sum(history["seconds"])}
    artifact.save(model, folder, metadata=about)
    remove_checkpoint(folder)
    return history


def _create(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"cannot create the folder {folder}: {error.strerror or error}") from error


def _withdraw(folder: Path) -> None:
    """Take back the folder of a run that failed before its first step; what an earlier session left stays."""
    if not any((folder / name).exists() for name in (CHECKPOINT, artifact.CONFIG, METRICS)):
        (folder / SETTINGS).unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()


def records(run: str | Path) -> list[dict[str, float]]:
    """The epochs of a run, from its `metrics.jsonl`; empty where there is none."""
    path = Path(run) / METRICS
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} is damaged ({error})") from error


def load_data(
    run: str | Path,
    source: str | None,
    *,
    part: data.sources.Part,
    data_dir: str | Path | None = None,
    label: str | None = None,
) -> data.Dataset:
    """Data for a fitted run, read as those it was fitted to (label column, image size).

    Args:
        run: the run's folder.
        source: name or path; None takes what the run was fitted to.
        part: which part of a named set.
        data_dir: where named sets are looked for first.
        label: column of a table with labels, if it has another name here.

    Raises:
        ConfigError: if no source is given and the run does not know one.
        DataError: if the data cannot be read, or have other columns.
    """
    about = artifact.read_config(run).metadata.get("data", {})
    source = source or about.get("source")
    if source is None:
        raise ConfigError(f"{run} does not say what it was fitted to; name the data")
    options = {"part": part, "data_dir": data_dir, "size": about.get("size")}
    wanted = label or about.get("label")
    try:
        dataset = data.load(source, label=wanted, **options)
    except DataError:
        if label is not None or wanted is None:
            raise
        dataset = data.load(source, **options)  # new rows may come without the label column
    columns = about.get("columns")
    if columns and dataset.columns and list(dataset.columns) != columns:
        different = [c for c in columns if c not in dataset.columns] or [c for c in dataset.columns if c not in columns]
        raise DataError(f"the columns differ from those the run was fitted to: {different[:5] or 'their order'}")
    return dataset


def outcome(run: str | Path) -> dict[str, Any]:
    """What became of a run: epochs, the best one and its record."""
    about = artifact.read_config(run).metadata
    epochs = records(run)
    best_epoch = about.get("best_epoch") or len(epochs)
    best = epochs[best_epoch - 1] if 0 < best_epoch <= len(epochs) else {}
    keys = ("finished", "stopped_early", "seconds")
    return {"run": str(run), "epochs": len(epochs), "best_epoch": best_epoch, "best": best} | {
        key: about.get(key) for key in keys
    }


def describe(run: str | Path) -> dict[str, Any]:
    """Everything worth knowing of a run, as plain values."""
    config = artifact.read_config(run)
    model = artifact.load(run) if not spec.customs(config.model) else None
    arguments = config.model["arguments"]
    parts = {name: _component_name(arguments.get(name)) for name in ("prior", "transform")}
    for name, part in (("posterior", "encoder"), ("likelihood", "decoder")):
        inner = arguments[part]["arguments"]
        parts |= {name: _component_name(inner["head"]), f"{part}_network": _component_name(inner["network"])}
    about = {
        "vaekit_version": config.vaekit_version,
        "num_parameters": None if model is None else sum(p.numel() for p in model.parameters()),
        "dtype": config.dtype,
        "latent_shape": None if model is None else list(model.latent_shape),
        **parts,
    }
    return about | config.metadata | {"engine": engine.describe()}


def _component_name(tree: Any) -> str:
    """A component's description in a line, such as DiagonalNormal(event_shape=16)."""
    if not isinstance(tree, dict):
        return "(" + ", ".join(_component_name(item) for item in tree) + ")" if isinstance(tree, list) else str(tree)
    if "custom" in tree:
        return str(tree["class"])
    listed = ", ".join(f"{key}={_component_name(value)}" for key, value in tree["arguments"].items())
    return f"{tree['component'].rpartition('.')[2]}({listed})"


def flattened(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots, for tables."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
