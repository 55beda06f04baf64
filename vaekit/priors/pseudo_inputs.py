"""Learned points in the space of the data: unconstrained numbers, and the way from them into a support."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaekit.distributions import element_support

_STEEPNESS = 4.0  # numbers of order 1 then cover an interval: the logistic of -4 to 4 is 0.02 to 0.98
_MARGIN = 0.02


class Range:
    """What the elements of a pseudo-input may be: an interval, the positive numbers, or all real numbers.

    Bits and levels lie in the interval that they span; counts among the positive numbers. Pseudo-inputs go into the
    encoder, never into the likelihood, so that values between two levels are welcome.

    Args:
        distribution: a p(x|z), whose support decides.
    """

    def __init__(self, distribution: Distribution) -> None:
        support: Any = element_support(distribution)
        self.interval: tuple[float, float] | None = None
        if support is constraints.boolean:
            self.interval = (0.0, 1.0)
        elif isinstance(support, constraints.interval | constraints.integer_interval):
            self.interval = (float(support.lower_bound), float(support.upper_bound))
        self.positive = support in (constraints.positive, constraints.nonnegative, constraints.nonnegative_integer)

    def inside(self, raw: Tensor) -> Tensor:
        """Any numbers to points of the range."""
        if self.interval is not None:
            low, high = self.interval
            return low + (high - low) * torch.sigmoid(_STEEPNESS * raw)
        return raw.exp() if self.positive else raw

    def raw(self, x: Tensor) -> Tensor:
        """The numbers behind points x; those at the edge of the range are moved a little way in."""
        if self.interval is not None:
            low, high = self.interval
            share = ((x - low) / (high - low)).clamp(_MARGIN, 1 - _MARGIN)
            return torch.logit(share) / _STEEPNESS
        # A count of 0 becomes 0.1: the logarithm of much less could not be left again by small steps.
        return x.clamp(min=0.1).log() if self.positive else x
