"""A categorical distribution over the integers 0..C-1 that knows its mean."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical

from vaekit.shapes import broadcast_shapes


class OrdinalCategorical(Categorical):
    r"""torch's `Categorical` read as a distribution over integers: \( E[x] = \sum_c c\, p_c \) exists.

    torch leaves mean and variance undefined (NaN) because classes need not be ordered; grey levels are.

    Example:
        >>> import torch
        >>> OrdinalCategorical(logits=torch.zeros(3)).mean
        tensor(1.)
    """

    def expand(self, batch_shape: Any, _instance: Any = None) -> "OrdinalCategorical":
        """The same distribution, repeated over `batch_shape`."""
        logits = self.logits.expand(torch.Size(batch_shape) + self.logits.shape[-1:])
        return OrdinalCategorical(logits=logits, validate_args=False)

    @property
    def _levels(self) -> Tensor:
        return torch.arange(self.logits.shape[-1], device=self.logits.device, dtype=self.logits.dtype)

    @property
    def mean(self) -> Tensor:
        """E[x], shape (*batch)."""
        return (self.probs * self._levels).sum(-1)

    @property
    def variance(self) -> Tensor:
        """Var[x], shape (*batch)."""
        return (self.probs * (self._levels - self.mean.unsqueeze(-1)) ** 2).sum(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws as integers in the dtype of the parameters, as every other likelihood of numbers returns them."""
        return super().sample(torch.Size(sample_shape)).to(self.logits.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats; x holds integers of any dtype."""
        index = value.long().unsqueeze(-1)
        logits = self.logits
        shape = broadcast_shapes(index.shape[:-1], logits.shape[:-1])
        # Index is expanded, logits are not copied: gather reads them through their strides.
        return logits.expand(*shape, -1).gather(-1, index.expand(*shape, 1)).squeeze(-1)
