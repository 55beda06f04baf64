"""What follows from the data where settings are silent: likelihood, transform, dimensions of z."""

import math
from typing import Any

import numpy as np
import torch
from torch.distributions import constraints

from vaekit import transforms
from vaekit.conditional import ConditionalDistribution
from vaekit.data import Dataset, StoredDataset
from vaekit.distributions import element_support
from vaekit.distributions.base import hooks
from vaekit.models.rows import as_rows, as_tensor
from vaekit.saving import spec

AnyDataset = Dataset | StoredDataset


def _is_bits(data: AnyDataset) -> bool:
    return data.value_range in (None, (0, 1)) and all(bool(np.isin(x, (0, 1)).all()) for x in data.blocks())


def default_likelihood(data: AnyDataset) -> str:
    """Bits and grey images (as drawn bits): Bernoulli; colour images: discretised logistic; numbers: Normal."""
    grey = data.value_range is not None and (len(data.event_shape) == 2 or data.event_shape[0] == 1)
    if grey or _is_bits(data):
        return "bernoulli"
    return "normal" if data.value_range is None else "discretized-logistic"


def _greatest(data: AnyDataset) -> float:
    return float(np.nanmax([np.fmax.reduce(x, axis=None) for x in data.blocks()]))


def make_likelihood(data: AnyDataset, text: str) -> ConditionalDistribution:
    """The likelihood of that name for the data; heads over integers learn the number of levels from the data."""
    offered: dict[str, Any] = {"event_shape": data.event_shape}
    argument = spec.resolve("likelihoods", text.partition(":")[0]).levels_argument
    if argument is not None:
        offered[argument] = _num_levels(data)
    return spec.from_words("likelihoods", text, **offered)


def _num_levels(data: AnyDataset) -> int:
    """How many values 0..L-1 an element has, as far as the data show."""
    highest = data.value_range[1] if data.value_range is not None else _greatest(data)
    return max(2, int(highest) + 1) if math.isfinite(highest) and highest < 2**16 else 256


def _default_chain(data: AnyDataset, head: ConditionalDistribution) -> str:
    """What leads the data into the support of p(x|z), whatever the family: read off the support, not off a name."""
    is_bits = _is_bits(data)
    integers = data.value_range is not None and not is_bits
    with torch.no_grad():
        likelihood = head(torch.zeros(1, *head.param_shape))
    support = element_support(likelihood)
    is_density = (hooks(likelihood).quantity or "density") == "density"
    if support is constraints.boolean or not (support.is_discrete or is_density):  # bits, or grey values as if bits
        scale = ["scale"] if integers else []
        bits = [] if support is not constraints.boolean or is_bits else ["binarize"]
        return ",".join([*scale, *bits]) or "none"
    if support.is_discrete:  # levels and counts
        return "none"
    into_interval = ["dequantize"] if integers else []
    # Real numbers have no unit of their own; positive ones and proportions have a zero that a shift would lose.
    shift = ["standardize"] if support is constraints.real else []
    return ",".join([*into_interval, *shift]) or "none"


def make_transform(data: AnyDataset, head: ConditionalDistribution, text: str | None) -> transforms.Transform | None:
    """The transform in words, or the one that leads these data into the support of the likelihood.

    What it learns (means, scales) is fitted to the data.
    """
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
    return transform


def default_latent_dim(data: AnyDataset) -> int:
    """A quarter of the number of elements, at least 2 and at most 40."""
    return min(40, max(2, math.prod(data.event_shape) // 4))
