"""Sequences of codes and of tokens, each of which depends on those before it."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import constraints

from vaekit.distributions.base import Base
from vaekit.distributions.discrete import draw_one_hot
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
    def support(self) -> constraints.Constraint:
        """One-hot vectors."""
        return constraints.independent(constraints.one_hot, len(self.event_shape) - 1)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
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


class PaddedTokens(constraints.Constraint):
    """Integers 0..V-1 in which nothing but the end token follows an end token.

    Args:
        num_tokens: V.
        end_token: the token, or None for sequences that never end early.
        event_ndims: dimensions of one event, read in the order of memory.
    """

    is_discrete = True

    def __init__(self, num_tokens: int, end_token: int | None, event_ndims: int) -> None:
        self.num_tokens, self.end_token, self.event_ndims = num_tokens, end_token, event_ndims

    @property
    def event_dim(self) -> int:  # type: ignore[override]
        """Number of dimensions of one event."""
        return self.event_ndims

    def __str__(self) -> str:
        words = f"the integers 0..{self.num_tokens - 1}"
        end = f" with nothing but {self.end_token} after the first {self.end_token}"
        return words if self.end_token is None else words + end

    def check(self, value: Tensor) -> Tensor:
        """Whether each event is such a sequence."""
        x = value.flatten(-self.event_ndims)
        inside = ((x % 1 == 0) & (x >= 0) & (x < self.num_tokens)).all(-1)
        if self.end_token is None:
            return inside
        return inside & ((x == self.end_token) | counted(x, self.end_token)).all(-1)


def counted(tokens: Tensor, end_token: int | None) -> Tensor:
    """Which positions of (..., T) count: those up to the first end token, that one included."""
    if end_token is None:
        return torch.ones_like(tokens, dtype=torch.bool)
    ends = (tokens == end_token).long()
    return ends.cumsum(-1) - ends == 0


class SequenceNetwork(Protocol):
    """What gives the logits of the next token."""

    def logits(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Tokens (N, T) and contexts (N, H) to logits (N, T, V), those of a position from the tokens before it."""
        ...

    def step(self, token: Tensor | None, state: Tensor | None, context: Tensor) -> tuple[Tensor, Tensor]:
        """The last token (N,), None at the start, and the state to logits (N, V) and the next state."""
        ...


class TokenSequence(Base):
    r"""\( P(x) = \prod_{t \le \tau} P(x_t | x_1, \dots, x_{t-1}) \), where \( \tau \) is the place of the first end
    token, or T.

    Positions after the end token repeat it and do not count; the masses of all such sequences of length T sum to 1.
    `log_prob` takes one pass over the T positions, a draw T single steps. Token numbers have no mean that means
    anything: `mean` (and `mode`) is the sequence of the likeliest next tokens, which reconstructions and pictures show,
    and `has_exact_mean` is False.

    Args:
        network: gives the logits.
        context: what the distribution is conditioned on, shape (*batch, H).
        event_shape: shape of x, read in the order of memory as T positions.
        num_tokens: V.
        end_token: the token that ends a sequence; None: all T positions count.
    """

    parameters = ("context",)
    has_rsample = False
    has_exact_mean = False

    def __init__(
        self,
        network: SequenceNetwork,
        context: Tensor,
        event_shape: tuple[int, ...],
        num_tokens: int,
        end_token: int | None,
    ) -> None:
        self.network, self.context, self.num_tokens, self.end_token = network, context, num_tokens, end_token
        super().__init__(context.shape[:-1], torch.Size(event_shape), validate_args=False)

    @property
    def num_values(self) -> int:  # type: ignore[override]
        """How many numbers a pass of `log_prob` makes, for the size of chunks."""
        return self.batch_shape.numel() * self.event_shape.numel() * (self.num_tokens + self.context.shape[-1])

    @property
    def support(self) -> constraints.Constraint:
        """Sequences of tokens that are padded by the end token."""
        return PaddedTokens(self.num_tokens, self.end_token, len(self.event_shape))

    @property
    def mode(self) -> Tensor:
        """The likeliest next token at each position in turn, shape (*batch, *event); not always the likeliest event."""
        return self._generate(self.batch_shape, lambda logits: logits.argmax(-1))

    @property
    def mean(self) -> Tensor:
        """The same as `mode`."""
        return self.mode

    def log_prob(self, value: Tensor) -> Tensor:
        """log P(x) in nats, shape (*batch,)."""
        batch = broadcast_shapes(value.shape[: value.ndim - len(self.event_shape)], self.batch_shape)
        tokens = value.expand(batch + self.event_shape).reshape(batch.numel(), -1).long()
        logits = self.network.logits(tokens, self._contexts(batch))
        chosen = torch.log_softmax(logits, -1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        return torch.where(counted(tokens, self.end_token), chosen, 0.0).sum(-1).reshape(batch)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws without gradients, token by token, shape (*sample_shape, *batch, *event)."""
        batch = torch.Size(sample_shape) + self.batch_shape
        return self._generate(batch, lambda logits: torch.multinomial(logits.softmax(-1), 1).squeeze(-1))

    def _generate(self, batch: torch.Size, choose: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.no_grad():
            context, state, token = self._contexts(batch), None, None
            tokens = []
            for _ in range(self.event_shape.numel()):
                logits, state = self.network.step(token, state, context)
                following = choose(logits)
                if self.end_token is not None and token is not None:
                    following = torch.where(token == self.end_token, token, following)
                token = following
                tokens.append(token)
            return torch.stack(tokens, -1).to(context.dtype).reshape(batch + self.event_shape)

    def _contexts(self, batch: torch.Size) -> Tensor:
        size = self.context.shape[-1]
        return self.context.expand(*batch, size).reshape(-1, size)
