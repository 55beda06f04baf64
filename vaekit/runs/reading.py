"""What a run holds, and how data are read with what it remembers."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vaekit import engine
from vaekit.errors import ArtifactError
from vaekit.models.base import GenerativeModel
from vaekit.paths import as_text
from vaekit.runs.calibration import CALIBRATION
from vaekit.runs.folder import METRICS
from vaekit.runs.training_rows import TRAINING_ROWS
from vaekit.saving import artifact, spec


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


def outcome(run: str | Path) -> dict[str, Any]:
    """What became of a run: epochs, the best one and its record, and the record of the one whose weights were kept.

    Of an ensemble, of its first model, and the best epochs of all.
    """
    about = artifact.read_config(run).metadata
    epochs = records(run)
    best_epoch = about.get("best_epoch") or len(epochs)
    best = epochs[best_epoch - 1] if 0 < best_epoch <= len(epochs) else {}
    is_last = (about.get("settings") or {}).get("keep") == "last" and epochs
    found = {"epochs": len(epochs), "best_epoch": best_epoch, "best": best, "kept": epochs[-1] if is_last else best}
    noted = ("finished", "stopped_early", "seconds", "quantity")
    several = {key: about[key] for key in ("best_epochs",) if key in about}  # of an ensemble
    return {"run": as_text(run), **found, **{key: about.get(key) for key in noted}, **several}


def describe(config: artifact.Config, restored: Callable[[], GenerativeModel]) -> dict[str, Any]:
    """Everything worth knowing of a run, as plain values.

    Args:
        config: what its `config.json` holds.
        restored: gives its model; not called where that has modules of others.
    """
    model = restored() if not spec.customs(config.model) else None
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
    known = {
        key: value for key, value in config.metadata.items() if key not in (TRAINING_ROWS, CALIBRATION)
    }  # a page for each column
    schema = known.get("data", {}).get("columns_schema")
    if schema is not None:
        kinds = {column["name"]: column["kind"] for column in schema["columns"]}
        known["data"] = {**known["data"], "columns_schema": kinds}
    return about | known | worded | {"engine": engine.describe()}


def _innermost(tree: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The arguments of the (first) VAE in a description, and in words what is wrapped around it."""
    wrappers = []
    if "models" in tree["arguments"]:
        wrappers.append(f"{tree['component']} of {len(tree['arguments']['models'])} models")
        tree = tree["arguments"]["models"][0]
    while "model" in tree["arguments"]:
        settings = {key: value for key, value in tree["arguments"].items() if key != "model"}
        wrappers.append(spec.in_words({**tree, "arguments": settings}))
        tree = tree["arguments"]["model"]
    return tree["arguments"], " of ".join(wrappers)


def flattened(tree: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Nested keys joined by dots, for tables."""
    flat: dict[str, object] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
