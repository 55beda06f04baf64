"""The parts of a model in words: what the docstring of each part says of it, and how it was constructed."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import nn
from torch.distributions import Distribution, Independent

from vaekit import docstrings
from vaekit.bounds import LatentVariableModel
from vaekit.conditional import Conditional
from vaekit.distributions import Product
from vaekit.models.view import View
from vaekit.runs import flattened
from vaekit.saving import spec
from vaekit.traits import ModelTraits, told
from vaekit.transforms import Transform
from vaekit.transforms.base import steps_of


class Part(NamedTuple):
    """A line of the table of parts."""

    name: str
    words: str
    call: str = ""
    """The call that makes the part, such as StandardNormal(event_shape=2); empty where the words say everything."""


def parts(model: LatentVariableModel) -> list[Part]:
    """The model, its three distributions, its networks, transform and size."""
    view = View.of(model)
    known = told(ModelTraits, model)
    prior = model.prior if known.latent_prior is None else known.latent_prior
    owners = (known.encoder, known.decoder)
    head_q, head_x = (owner.head if isinstance(owner, Conditional) else None for owner in owners)
    rows = [
        Part("Model", type(model).__name__),
        Part("Data x", shape(view.event_shape)),
        Part("Latent z", shape(tuple(known.latent_shape or view.latent_shape))),
        Part("Posterior q(z|x)", "given by the model") if head_q is None else part("Posterior q(z|x)", head_q),
        part("Prior p(z)", prior if isinstance(prior, nn.Module) else model.prior()),
        part("Likelihood p(x|z)", view.at_prior if head_x is None else head_x),
    ]
    networks = {"Encoder network": known.encoder, "Decoder network": known.decoder}
    rows += [part(name, owner.network) for name, owner in networks.items() if isinstance(owner, Conditional)]
    rows += transform_parts(view.transform)
    if isinstance(model, nn.Module):
        rows.append(Part("Parameters", f"{sum(p.numel() for p in model.parameters()):,}"))
    return rows


def shape(event: tuple[int, ...]) -> str:
    """(1, 28, 28) as "1 × 28 × 28 = 784 numbers"."""
    total = 1
    for size in event:
        total *= size
    noun = "number" if total == 1 else "numbers"
    return f"{total:,} {noun}" if len(event) < 2 else f"{' × '.join(map(str, event))} = {total:,} {noun}"


def part(name: str, thing: object) -> Part:
    """One of vaekit's components by its docstring and its call, anything else by its class."""
    if isinstance(thing, Distribution):
        return Part(name, _family(thing))
    tree = spec.describe(thing)
    if "custom" in tree:
        return Part(name, type(thing).__name__)
    return Part(name, docstrings.summary(type(thing)), spec.in_words(tree))


def _family(distribution: Distribution) -> str:
    """The class of a distribution, or that of its elements."""
    if isinstance(distribution, Independent):
        return _family(distribution.base_dist)
    return _family(distribution.base) if isinstance(distribution, Product) else type(distribution).__name__


def transform_parts(transform: Transform | None) -> list[Part]:
    """The steps from the data to the model, in their order."""
    steps = steps_of(transform)
    if not steps:
        return [Part("Transform of the data", "none")]
    return [part("then" if i else "Transform of the data", step) for i, step in enumerate(steps)]


def settings(config: Mapping[str, object]) -> list[tuple[str, str]]:
    """A configuration as (key, value) in words, nested keys joined by dots."""
    return [(key, _value(value)) for key, value in flattened(config).items()]


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value)) or None
    return "none" if value is None else str(value)
