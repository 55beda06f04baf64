"""Images of integers, each element of which depends on those before it."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import constraints

from vaekit.distributions.base import Base
from vaekit.shapes import broadcast_shapes

_MEAN_DRAWS = 16


class AutoregressiveImage(Base):
    r"""\( P(x) = \prod_i P(x_i | x_1, \dots, x_{i-1}) \) over the elements of an image of the integers 0..L-1.

    `log_prob` takes one pass of the network. A draw takes one pass per element, each over no more than the
    (2 R + 1) (R + 1) pixels that can matter for it, where R is the network's reach. `mean` is the average of 16 draws
    from torch's stream, for pictures; `has_exact_mean` says that it is not E[x].

    Args:
        logits: images (N, C, H, W) and contexts (N, A, H, W) to logits (N, C, L, H, W); those of an element may depend
            on the elements before it alone, in the order of pixels, row by row, and of channels within a pixel. It
            takes parts of images, too.
        context: what the distribution is conditioned on, shape (*batch, A, H, W).
        image_shape: (C, H, W).
        event_shape: shape of x, of as many elements.
        num_levels: L.
        reach: R.
    """

    parameters = ("context",)
    has_rsample = False
    has_exact_mean = False

    def __init__(
        self,
        logits: Callable[[Tensor, Tensor], Tensor],
        context: Tensor,
        image_shape: tuple[int, int, int],
        event_shape: tuple[int, ...],
        num_levels: int,
        reach: int,
    ) -> None:
        self.logits, self.context, self.image_shape = logits, context, image_shape
        self.num_levels, self.reach = num_levels, reach
        super().__init__(context.shape[:-3], torch.Size(event_shape), validate_args=False)

    @property
    def num_values(self) -> int:  # type: ignore[override]
        """How many numbers a pass of `log_prob` makes, for the size of chunks."""
        return self.batch_shape.numel() * self.event_shape.numel() * self.num_levels

    @property
    def support(self) -> constraints.Constraint:
        """Bits, or the integers 0..L-1."""
        element: constraints.Constraint = constraints.boolean
        if self.num_levels > 2:
            element = constraints.integer_interval(0, self.num_levels - 1)
        return constraints.independent(element, len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        """The average of 16 draws, shape (*batch, *event)."""
        return self.sample(torch.Size((_MEAN_DRAWS,))).mean(0)

    def log_prob(self, value: Tensor) -> Tensor:
        """log P(x) in nats, shape (*batch,)."""
        batch = broadcast_shapes(value.shape[: value.ndim - len(self.event_shape)], self.batch_shape)
        x = value.expand(batch + self.event_shape).reshape(-1, *self.image_shape)
        logits = self.logits(x.to(self.context.dtype), self._contexts(batch))
        chosen = torch.log_softmax(logits, 2).gather(2, x.long().unsqueeze(2))
        return chosen.flatten(1).sum(1).reshape(batch)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws without gradients, element by element, shape (*sample_shape, *batch, *event)."""
        batch = torch.Size(sample_shape) + self.batch_shape
        num_channels, height, width = self.image_shape
        with torch.no_grad():
            context = self._contexts(batch)
            x = context.new_zeros(len(context), *self.image_shape)
            for i in range(height):
                for j in range(width):
                    # Rows below and columns out of reach change nothing.
                    top, left = max(0, i - self.reach), max(0, j - self.reach)
                    part = (..., slice(top, i + 1), slice(left, j + self.reach + 1))
                    for c in range(num_channels):
                        logits = self.logits(x[part], context[part])[:, c, :, i - top, j - left]
                        x[:, c, i, j] = torch.multinomial(logits.softmax(-1), 1).squeeze(-1).to(x.dtype)
        return x.reshape(batch + self.event_shape)

    def _contexts(self, batch: torch.Size) -> Tensor:
        shape = self.context.shape[-3:]
        return self.context.expand(batch + shape).reshape(-1, *shape)
