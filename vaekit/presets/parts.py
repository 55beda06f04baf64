"""Parts of presets: by name or as they are, and how what a likelihood describes reaches the encoder."""

from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict

import torch
from torch import nn
from torch.distributions import constraints

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import element_support
from vaekit.likelihoods import Categorical, Columns, Ordinal, RoundedLogNormal
from vaekit.networks import LogInput, RescaleInput
from vaekit.objectives import Objective
from vaekit.saving import spec
from vaekit.shapes import Shape
from vaekit.transforms import Transform

Part = str | nn.Module


class Parts(TypedDict, total=False):
    """What every preset of `vae` and `conv_vae` hands on."""

    posterior: Part
    transform: Transform | None
    objective: Objective | None


class WithPrior(Parts, total=False):
    """The same, and a prior."""

    prior: Part


class WithLikelihood(WithPrior, total=False):
    """The same, and a likelihood."""

    likelihood: Part


class OfVAE(WithLikelihood, total=False):
    """All that `vae` takes beside the two shapes."""

    hidden: Sequence[int]


class OfConvVAE(WithLikelihood, total=False):
    """All that `conv_vae` takes beside the two shapes."""

    channels: Sequence[int] | None


class OfClusters(Parts, total=False):
    """What `vae` takes beside the two shapes and the prior."""

    likelihood: Part
    hidden: Sequence[int]


class Seen(TypedDict):
    """How a `ColumnsInput` sees columns: its arguments."""

    levels: tuple[int, ...]
    logarithms: tuple[int, ...]
    holes: tuple[int, ...]
    powers: NotRequired[tuple[float, ...]]
    centres: NotRequired[tuple[float, ...]]


def component(axis: str, part: Part, *arguments: Shape) -> Any:
    """A part by its name, or the part itself."""
    return spec.resolve(axis, part)(*arguments) if isinstance(part, str) else part


def rescaled(network: nn.Module, head: ConditionalDistribution) -> nn.Module:
    """Levels reach the encoder as values in [0, 1], counts and positive numbers as logarithms.

    The likelihood still describes x as it is.
    """
    if head.num_levels:
        return RescaleInput(network, 0, head.num_levels - 1)
    with torch.no_grad():
        support = element_support(head(torch.zeros(1, *head.param_shape)))
    if support is constraints.nonnegative_integer:
        return LogInput(network)
    return LogInput(network, offset=0.0) if support is constraints.positive else network


def columns_seen(head: Columns) -> Seen:
    """How the columns of a row reach the encoder: levels one-hot, counts as logarithms, and which are missing.

    Counts whose head has powers are seen by the same powers.
    """
    levels = [0] * head.event_shape[0]
    logarithms: list[int] = []
    bends: dict[int, tuple[float, float]] = {}
    holes: list[int] = []
    for part, places in zip(head.parts, head.places, strict=True):
        sizes = part.num_classes if isinstance(part, Categorical | Ordinal) else 0
        for place, size in zip(places, [sizes] * len(places) if isinstance(sizes, int) else sizes, strict=True):
            levels[place] = size
        with torch.no_grad():
            if element_support(part(torch.zeros(1, *part.param_shape))) is constraints.nonnegative_integer:
                logarithms += places
        if isinstance(part, RoundedLogNormal):
            bends |= dict(zip(places, part.bends, strict=True))
        if part.missing == "observed-only":
            holes += places
    seen: Seen = {"levels": tuple(levels), "logarithms": tuple(sorted(logarithms)), "holes": tuple(sorted(holes))}
    if any(bend != (0.0, 1.0) for bend in bends.values()):
        pairs = [bends.get(place, (0.0, 1.0)) for place in seen["logarithms"]]
        seen["powers"], seen["centres"] = (tuple(numbers) for numbers in zip(*pairs, strict=True))
    return seen
