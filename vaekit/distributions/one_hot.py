"""Products of categorical distributions whose events are one-hot vectors."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaekit.distributions.base import Base
from vaekit.errors import ConfigError


def check_num_classes(family: str, num_classes: int) -> None:
    """Raise a `ConfigError` that names the family if there are fewer than two classes."""
    if num_classes < 2:
        raise ConfigError(f"{family} expects at least 2 classes; got {num_classes}")


def draw_one_hot(logits: Tensor) -> Tensor:
    """One draw for each vector of logits (last dimension), as a one-hot vector of their dtype, without gradients.

    Of exponential waiting times with rates proportional to the probabilities, the first to end is such a draw.
    """
    with torch.no_grad():
        waiting = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device).exponential_()
        index = (logits - waiting.clamp(min=torch.finfo(logits.dtype).tiny).log()).argmax(-1)
        return F.one_hot(index, logits.shape[-1]).to(logits.dtype)


class OneHotCategorical(Base):
    r"""\( P(z) = \prod_i \prod_c \pi_{ic}^{z_{ic}} \) for codes i, each of which is a one-hot vector over C classes.

    Args:
        logits: unnormalised log-probabilities, shape (*batch, *codes, C).
        event_ndims: number of dimensions of `codes`; the classes are one more dimension of the event.

    Example:
        >>> import torch
        >>> OneHotCategorical(torch.zeros(2, 4), 1).log_prob(torch.eye(4)[[0, 3]])
        tensor(-2.7726)
    """

    parameters = ("log_probs",)
    has_rsample = False

    def __init__(self, logits: Tensor, event_ndims: int = 0) -> None:
        self.log_probs, self.event_ndims = torch.log_softmax(logits, -1), event_ndims
        split = logits.ndim - event_ndims - 1
        super().__init__(logits.shape[:split], logits.shape[split:], validate_args=False)

    @property
    def support(self) -> Any:
        """One-hot vectors."""
        return constraints.independent(constraints.one_hot, self.event_ndims)

    @property
    def mean(self) -> Tensor:
        """The probabilities, shape (*batch, *codes, C)."""
        return self.log_probs.exp()

    @property
    def variance(self) -> Tensor:
        """Var[z] per entry, shape (*batch, *codes, C)."""
        return self.mean * (1 - self.mean)

    @property
    def mode(self) -> Tensor:
        """The most probable event, shape (*batch, *codes, C)."""
        return F.one_hot(self.log_probs.argmax(-1), self.log_probs.shape[-1]).to(self.log_probs.dtype)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws without gradients, shape (*sample_shape, *batch, *codes, C)."""
        return draw_one_hot(self.log_probs.expand(self._extended_shape(torch.Size(sample_shape))))

    def log_prob(self, value: Tensor) -> Tensor:
        """log P(z) in nats, shape (*batch)."""
        return (value * self.log_probs).flatten(-self.event_ndims - 1).sum(-1)

    def kl_per_element(self, p: Distribution) -> Tensor | None:
        """KL(q, p) of each code in nats, shape (*batch, *codes), for p of the same kind; else None."""
        if not isinstance(p, OneHotCategorical):
            return None
        return (self.mean * (self.log_probs - p.log_probs)).sum(-1)

    def entropy(self) -> Tensor:
        """Entropy in nats, shape (*batch)."""
        return -(self.mean * self.log_probs).flatten(-self.event_ndims - 1).sum(-1)
