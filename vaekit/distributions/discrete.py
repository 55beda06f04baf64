"""Bits and one-hot codes."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Distribution, constraints

from vaekit.distributions.base import Base, Hooks
from vaekit.errors import ConfigError
from vaekit.traits import Kept

_WIDTH = 16  # how many products are taken side by side: a multiple of what a vector register holds
_MOST = 100  # factors of at most 2 whose product float32 can hold


def _log_mass(logits: Tensor, value: Tensor) -> Tensor:
    r"""\( x l - \log(1 + e^l) \)."""
    return value * logits - F.softplus(logits)


class _LogMass(torch.autograd.Function):
    r"""`_log_mass` with the gradient \( x - \sigma(l) \) in one piece: on images that saves a tenth of a training step.

    Without `setup_context`, which would let torch.func see through it, but costs more than it saves.
    """

    @staticmethod
    def forward(ctx: Kept, logits: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(logits, value)
        return (value * logits).sub_(F.softplus(logits))

    @staticmethod
    def backward(ctx: Kept, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        logits, value = ctx.saved_tensors
        of_logits = (value - torch.sigmoid(logits)) * gradient
        of_value = (logits * gradient).sum_to_size(value.shape) if ctx.needs_input_grad[1] else None
        return of_logits.sum_to_size(logits.shape), of_value


def _sum_log1p(values: Tensor) -> Tensor:
    r"""\( \sum_i \log(1 + v_i) \) over the last dimension, for v in [0, 1], by one logarithm for up to 100 elements.

    The product of so many factors between 1 and 2 is a finite float32, and each is as exact as its rounding: 6e-8. The
    values are overwritten.
    """
    size = values.shape[-1]
    width = _WIDTH * max(1, math.ceil(size / (_WIDTH * _MOST)))
    length = size // width
    rest = torch.log1p(values[..., length * width :]).sum(-1)
    if not length:
        return rest
    products = values.add_(1)[..., : length * width].unflatten(-1, (length, width)).prod(-2)
    result: Tensor = products.log_().sum(-1).add_(rest)
    return result


class Bernoulli(Hooks, TorchBernoulli):
    """torch's `Bernoulli`, from logits, with a cheaper `log_prob`.

    Args:
        logits: log-odds of 1, any shape.
    """

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        self.logits = self._param = logits
        Distribution.__init__(self, logits.shape, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> "Bernoulli":
        """The same distribution, repeated over `batch_shape`."""
        return type(self)(self.logits.expand(batch_shape), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats; for x in (0, 1) the cross-entropy, which is no log-probability."""
        if torch.compiler.is_compiling():  # the compiler fuses the plain formula
            return _log_mass(self.logits, value)
        try:
            result: Tensor = _LogMass.apply(self.logits, value)  # type: ignore[no-untyped-call]
            return result
        except RuntimeError:  # within a transform of torch.func; an error of another kind comes out again
            return _log_mass(self.logits, value)

    def sum_log_prob_no_grad(self, value: Tensor, num_dims: int) -> Tensor:
        r"""`log_prob` summed over the last `num_dims` dimensions, of which there is one at least, in nats.

        Computed as \( \sum_i (x_i - 1/2) l_i - |l_i| / 2 - \log(1 + e^{-|l_i|}) \), where a hundred elements
        share a logarithm: of an evaluation with thousands of draws one logarithm each is a tenth.
        """
        negative = self.logits.abs().neg_()
        linear = ((value - 0.5) * self.logits).add_(negative, alpha=0.5).sum(tuple(range(-num_dims, 0)))
        return linear.sub_(_sum_log1p(negative.exp_().flatten(-num_dims)))


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
    def support(self) -> constraints.Constraint:
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

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
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
