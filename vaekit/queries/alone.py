"""The distribution of one row out of those of many, without asking the model again."""

import copy
from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, TransformedDistribution

_KNOWN = "torch.distributions.", "vaekit.distributions."


def row_of(distribution: Distribution, i: int) -> Distribution | None:
    """The distribution of row i, batch shape (K, 1, ...), of one of batch shape (K, B, ...).

    None where it is not known what the distribution holds: a class of someone else's, or a transform with tensors.
    """
    if not type(distribution).__module__.startswith(_KNOWN):
        return None
    if isinstance(distribution, TransformedDistribution) and any(map(_holds_tensors, distribution.transforms)):
        return None
    lead, alone = distribution.batch_shape[:2], copy.copy(distribution)
    for name, value in vars(distribution).items():
        part: Any = value
        if isinstance(value, Tensor):
            is_batched = value.ndim >= len(distribution.batch_shape) and value.shape[:2] == lead
            # In the order of memory of a row alone: torch's samplers fill memory in its order.
            part = value[:, i : i + 1].clone(memory_format=torch.contiguous_format) if is_batched else value
        elif isinstance(value, Distribution) and value.batch_shape[:2] == lead:
            part = row_of(value, i)
            if part is None:
                return None
        vars(alone)[name] = part
    alone._batch_shape = Size((lead[0], 1, *distribution.batch_shape[2:]))
    return alone


def _holds_tensors(transform: object) -> bool:
    return any(isinstance(value, torch.Tensor) for value in vars(transform).values())
