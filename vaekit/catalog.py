"""What there is: data sets, presets, components, pictures and settings, with a line each."""

import inspect
from typing import Any

from vaekit import data, plots, presets, recipe, spec

_SHOWN = ("likelihoods", "posteriors", "priors", "objectives", "transforms", "networks")


def first_line(thing: Any) -> str:
    """The first sentence of a docstring, or of its module where it starts with a formula."""
    text = (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")
    if "\\(" in text:
        text = (inspect.getdoc(inspect.getmodule(thing)) or "").split("\n\n")[0].replace("\n", " ")
    return text.rstrip(".")


def entries() -> dict[str, dict[str, str]]:
    """Kind to name to description."""
    found: dict[str, dict[str, str]] = {"data": data.available()}
    found["preset"] = {name: first_line(function) for name, function in presets.available().items()}
    for axis in _SHOWN:
        members = spec.components(axis)
        found[axis.removesuffix("s")] = {spec.hyphened(name): first_line(kind) for name, kind in members.items()}
    found["plot"] = dict(plots.KINDS)
    found["key"] = {name: field.description or "named model" for name, field in recipe.Settings.model_fields.items()}
    return found
