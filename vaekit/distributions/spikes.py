"""Point masses beside a density: numbers of which some values come up again and again."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaekit.distributions.base import Base
from vaekit.shapes import near


class Spiked(Base):
    r"""\( \pi_0\, p(x) \) off the spikes, and the mass \( \pi_k \) at spike \( s_k \).

    A density with respect to the length everywhere and a count at the spikes, so that `log_prob` is a log-density off
    them and a log-mass at them. A value counts as a spike where it is equal to it up to the rounding of float32.

    Args:
        base: elementwise density of batch shape (..., D), which gives single points no mass.
        spikes: the spikes of each of the D elements, shape (D, S), NaN where an element has fewer.
        logits: unnormalised log-probabilities of the density and of each spike, shape (..., D, 1 + S); minus infinity
            for spikes that are not there.

    Example:
        >>> from torch.distributions import Normal
        >>> zero = torch.tensor([[0.0]])
        >>> x = Spiked(Normal(torch.zeros(1), torch.ones(1)), zero, torch.zeros(1, 2))
        >>> x.log_prob(torch.tensor([0.0])).exp(), x.mean
        (tensor([0.5000]), tensor([0.]))
    """

    parameters = ("base", "logits")

    def __init__(self, base: Distribution, spikes: Tensor, logits: Tensor) -> None:
        self.base, self.spikes, self.logits = base, spikes, torch.log_softmax(logits, -1)
        super().__init__(base.batch_shape, validate_args=False)

    @property
    def quantity(self) -> str:
        """Both."""
        return "density and mass"

    @property
    def support(self) -> constraints.Constraint:
        """That of the density."""
        return cast(constraints.Constraint, self.base.support)

    @property
    def mean(self) -> Tensor:
        """E[x], shape (*batch)."""
        weights = self.logits.exp()
        return weights[..., 0] * self.base.mean + (weights[..., 1:] * self.spikes.nan_to_num()).sum(-1)

    @property
    def variance(self) -> Tensor:
        """Var[x], shape (*batch)."""
        weights, mean = self.logits.exp(), self.mean
        of_base = weights[..., 0] * (self.base.variance + (self.base.mean - mean).square())
        around = (self.spikes.nan_to_num() - mean.unsqueeze(-1)).square()
        return of_base + (weights[..., 1:] * around).sum(-1)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws without gradients, shape (*sample_shape, *batch)."""
        with torch.no_grad():
            x = self.base.sample(torch.Size(sample_shape))
            choice = torch.distributions.Categorical(logits=self.logits, validate_args=False).sample(
                torch.Size(sample_shape)
            )
            spikes = self.spikes.nan_to_num().expand(*x.shape, -1)
            at = spikes.gather(-1, (choice - 1).clamp(min=0).unsqueeze(-1)).squeeze(-1)
            return torch.where(choice > 0, at, x)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats, shape (*batch)."""
        at_spike = self.is_spike(value)
        of_density = self.logits[..., 0] + self.base.log_prob(value)
        of_spikes = torch.where(at_spike, self.logits[..., 1:], -torch.inf).logsumexp(-1)
        return torch.where(at_spike.any(-1), of_spikes, of_density)

    def is_spike(self, value: Tensor) -> Tensor:
        """Which spike a value is, shape (*value.shape, S), bool."""
        return near(value, self.spikes)
