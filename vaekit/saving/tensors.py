"""Nested Python values with tensors in them, to and from safetensors. No pickle."""

import hashlib
import json
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from vaekit.errors import ArtifactError

_TENSOR, _TUPLE, _PAIRS = "$tensor", "$tuple", "$pairs"


def unshare(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Each storage once: tensors that are the same memory become one, and a map from the other names to its name."""
    kept: dict[str, Tensor] = {}
    shared: dict[str, str] = {}
    seen: dict[tuple[object, ...], str] = {}
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        key = (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if tensor.numel() and key in seen:
            shared[name] = seen[key]
        else:
            seen[key] = name
            kept[name] = tensor.cpu().clone(memory_format=torch.contiguous_format)
    return kept, shared


def to_bytes(tensors: dict[str, Tensor]) -> bytes:
    """Tensors as the bytes of a safetensors file; the same tensors give the same bytes."""
    return save_safetensors(tensors)


def from_bytes(content: bytes, where: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ArtifactError: if the bytes are no such file.
    """
    try:
        return load_safetensors(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ArtifactError(f"{where} is truncated or damaged ({error}). Fit or copy it again.") from error


def sha256(content: bytes) -> str:
    """Hexadecimal digest."""
    return hashlib.sha256(content).hexdigest()


def _flatten(value: object, tensors: dict[str, Tensor]) -> object:
    """A tree that JSON can hold; its tensors go into `tensors` under running numbers."""
    if isinstance(value, Tensor):
        name = f"{len(tensors):06d}"
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {_TENSOR: name}
    if isinstance(value, tuple):
        return {_TUPLE: [_flatten(v, tensors) for v in value]}
    if isinstance(value, list):
        return [_flatten(v, tensors) for v in value]
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: _flatten(v, tensors) for key, v in value.items()}
        return {_PAIRS: [[_flatten(k, tensors), _flatten(v, tensors)] for k, v in value.items()]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ArtifactError(
        f"a checkpoint holds tensors, numbers, words and containers of them; got {type(value).__name__}"
    )


def _unflatten(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(tree, list):
        return [_unflatten(v, tensors) for v in tree]
    if not isinstance(tree, dict):
        return tree
    if _TENSOR in tree:
        return tensors[tree[_TENSOR]]
    if _TUPLE in tree:
        return tuple(_unflatten(v, tensors) for v in tree[_TUPLE])
    if _PAIRS in tree:
        return {_unflatten(k, tensors): _unflatten(v, tensors) for k, v in tree[_PAIRS]}
    return {key: _unflatten(v, tensors) for key, v in tree.items()}


def pack(value: object) -> bytes:
    """A nested value of tensors, numbers, words, lists, tuples and dicts as bytes; floats keep every bit.

    Raises:
        ArtifactError: if it holds anything else.
    """
    tensors: dict[str, Tensor] = {}
    tree = _flatten(value, tensors)
    tensors["tree"] = torch.frombuffer(bytearray(json.dumps(tree).encode()), dtype=torch.uint8)
    return to_bytes(tensors)


def unpack(content: bytes, where: str) -> Any:
    """What `pack` was given.

    Raises:
        ArtifactError: if the bytes are damaged.
    """
    tensors = from_bytes(content, where)
    try:
        tree = json.loads(bytes(tensors.pop("tree").numpy()).decode())
        return _unflatten(tree, tensors)
    except (KeyError, ValueError) as error:
        raise ArtifactError(f"{where} is damaged ({error})") from error
