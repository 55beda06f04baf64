"""What a run holds, and data for it."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from vaekit import artifact, data, engine, spec
from vaekit.errors import ArtifactError, ConfigError, DataError
from vaekit.recipes import AnyDataset
from vaekit.runs.folder import METRICS


def records(run: str | Path) -> list[dict[str, float]]:
    """The epochs of a run, from its `metrics.jsonl`; empty where there is none."""
    path = Path(run) / METRICS
    if not path.exists():
        return []
    try:
        epochs = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} is damaged ({error})") from error
    if not all(isinstance(epoch, dict) for epoch in epochs):
        raise ArtifactError(f"{path} is damaged: each line is one JSON object")
    return epochs


def data_of(run: str | Path) -> dict[str, Any]:
    """What a run says of the data it was fitted to; empty where it says nothing.

    Raises:
        ArtifactError: if that part of `config.json` is damaged.
    """
    about = artifact.read_config(run).metadata.get("data", {})
    value_range = about.get("value_range") if isinstance(about, dict) else 0
    if value_range is not None and not (isinstance(value_range, list) and len(value_range) == 2):
        raise ArtifactError(f"the description of the data in {Path(run) / artifact.CONFIG} is damaged")
    return about


def load_data(
    run: str | Path,
    source: str | None,
    *,
    part: data.sources.Part,
    data_dir: str | Path | None = None,
    label: str | None = None,
) -> AnyDataset:
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
    about = data_of(run)
    if source is None and about.get("name") in data.available():
        source = about["name"]  # without the part that it was fitted to: what is wanted now is `part`
    source = source or about.get("source")
    if source is None:
        raise ConfigError(f"{run} does not say what it was fitted to; name the data")
    options: dict[str, Any] = {"part": part, "data_dir": data_dir, "size": about.get("size")}
    wanted = label or about.get("label")
    try:
        dataset = data.load(source, label=wanted, **options)
    except DataError:
        if label is not None or wanted is None:
            raise
        dataset = data.load(source, **options)  # new rows may come without the label column
    if about.get("value_range") and not _is_whole(dataset):
        low, high = about["value_range"]
        raise DataError(f"the run was fitted to integers in {low:g}..{high:g}; got {dataset.dtype} that are not whole.")
    columns = about.get("columns")
    if columns and dataset.columns and list(dataset.columns) != columns:
        different = [c for c in columns if c not in dataset.columns] or [c for c in dataset.columns if c not in columns]
        raise DataError(f"the columns differ from those the run was fitted to: {different[:5] or 'their order'}")
    return dataset


def _is_whole(dataset: AnyDataset) -> bool:
    return dataset.dtype.kind in "ui" or all(np.array_equal(x, np.round(x)) for x in dataset.blocks())


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
    arguments, wrappers = _innermost(config.model)
    parts = {name: spec.in_words(arguments.get(name)) for name in ("prior", "transform")}
    for name, part in (("posterior", "encoder"), ("likelihood", "decoder")):
        inner = arguments[part]["arguments"]
        parts |= {name: spec.in_words(inner["head"]), f"{part}_network": spec.in_words(inner["network"])}
    about = {
        "vaekit_version": config.vaekit_version,
        "num_parameters": None if model is None else sum(p.numel() for p in model.parameters()),
        "dtype": config.dtype,
        "latent_shape": None if model is None else list(model.latent_shape),
        **parts,
        **({"refinement": wrappers} if wrappers else {}),
    }
    objective = config.metadata.get("objective")  # text in runs of older versions
    worded = {} if objective is None else {"objective": spec.in_words(objective)}
    return about | config.metadata | worded | {"engine": engine.describe()}


def _innermost(tree: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The arguments of the VAE in a description, and in words what is wrapped around it."""
    wrappers = []
    while "model" in tree["arguments"]:
        settings = {key: value for key, value in tree["arguments"].items() if key != "model"}
        wrappers.append(spec.in_words({**tree, "arguments": settings}))
        tree = tree["arguments"]["model"]
    return tree["arguments"], " of ".join(wrappers)


def flattened(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots, for tables."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
