"""The Bernoulli distribution with a log-mass that reads the logits once."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Distribution


def _log_mass(logits: Tensor, value: Tensor) -> Tensor:
    r"""\( x l - \log(1 + e^l) \)."""
    return value * logits - F.softplus(logits)


class _LogMass(torch.autograd.Function):
    r"""`_log_mass` with the gradient \( x - \sigma(l) \) in one piece: on images that saves a tenth of a training step.

    Without `setup_context`, which would let torch.func see through it, but costs more than it saves.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(logits, value)
        return (value * logits).sub_(F.softplus(logits))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,) = gradients
        logits, value = ctx.saved_tensors
        of_logits = (value - torch.sigmoid(logits)) * gradient
        of_value = (logits * gradient).sum_to_size(value.shape) if ctx.needs_input_grad[1] else None
        return of_logits.sum_to_size(logits.shape), of_value


class Bernoulli(TorchBernoulli):
    """torch's `Bernoulli`, from logits, with a cheaper `log_prob`.

    Args:
        logits: log-odds of 1, any shape.
    """

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        self.logits = self._param = logits
        Distribution.__init__(self, logits.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Bernoulli":
        """The same distribution, repeated over `batch_shape`."""
        return type(self)(self.logits.expand(batch_shape), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats; for x in (0, 1) the cross-entropy, which is no log-probability."""
        if torch.compiler.is_compiling():  # the compiler fuses the plain formula
            return _log_mass(self.logits, value)
        try:
            return _LogMass.apply(self.logits, value)
        except RuntimeError:  # within a transform of torch.func; an error of another kind comes out again
            return _log_mass(self.logits, value)
