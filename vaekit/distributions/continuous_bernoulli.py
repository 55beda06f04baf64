"""The continuous Bernoulli distribution in terms of its logit, exact at every logit."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import ContinuousBernoulli as TorchContinuousBernoulli

_SMALL = 0.03  # |logit| below which series replace quotients of differences, exact there to 1e-11


class ContinuousBernoulli(TorchContinuousBernoulli):
    r"""torch's `ContinuousBernoulli`, without its clamp of \( \lambda \): \( p(x) \propto e^{l x} \) on [0, 1].

    torch keeps \( \lambda = \sigma(l) \) one rounding error away from 0 and 1, so in float32 its normaliser stops
    growing at |l| = 16 and the density no longer integrates to 1 (to 0.53 at l = 30). In terms of l nothing is lost:
    \( \log C = \log(l / \tanh(l/2)) \), \( E[x] = 1/(1 - e^{-l}) - 1/l \).

    References:
        Loaiza-Ganem & Cunningham, "The continuous Bernoulli", 2019, https://arxiv.org/abs/1907.06845, equations 5-7.

    Example:
        >>> import torch
        >>> ContinuousBernoulli(logits=torch.tensor(30.0)).log_prob(torch.tensor(1.0))
        tensor(3.4012)
    """

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ContinuousBernoulli":
        """The same distribution, repeated over `batch_shape`."""
        return ContinuousBernoulli(logits=self.logits.expand(torch.Size(batch_shape)), validate_args=False)

    def _split(self, limit: float = _SMALL) -> tuple[Tensor, Tensor]:
        """Where |l| is below `limit`, and l with those values moved away from 0 so that no quotient is 0/0."""
        small = self.logits.abs() < limit
        return small, torch.where(small, torch.full_like(self.logits, limit), self.logits)

    def _cont_bern_log_norm(self) -> Tensor:
        small, safe = self._split()
        half = (self.logits / 2) ** 2
        series = math.log(2.0) + half / 3 - 7 * half**2 / 90
        return torch.where(small, series, (safe / torch.tanh(safe / 2)).log())

    @property
    def mean(self) -> Tensor:
        """E[x], shape (*batch)."""
        small, safe = self._split()
        series = 0.5 + self.logits / 12 - self.logits**3 / 720
        return torch.where(small, series, -1 / torch.expm1(-safe) - 1 / safe)

    @property
    def variance(self) -> Tensor:
        """Var[x], shape (*batch)."""
        small, safe = self._split()
        series = 1 / 12 - self.logits**2 / 240 + self.logits**4 / 6048
        tails = torch.sigmoid(safe) * torch.sigmoid(-safe) / torch.tanh(safe / 2) ** 2
        return torch.where(small, series, 1 / safe**2 - tails)

    def icdf(self, value: Tensor) -> Tensor:
        r"""The quantile \( \log(1 + u (e^l - 1)) / l \), computed from the nearer end."""
        small, safe = self._split(1e-4)
        above = safe > 0
        # For l > 0, 1 - x is the quantile at 1 - u for -l, whose exponential cannot overflow.
        u = torch.where(above, 1 - value, value)
        inner = (u * torch.expm1(-safe.abs())).clamp(min=-1 + torch.finfo(safe.dtype).eps)
        near = -torch.log1p(inner) / safe.abs()
        outer = torch.where(above, 1 - near, near)
        return torch.where(small, value + self.logits * value * (1 - value) / 2, outer).clamp(0, 1)

    def entropy(self) -> Tensor:
        """Entropy in nats, shape (*batch)."""
        return torch.nn.functional.softplus(self.logits) - self.logits * self.mean - self._cont_bern_log_norm()
