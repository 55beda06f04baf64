"""Saved models: a folder with `config.json` and `model.safetensors`. No pickle, no code from data."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from vaekit import __version__
from vaekit.errors import ArtifactError, ArtifactWarning, ConfigError, VaekitError
from vaekit.saving import spec
from vaekit.saving.files import write_atomically
from vaekit.saving.tensors import from_bytes, sha256, to_bytes, unshare

FORMAT_VERSION = 1
CHANGES: dict[int, str] = {}
"""A format_version to what models of older ones mean otherwise, in a sentence: it rises where the meaning changes."""
_DTYPES = {
    str(each).removeprefix("torch."): each for each in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
}
CONFIG, WEIGHTS = "config.json", "model.safetensors"


class Config(BaseModel):
    """What `config.json` holds."""

    model_config = ConfigDict(extra="forbid")

    format_version: int
    vaekit_version: str
    model: dict[str, object]
    dtype: str = "float32"
    weights_sha256: str
    shared: dict[str, str] = {}
    metadata: dict[str, Any] = {}


def save(model: nn.Module, path: str | Path, *, metadata: Mapping[str, object] | None = None) -> None:
    """Write a model to a folder: its description, and its weights without pickle.

    Tensors that modules share are stored once. The same weights give the same bytes. Each of the two files is replaced
    as a whole, and the description names the digest of the weights, so a mixture of two saves is noticed.

    Args:
        model: a `VAE`. Modules in it that are not vaekit's keep their weights here, but not their code.
        path: the folder; created where it does not exist.
        metadata: anything that JSON can hold, such as the settings of the run.

    Raises:
        ArtifactError: if the folder cannot be written.
        ConfigError: if the model cannot be described.
    """
    write(*taken_apart(model, metadata), path)


def write(config: Config, weights: bytes, path: str | Path) -> None:
    """Write what `taken_apart` gives to a folder; see `save`."""
    folder, content = Path(path), _in_json(config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"cannot create the folder {folder}: {error.strerror or error}") from error
    write_atomically(folder / WEIGHTS, weights)
    write_atomically(folder / CONFIG, content)


def taken_apart(model: nn.Module, metadata: Mapping[str, object] | None = None) -> tuple[Config, bytes]:
    """What `save` writes of a model, in memory: its description, and its weights as the bytes of a safetensors file.

    Raises:
        ConfigError: if the model cannot be described.
    """
    tensors, shared = unshare(model.state_dict())
    weights = to_bytes(tensors)
    return _described(model, sha256(weights), shared, metadata), weights


def check(model: nn.Module, metadata: Mapping[str, object] | None = None) -> None:
    """Find out before a model is trained whether `save` can describe it and its metadata.

    Raises:
        ConfigError: if it cannot.
    """
    _in_json(_described(model, "", {}, metadata))


def _described(model: nn.Module, digest: str, shared: dict[str, str], metadata: Mapping[str, object] | None) -> Config:
    parameter = next(model.parameters(), None)
    return Config(
        format_version=FORMAT_VERSION,
        vaekit_version=__version__,
        model=spec.describe(model),
        dtype=str(torch.float32 if parameter is None else parameter.dtype).removeprefix("torch."),
        weights_sha256=digest,
        shared=shared,
        metadata=dict(metadata or {}),
    )


def _in_json(config: Config) -> bytes:
    """The content of `config.json`."""
    try:
        return (config.model_dump_json(indent=2) + "\n").encode()
    except ValueError as error:  # half of a pair of Unicode, an object of no kind that JSON has
        raise ConfigError(f"a setting, or the metadata, of the model cannot be written as JSON: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ArtifactError(f"{path.parent} is no saved model: {path.name} is missing") from error
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from error


def read_config(path: str | Path) -> Config:
    """The checked `config.json` of a saved model.

    Raises:
        ArtifactError: if it is missing, damaged, or of a newer format.
    """
    file = Path(path) / CONFIG
    content = _read(file)
    try:
        tree = json.loads(content)
        version = tree.get("format_version") if isinstance(tree, dict) else None
    except ValueError as error:
        raise ArtifactError(f"{file} is truncated or damaged ({error})") from error
    if type(version) is not int or version < 1:
        raise ArtifactError(f"{file} has no valid format_version; got {version!r}")
    if version > FORMAT_VERSION:
        raise ArtifactError(
            f"{file} has format_version {version}; vaekit {__version__} reads up to {FORMAT_VERSION}. Upgrade vaekit."
        )
    for changed in (text for number, text in sorted(CHANGES.items()) if version < number):
        warnings.warn(f"{file} has format_version {version}: {changed}", ArtifactWarning, stacklevel=3)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(f"{file} is not valid: {where}: {first['msg']}") from error


def check_weights(path: str | Path) -> Config:
    """The configuration of a saved model whose weights are there and unaltered.

    Raises:
        ArtifactError: if either file is missing, damaged or altered.
    """
    read_weights(Path(path), config := read_config(path))
    return config


def read_weights(folder: Path, config: Config) -> bytes:
    """The bytes of the weights of a saved model.

    Raises:
        ArtifactError: if they are missing or altered.
    """
    weights = _read(folder / WEIGHTS)
    if sha256(weights) != config.weights_sha256:
        raise ArtifactError(f"{folder / WEIGHTS} is truncated or altered: its digest is not the one in {CONFIG}")
    return weights


def load(path: str | Path, *, modules: dict[str, nn.Module] | None = None, device: str = "cpu") -> Any:
    """Read a model that `save` wrote; it comes in eval mode.

    Args:
        path: the folder.
        modules: path in the model ("model.encoder.network") to a module, for modules that are not vaekit's.
        device: where to put it.

    Returns:
        The model.

    Raises:
        ArtifactError: if a file is missing, truncated, altered or too new, if a custom module is not handed in, or if
            the weights do not fit the model.
    """
    return restore(path, read_config(path), modules=modules, device=device)


def restore(
    path: str | Path, config: Config, *, modules: dict[str, nn.Module] | None = None, device: str = "cpu"
) -> Any:
    """`load` for a configuration that was read already."""
    folder = Path(path)
    return put_together(config, read_weights(folder, config), modules=modules, device=device, where=str(folder))


def put_together(
    config: Config,
    weights: bytes,
    *,
    modules: dict[str, nn.Module] | None = None,
    device: str = "cpu",
    where: str = "memory",
) -> Any:
    """The model that `taken_apart` took apart, in eval mode; see `load`, `where` is the place for messages."""
    tensors = from_bytes(weights, f"{where}/{WEIGHTS}")
    try:
        tensors |= {name: tensors[kept] for name, kept in config.shared.items()}
        model = spec.build(config.model, modules).to(_DTYPES[config.dtype])
        model.load_state_dict(tensors)
    except ArtifactError:
        raise
    except (VaekitError, RuntimeError, TypeError, KeyError, AttributeError, ValueError) as error:
        raise ArtifactError(f"the description and the weights in {where} do not fit: {error}") from error
    return model.to(device).eval()
