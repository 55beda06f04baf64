"""Words and nested dictionaries to objects and back. Names are resolved in the `__all__` of each axis package alone.

A component is described by its constructor: every component keeps each argument under the argument's own name, as
scikit-learn's estimators do, so that its description can be read off the object.
"""

import difflib
import inspect
import re
from collections.abc import Callable, Iterable
from importlib import import_module
from types import FunctionType
from typing import Any

import torch
from torch import nn

from vaekit.errors import ArtifactError, ConfigError

AXES = ("likelihoods", "posteriors", "priors", "networks", "objectives", "transforms", "schedules")
_CORE = {
    "VAE": "vaekit.models",
    "ConditionalVAE": "vaekit.models",
    "Ensemble": "vaekit.models",
    "StackedVAE": "vaekit.models",
    "Hamiltonian": "vaekit.models",
    "SemiAmortized": "vaekit.models",
    "Conditional": "vaekit.conditional",
}
RENAMED: dict[str, str] = {}
"""Names of components in runs that older versions saved, "axis.Name", to those of today."""
_ABSTRACT = frozenset({"Objective", "Transform", "Loss"})
REQUIRED = inspect.Parameter.empty


def normalized(name: str) -> str:
    """A component's name without case, hyphens, underscores and spaces."""
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")


def nearest(word: str, known: Iterable[str]) -> str:
    """The question "Did you mean ...?" with the nearest known words, or the list of all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(known)}."


def components(axis: str) -> dict[str, type[Any]]:
    """Name to class of every member of an axis, in the order of its `__all__`."""
    module = import_module(f"vaekit.{axis}")
    return {name: getattr(module, name) for name in module.__all__ if name not in _ABSTRACT}


def resolve(axis: str, name: str) -> type[Any]:
    """The class of a component; case, hyphens and underscores do not matter.

    Raises:
        ConfigError: if there is none, with the nearest names.
    """
    members = components(axis)
    by_name = {normalized(key): value for key, value in members.items()}
    if normalized(name) not in by_name:
        # Abbreviated by its axis' words: "normal" for DiagonalNormal would be ambiguous, so nothing is guessed.
        hyphenated = [hyphened(key) for key in members]
        raise ConfigError(f"there is no {axis.removesuffix('s')} named {name!r}. {nearest(name.lower(), hyphenated)}")
    return by_name[normalized(name)]


def hyphened(name: str) -> str:
    """DiagonalNormal to diagonal-normal, BetaTC to beta-tc; acronyms (ELBO, DReG) to lower case."""
    return re.sub(r"(?<=[a-z])(?=[A-Z][a-z])|(?<=[a-z]{2})(?=[A-Z])", "-", name).lower()


def parameters(kind: Callable[..., object]) -> dict[str, object]:
    """Argument to default of a component's constructor; `REQUIRED` where it has none."""
    many = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)  # of modules without a constructor
    found = inspect.signature(kind).parameters.items()
    return {name: parameter.default for name, parameter in found if parameter.kind not in many}


def arguments_of(component: object) -> dict[str, object]:
    """What a component was made of: the arguments of its constructor, which it keeps under their own names."""
    return {name: getattr(component, name) for name in parameters(type(component))}


def from_words(axis: str, text: str, **defaults: object) -> Any:
    """A component from `name` or `name:argument=value:argument=value`.

    Args:
        axis: "likelihoods", "transforms", ...
        text: the name and its arguments.
        **defaults: arguments used where the component has them and the text does not set them.

    Raises:
        ConfigError: for an unknown name or argument, a value that does not fit, or an argument that words do not give.

    Example:
        >>> from_words("objectives", "elbo:beta=4", num_samples=2)
        ELBO(num_samples=2, beta=4, kl='auto', free_bits=None)
    """
    name, *rest = text.split(":")
    kind = resolve(axis, name)
    known = parameters(kind)
    arguments = {key: value for key, value in defaults.items() if key in known}
    for part in rest:
        key, equals, value = part.partition("=")
        if not equals or key not in known:
            raise ConfigError(f"{text!r}: expected argument=value, got {part!r}. {nearest(key, known)}")
        arguments[key] = _value(value)
    lacking = [key for key, default in known.items() if default is REQUIRED and key not in arguments]
    if lacking:
        example = f"{hyphened(kind.__name__)}:{lacking[0]}=VALUE"
        raise ConfigError(f"{text!r} needs {', '.join(lacking)}; write {example}, or build the model in Python")
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        if isinstance(error, ConfigError) and not isinstance(error, TypeError):
            raise
        raise ConfigError(f"{text!r} cannot be made: {error}") from error


def _value(text: str) -> bool | int | float | str:
    """true, false, a number, or a word."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _own(value: object) -> str | None:
    """The name "axis.Name" of an instance of one of our components, else None."""
    kind = type(value)
    if kind.__name__ in _CORE and kind.__module__.startswith("vaekit."):
        return kind.__name__
    for axis in AXES:
        if components(axis).get(kind.__name__) is kind:
            return f"{axis}.{kind.__name__}"
    return None


def describe(value: object, path: str = "model") -> Any:
    """An object as a tree that JSON can hold.

    Components become `{"component": "axis.Name", "arguments": {...}}`; a module or a function that is not ours becomes
    `{"custom": path, "class": name}` and has to be handed in again when the tree is built.

    Raises:
        ConfigError: for a value that can be neither.
    """
    if isinstance(value, list | tuple | torch.Size | nn.ModuleList):
        return [describe(item, f"{path}.{i}") for i, item in enumerate(value)]
    name = _own(value)
    if name is not None:
        arguments = {n: describe(argument, f"{path}.{n}") for n, argument in arguments_of(value).items()}
        return {"component": name, "arguments": arguments}
    if isinstance(value, FunctionType):
        return {"custom": path, "class": f"{value.__module__}.{value.__qualname__}"}
    if isinstance(value, nn.Module) or callable(value):
        return {"custom": path, "class": f"{type(value).__module__}.{type(value).__qualname__}"}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(f"{path} is a {type(value).__name__}, which cannot be described in a file")


def build(tree: Any, modules: dict[str, nn.Module] | None = None) -> Any:
    """The object that `describe` described, with fresh parameters.

    Args:
        tree: what `describe` returned.
        modules: path to module, for every module that is not ours.

    Raises:
        ArtifactError: if a module that is not ours is not handed in, or a component is unknown.
    """
    modules = modules or {}
    missing = {path: name for path, name in customs(tree) if path not in modules}
    if missing:
        listed = ", ".join(f"{path!r} (a {name})" for path, name in missing.items())
        example = ", ".join(f"{path!r}: ..." for path in missing)
        raise ArtifactError(
            f"modules that are not vaekit's are not stored, only their weights; hand them in again: {listed}. "
            f"For example load(path, modules={{{example}}})."
        )
    unused = set(modules) - {path for path, _ in customs(tree)}
    if unused:
        raise ArtifactError(
            f"modules {sorted(unused)} are not part of this model; it has {sorted(dict(customs(tree)))}"
        )
    return _build(tree, modules)


def customs(tree: Any) -> list[tuple[str, str]]:
    """(path, class name) of every module in a description that is not ours."""
    if isinstance(tree, list):
        return [found for item in tree for found in customs(item)]
    if isinstance(tree, dict):
        if "custom" in tree:
            return [(tree["custom"], tree.get("class", "module"))]
        return [found for item in tree.get("arguments", {}).values() for found in customs(item)]
    return []


def _build(tree: Any, modules: dict[str, nn.Module]) -> Any:
    if isinstance(tree, list):
        return tuple(_build(item, modules) for item in tree)
    if not isinstance(tree, dict):
        return tree
    if "custom" in tree:
        return modules[tree["custom"]]
    arguments = {key: _build(value, modules) for key, value in tree["arguments"].items()}
    return constructor(tree["component"])(**arguments)


def in_words(tree: Any) -> str:
    """A description in a line, such as DiagonalNormal(event_shape=16)."""
    if not isinstance(tree, dict):
        return "(" + ", ".join(in_words(item) for item in tree) + ")" if isinstance(tree, list) else str(tree)
    if "custom" in tree:
        return str(tree["class"])
    listed = ", ".join(f"{key}={in_words(value)}" for key, value in tree["arguments"].items())
    return f"{tree['component'].rpartition('.')[2]}({listed})"


def constructor(name: str) -> Callable[..., Any]:
    """The class of a name in a description: "axis.Name", or that of a core class.

    Raises:
        ArtifactError: if there is none.
    """
    name = RENAMED.get(name, name)
    axis, _, member = name.partition(".")
    known = components(axis) if axis in AXES else {}
    if name not in _CORE and member not in known:
        raise ArtifactError(f"unknown component {name!r}: was the run saved by a newer vaekit?")
    found: Callable[..., Any] = getattr(import_module(_CORE[name]), name) if name in _CORE else known[member]
    return found
