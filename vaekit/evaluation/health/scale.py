"""The learned scale of p(x|z), and whether it has sunk to its floor."""

from dataclasses import dataclass

from torch import Tensor

from vaekit.bounds import LatentVariableModel
from vaekit.conditional import Conditional, ConditionalDistribution
from vaekit.distributions.support import elements
from vaekit.traits import ModelTraits, told


@dataclass(frozen=True)
class Scale:
    """The scale parameter of p(x|z) on some data, in model space.

    Attributes:
        smallest: over points and elements of x.
        median: likewise.
        largest: likewise.
        at_floor: share of the elements whose scale is within 1% of the floor that the likelihood sets; NaN without one.
    """

    smallest: float
    median: float
    largest: float
    at_floor: float


def _head(model: LatentVariableModel) -> ConditionalDistribution | None:
    decoder = told(ModelTraits, model).decoder
    head = decoder.head if isinstance(decoder, Conditional) else None
    return head if isinstance(head, ConditionalDistribution) else None


def has_fixed_scale(model: LatentVariableModel) -> bool:
    """Whether the scale of p(x|z) is a constant, as far as the model says."""
    head = _head(model)
    return head is not None and head.scale_is_fixed


def learned_scale(model: LatentVariableModel, y: Tensor) -> Scale | None:
    """The `scale` of the elements of p(x|z) at draws from q, where the family has one that is learned."""
    p = model.likelihood(model.posterior(y).sample())
    scale, head = vars(elements(p)).get("scale"), _head(model)
    if not isinstance(scale, Tensor) or has_fixed_scale(model):
        return None
    values = scale.double().flatten()
    floor = None if head is None else head.min_scale
    at_floor = float((values < 1.01 * floor).double().mean()) if floor else float("nan")
    return Scale(float(values.min()), float(values.median()), float(values.max()), at_floor)
