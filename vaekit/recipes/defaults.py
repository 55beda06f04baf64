"""What follows from the data where settings are silent: likelihood, transform, dimensions of z."""

import math
from typing import Any

import torch
from torch.distributions import constraints

from vaekit import likelihoods, transforms
from vaekit.conditional import ConditionalDistribution
from vaekit.data import Dataset, kinds
from vaekit.distributions import element_support
from vaekit.distributions.base import hooks
from vaekit.errors import ConfigError, SupportError
from vaekit.models.rows import as_rows, as_tensor
from vaekit.recipes.settings import Settings
from vaekit.recipes.tables import columns_likelihood, columns_transform, place_spikes
from vaekit.saving import spec

_COLUMNS = "columns"


def default_preset(settings: Settings, data: Dataset) -> str:
    """The preset that is asked for; else the one that suits the data and the parts of the model that are named."""
    if settings.preset is not None:
        return settings.preset
    if data.beside is not None:
        return "conditional-vae"
    parts = {"posterior", "prior", "objective", "likelihood", "transform"}
    named = set(settings.model_dump(include=parts, exclude_none=True))
    if settings.likelihood is not None and spec.normalized(settings.likelihood) == _COLUMNS:
        named.remove("likelihood")  # it would have been the default
    return kinds.of(data).default_preset(data, frozenset(named))


def default_likelihood(data: Dataset) -> str:
    """Bits, and grey images of many levels as drawn bits: Bernoulli; other images: levels; numbers: Normal.

    Tables with a schema get a head for each kind of column.
    """
    return kinds.of(data).default_likelihood(data) if data.schema is None else _COLUMNS


def make_likelihood(data: Dataset, text: str) -> ConditionalDistribution:
    """The likelihood of that name for the data; heads over integers learn the number of levels from the data."""
    if spec.normalized(text) == _COLUMNS:
        if data.schema is None:
            raise ConfigError(f"likelihood=columns takes its heads from a schema, and {data.name!r} has none")
        return columns_likelihood(data.schema, data)
    offered: dict[str, object] = {"event_shape": data.event_shape}
    argument = spec.resolve("likelihoods", text.partition(":")[0]).levels_argument
    if argument is not None:
        offered[argument] = kinds.of(data).num_levels(data)
    head: ConditionalDistribution = spec.from_words("likelihoods", text, **offered)
    return head


def _default_chain(data: Dataset, head: ConditionalDistribution) -> str:
    """What leads the data into the support of p(x|z), whatever the family: read off the support, not off a name."""
    kind = kinds.of(data)
    with torch.no_grad():
        likelihood = head(torch.zeros(1, *head.param_shape))
    support = element_support(likelihood)
    is_density = (hooks(likelihood).quantity or "density") == "density"
    if support is constraints.boolean:
        if kind.into_bits is None:
            raise SupportError(
                f"a likelihood of bits expects x in {{0, 1}}, and {data.name!r} holds other numbers. For grey values "
                "in [0, 1] take likelihood=continuous-bernoulli (ContinuousBernoulli), a density. Or write "
                "transform=binarize to draw bits, with the values as their probabilities; log p is then that of bits."
            )
        chain = kind.into_bits
    elif not (support.is_discrete or is_density):  # grey values as if bits
        chain = kind.into_unit_interval
    elif support.is_discrete:  # levels and counts
        chain = ()
    else:
        # Real numbers have no unit of their own; positive ones and proportions have a zero that a shift would lose.
        shift = ["standardize"] if support is constraints.real else []
        chain = (*kind.into_reals, *shift)
    return ",".join(chain) or "none"


def make_transform(data: Dataset, head: ConditionalDistribution, text: str | None) -> transforms.Transform | None:
    """The transform in words, or the one that leads these data into the support of the likelihood.

    What it learns (means, scales) is fitted to the data.
    """
    if text is None and isinstance(head, likelihoods.Columns) and data.schema is not None:
        of_columns = columns_transform(data.schema)
        if of_columns is not None:
            of_columns.fit(as_tensor(data))
        place_spikes(head, of_columns)
        return of_columns
    chain = _default_chain(data, head) if text is None else text
    if spec.normalized(chain) == "none":
        return None
    low, high = data.value_range or (0.0, 1.0)
    offered = {"low": low, "high": high, "num_levels": int(high) + 1, "event_shape": data.event_shape}
    parts = [spec.from_words("transforms", part, **offered) for part in chain.split(",")]
    transform: Any = parts[0] if len(parts) == 1 else transforms.Compose(parts)
    with torch.no_grad():
        # Only a chain needs all rows at once, for each part sees what the last one made.
        transform.fit(as_tensor(data) if len(parts) > 1 else as_rows(data))
    learned: transforms.Transform = transform
    return learned


def default_latent_dim(data: Dataset) -> int:
    """A quarter of the number of elements, at least 2 and at most 40."""
    return min(40, max(2, math.prod(data.event_shape) // 4))
