"""Sequences of one-hot codes, each of which depends on those before it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from vaekit.distributions.base import Base
from vaekit.distributions.one_hot import draw_one_hot
from vaekit.shapes import broadcast_shapes


class AutoregressiveOneHot(Base):
    r"""\( P(z) = \prod_i P(z_i | z_1, \dots, z_{i-1}) \) over the codes i of an event, each a one-hot vector.

    `log_prob` takes one pass of the network, a draw as many as there are codes.

    Args:
        logits: codes of shape (..., P, C) to the logits of each, shape (..., P, C); those of a code may depend on the
            codes before it alone.
        event_shape: (*codes, C), where the codes in the order of memory are the P positions.
        like: any tensor of the dtype and on the device of draws.
        batch_shape: batch shape; the distribution is the same throughout.
    """

    parameters = ()
    has_rsample = False

    def __init__(
        self,
        logits: Callable[[Tensor], Tensor],
        event_shape: tuple[int, ...],
        like: Tensor,
        batch_shape: tuple[int, ...] = (),
    ) -> None:
        self.logits, self.like = logits, like
        super().__init__(torch.Size(batch_shape), torch.Size(event_shape), validate_args=False)

    @property
    def support(self) -> Any:
        """One-hot vectors."""
        return constraints.independent(constraints.one_hot, len(self.event_shape) - 1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws without gradients, code by code, shape (*sample_shape, *batch, *codes, C)."""
        shape = self._extended_shape(torch.Size(sample_shape))
        num_classes, num_codes = shape[-1], self.event_shape[:-1].numel()
        with torch.no_grad():
            z = self.like.new_zeros(*shape[: len(shape) - len(self.event_shape)], num_codes, num_classes)
            for i in range(num_codes):
                z[..., i, :] = draw_one_hot(self.logits(z)[..., i, :])
        return z.reshape(shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """log P(z) in nats, shape (*batch)."""
        leading = value.shape[: value.ndim - len(self.event_shape)]
        z = value.reshape(*leading, -1, self.event_shape[-1])
        log_prob = (z * torch.log_softmax(self.logits(z), -1)).sum((-2, -1))
        return log_prob.expand(broadcast_shapes(leading, self.batch_shape))
