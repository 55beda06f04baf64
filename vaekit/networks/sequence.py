"""Recurrent encoder of token sequences."""

from math import prod

import torch
from torch import Tensor, nn

from vaekit.errors import ConfigError
from vaekit.shapes import Shape, as_shape


class GRUEncoder(nn.Module):
    """The state of a GRU after the last token of a sequence of token numbers.

    With an end token it is the state after the first one: padding is not read. It is the encoder to go with
    `likelihoods.SequenceCategorical`.

    References:
        Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine translation",
        2014, https://arxiv.org/abs/1406.1078.

    Args:
        in_shape: T, the length of a sequence; events of more dimensions are read in the order of memory.
        num_tokens: V, the number of tokens.
        hidden_size: size of the state.
        embedding_size: numbers per token that the GRU reads.
        end_token: the token that ends a sequence and fills the rest; None: all positions are read.

    Raises:
        ConfigError: if V < 1, a size is below 1, or the end token is none of the tokens.

    Example:
        >>> GRUEncoder(12, num_tokens=30).out_shape
        (64,)
    """

    def __init__(
        self,
        in_shape: Shape,
        num_tokens: int,
        hidden_size: int = 64,
        embedding_size: int = 32,
        end_token: int | None = None,
    ) -> None:
        super().__init__()
        if num_tokens < 1 or hidden_size < 1 or embedding_size < 1:
            raise ConfigError(
                "GRUEncoder expects a number of tokens and sizes of at least 1; got "
                f"num_tokens={num_tokens}, hidden_size={hidden_size}, embedding_size={embedding_size}"
            )
        if end_token is not None and not 0 <= end_token < num_tokens:
            raise ConfigError(f"end_token is one of 0..{num_tokens - 1} or None; got {end_token}")
        self.in_shape = as_shape(in_shape, "in_shape")
        self.num_tokens, self.hidden_size, self.embedding_size = num_tokens, hidden_size, embedding_size
        self.end_token = end_token
        self.embedding = nn.Embedding(num_tokens, embedding_size)
        self.gru = nn.GRU(embedding_size, hidden_size, batch_first=True)
        self.out_shape = (hidden_size,)

    def forward(self, x: Tensor) -> Tensor:
        """Token numbers of any dtype, (B, *in_shape), to (B, hidden_size)."""
        tokens = x.reshape(len(x), prod(self.in_shape)).long()
        with torch.autocast(x.device.type, enabled=False):
            states, _ = self.gru(self.embedding(tokens))
        result: Tensor = states[torch.arange(x.shape[0], device=x.device), self._last(tokens)]
        return result

    def _last(self, tokens: Tensor) -> Tensor:
        """The place of the first end token, or the last place, shape (B,)."""
        if self.end_token is None:
            return tokens.new_full((tokens.shape[0],), tokens.shape[1] - 1)
        before = (tokens == self.end_token).long().cumsum(1) == 0
        return before.sum(1).clamp(max=tokens.shape[1] - 1)
