"""Autoregressive likelihood of token sequences: a recurrent network that is told z."""

import torch
from torch import Tensor, nn

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import TokenSequence
from vaekit.errors import ConfigError
from vaekit.shapes import Shape


class SequenceCategorical(ConditionalDistribution):
    r"""Autoregressive likelihood of token sequences: a recurrent network that is told z.

    \( p(x|z) = \prod_t p(x_t | x_1, \dots, x_{t-1}, z) \) for token numbers x in 0..V-1, by a GRU.

    The decoder's network gives a context c of H numbers; the GRU, part of this head, starts from tanh(c) and reads c
    beside each token. In `log_prob` it reads the true tokens before each position. With an end token, positions after
    the first one repeat it (pad sequences with it) and do not count.

    Use it for text, molecules as strings, and event logs. A GRU can describe them without z: look at the rate
    (`evaluation.diagnostics`), and where it is near 0, warm the KL up, set `word_dropout`, which hides that share of
    the tokens that the GRU reads while training, or refine q (`models.SemiAmortized`). `networks.GRUEncoder` is the
    encoder to go with it.

    References:
        Bowman et al., "Generating sentences from a continuous space", 2016, https://arxiv.org/abs/1511.06349.

    Args:
        event_shape: T, the length of x; events of more dimensions are read in the order of memory.
        num_tokens: V.
        hidden_size: H, the size of the GRU's state.
        embedding_size: numbers per token that the GRU reads.
        end_token: the token that ends a sequence and fills the rest; None: all positions count.
        word_dropout: share of tokens hidden from the GRU while training.

    Raises:
        ConfigError: if V < 2, a size is below 1, the end token is none of the tokens, or the share is not in [0, 1].

    Example:
        >>> import torch
        >>> head = SequenceCategorical(12, num_tokens=30, end_token=0)
        >>> head(torch.zeros(5, 64)).sample().shape
        torch.Size([5, 12])
    """

    levels_argument = "num_tokens"

    def __init__(
        self,
        event_shape: Shape,
        num_tokens: int,
        hidden_size: int = 64,
        embedding_size: int = 32,
        end_token: int | None = None,
        word_dropout: float = 0.0,
    ) -> None:
        if num_tokens < 2 or hidden_size < 1 or embedding_size < 1:
            raise ConfigError(
                "SequenceCategorical expects at least 2 tokens and sizes of at least 1; got "
                f"num_tokens={num_tokens}, hidden_size={hidden_size}, embedding_size={embedding_size}"
            )
        if end_token is not None and not 0 <= end_token < num_tokens:
            raise ConfigError(f"end_token is one of 0..{num_tokens - 1} or None; got {end_token}")
        if not 0 <= word_dropout <= 1:
            raise ConfigError(f"word_dropout is a share between 0 and 1; got {word_dropout}")
        super().__init__(event_shape, param_shape=(hidden_size,))
        self.num_tokens, self.hidden_size, self.embedding_size = num_tokens, hidden_size, embedding_size
        self.end_token, self.word_dropout = end_token, float(word_dropout)
        # Two more: what is read before the first token, and what in place of a hidden one.
        self.embedding = nn.Embedding(num_tokens + 2, embedding_size)
        self.gru = nn.GRU(embedding_size + hidden_size, hidden_size, batch_first=True)
        self.output = nn.Linear(hidden_size, num_tokens)

    def forward(self, params: Tensor) -> TokenSequence:
        """A context of shape (..., H) to p(x|z)."""
        return TokenSequence(self, params, self.event_shape, self.num_tokens, self.end_token)

    def logits(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Tokens (N, T) and contexts (N, H) to logits (N, T, V), those of a position from the tokens before it."""
        start = tokens.new_full((tokens.shape[0], 1), self.num_tokens)
        read = torch.cat([start, tokens[:, :-1]], 1)
        if self.training and self.word_dropout > 0:
            hidden = torch.rand(read.shape, device=read.device) < self.word_dropout
            hidden[:, 0] = False
            read = torch.where(hidden, self.num_tokens + 1, read)
        states, _ = self.gru(self._inputs(read, context), torch.tanh(context).unsqueeze(0).contiguous())
        result: Tensor = self.output(states)
        return result

    def step(self, token: Tensor | None, state: Tensor | None, context: Tensor) -> tuple[Tensor, Tensor]:
        """The last token (N,), None at the start, and the state to logits (N, V) and the next state."""
        if token is None:
            token = torch.full((context.shape[0],), self.num_tokens, device=context.device)
        if state is None:
            state = torch.tanh(context).unsqueeze(0).contiguous()
        output, state = self.gru(self._inputs(token.unsqueeze(1), context), state)
        return self.output(output.squeeze(1)), state

    def _inputs(self, read: Tensor, context: Tensor) -> Tensor:
        beside = context.unsqueeze(1).expand(-1, read.shape[1], -1)
        return torch.cat([self.embedding(read), beside], -1)
