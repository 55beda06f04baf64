"""Concrete distributions: bits and categories relaxed to the open interval and to the inside of the simplex."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import constraints

from vaekit.distributions.base import Base
from vaekit.distributions.support import open_unit_interval
from vaekit.errors import ConfigError


def check_temperature(family: str, temperature: float) -> None:
    """Raise a `ConfigError` that names the family if the temperature is not positive."""
    if not temperature > 0:
        raise ConfigError(f"{family} expects a positive temperature; got {temperature}")


class RelaxedBernoulli(Base):
    r"""\( z = \sigma((l + \epsilon)/\tau) \) with logistic noise: a bit with log-odds l, relaxed to (0, 1).

    With \( s = \tau \log\frac{z}{1 - z} - l \),
    \[ \log p(z) = \log \tau + \log \sigma(s) + \log \sigma(-s) - \log z (1 - z) \]
    with respect to Lebesgue measure on (0, 1). As the temperature falls to 0, z becomes a bit that is 1 with
    probability \( \sigma(l) \); \( P(z > 1/2) = \sigma(l) \) at every temperature. Draws are held a rounding error
    away from 0 and 1, so that their density can be evaluated. Where that moves a draw, the densities of two such
    distributions there are both off by almost the same factor: their ratio, the importance weight, is right up to
    \( \tau_q / \tau_p \).

    References:
        Maddison et al., "The concrete distribution", 2017, https://arxiv.org/abs/1611.00712, appendix B.

    Args:
        logits: l, any shape.
        temperature: \( \tau > 0 \).

    Example:
        >>> import torch
        >>> RelaxedBernoulli(torch.tensor(0.0), 0.5).log_prob(torch.tensor(0.5))
        tensor(-0.6931)
    """

    parameters = ("logits",)
    arg_constraints: dict[str, constraints.Constraint] = {"logits": constraints.real}  # noqa: RUF012
    support: constraints.Constraint = open_unit_interval
    has_rsample = True

    def __init__(self, logits: Tensor, temperature: float) -> None:
        self.logits, self.temperature = logits, temperature
        super().__init__(logits.shape, validate_args=False)

    @property
    def centre(self) -> Tensor:
        r"""The median \( \sigma(l/\tau) \), shape (*batch)."""
        return _inside(torch.sigmoid(self.logits / self.temperature))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws with gradients, shape (*sample_shape, *batch), strictly inside (0, 1)."""
        shape, info = self._extended_shape(torch.Size(sample_shape)), torch.finfo(self.logits.dtype)
        uniform = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device)
        noise = torch.logit(uniform.clamp(info.tiny, 1 - 0.5 * info.eps))
        return _inside(torch.sigmoid((self.logits + noise) / self.temperature))

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(z) in nats, shape (*batch)."""
        value = _inside(value)
        log_one, log_zero = value.log(), torch.log1p(-value)
        s = self.temperature * (log_one - log_zero) - self.logits
        return math.log(self.temperature) + F.logsigmoid(s) + F.logsigmoid(-s) - log_one - log_zero


def _inside(value: Tensor) -> Tensor:
    """Held as far from 1 as from 0: the logits of both ends have the same size."""
    eps = torch.finfo(value.dtype).eps
    return value.clamp(eps, 1 - eps)


class RelaxedOneHotCategorical(Base):
    r"""\( z_i = \mathrm{softmax}((l_i + g_i)/\tau) \) with Gumbel noise g: one-hot vectors relaxed to the simplex.

    \[ \log p(z) = \sum_i \log \Gamma(C) + (C - 1) \log \tau + \sum_c (s_{ic} - \log z_{ic})
       - C \log \sum_c e^{s_{ic}}, \qquad s_{ic} = l_{ic} - \tau \log z_{ic}, \]
    with respect to Lebesgue measure of the first C - 1 coordinates of each code. As the temperature falls to 0, z
    becomes one-hot with probabilities softmax(l); the largest coordinate has those probabilities at every temperature.
    Only logarithms of z enter, which have no trouble near 1; near 0 draws are held above the least normal number.

    References:
        Maddison et al., "The concrete distribution", 2017, https://arxiv.org/abs/1611.00712, equation 10.
        Jang et al., "Categorical reparameterization with Gumbel-softmax", 2017, https://arxiv.org/abs/1611.01144.

    Args:
        logits: unnormalised log-probabilities l, shape (*batch, *codes, C).
        temperature: \( \tau > 0 \).
        event_ndims: number of dimensions of `codes`; the classes are one more dimension of the event.

    Example:
        >>> import torch
        >>> RelaxedOneHotCategorical(torch.zeros(3), 1.0).log_prob(torch.tensor([0.2, 0.3, 0.5]))
        tensor(0.7001)
    """

    parameters = ("logits",)
    has_rsample = True

    def __init__(self, logits: Tensor, temperature: float, event_ndims: int = 0) -> None:
        self.logits, self.temperature, self.event_ndims = logits, temperature, event_ndims
        split = logits.ndim - event_ndims - 1
        super().__init__(logits.shape[:split], logits.shape[split:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Points of the simplex."""
        return constraints.independent(constraints.simplex, self.event_ndims)

    @property
    def centre(self) -> Tensor:
        r"""The point without noise, \( \mathrm{softmax}(l/\tau) \), shape (*batch, *codes, C)."""
        return self._relaxed(self.logits)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws with gradients, shape (*sample_shape, *batch, *codes, C), strictly between 0 and 1."""
        shape, dtype = self._extended_shape(torch.Size(sample_shape)), self.logits.dtype
        waiting = torch.empty(shape, dtype=dtype, device=self.logits.device).exponential_()
        return self._relaxed(self.logits - waiting.clamp(min=torch.finfo(dtype).tiny).log())

    def _relaxed(self, perturbed: Tensor) -> Tensor:
        info = torch.finfo(perturbed.dtype)
        return torch.softmax(perturbed / self.temperature, -1).clamp(info.tiny, 1 - 0.5 * info.eps)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(z) in nats, shape (*batch)."""
        num_classes = self.logits.shape[-1]
        log_z = value.clamp(min=torch.finfo(value.dtype).tiny).log()
        s = self.logits - self.temperature * log_z
        constant = math.lgamma(num_classes) + (num_classes - 1) * math.log(self.temperature)
        per_code = constant + (s - log_z).sum(-1) - num_classes * torch.logsumexp(s, -1)
        return per_code.flatten(-self.event_ndims).sum(-1) if self.event_ndims else per_code
