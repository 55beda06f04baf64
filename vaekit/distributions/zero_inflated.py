"""Counts with additional zeros."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaekit.distributions.base import Base


class ZeroInflated(Base):
    r"""\( P(x) = \pi [x = 0] + (1 - \pi) P_0(x) \): a zero with probability \( \pi \), otherwise a draw of `base`.

    References:
        Lambert, "Zero-inflated Poisson regression", 1992, https://doi.org/10.2307/1269547.

    Args:
        base: elementwise distribution of counts \( P_0 \), such as `NegativeBinomial`.
        logits: log-odds of \( \pi \), of the batch shape of `base`.

    Example:
        >>> import torch
        >>> from vaekit.distributions import Poisson
        >>> d = ZeroInflated(Poisson(torch.tensor(0.0)), torch.tensor(0.0))
        >>> d.mean, d.variance
        (tensor(0.5000), tensor(0.7500))
    """

    parameters = ("base", "logits")
    arg_constraints: dict[str, constraints.Constraint] = {"logits": constraints.real}  # noqa: RUF012
    has_rsample = False

    def __init__(self, base: Distribution, logits: Tensor, validate_args: bool | None = None) -> None:
        self.base, self.logits = base, logits.expand(base.batch_shape)
        super().__init__(base.batch_shape, validate_args=validate_args)

    @property
    def support(self) -> Any:
        """That of `base`."""
        return self.base.support

    @property
    def mean(self) -> Tensor:
        r"""\( (1 - \pi) E_0[x] \), shape (*batch)."""
        return torch.sigmoid(-self.logits) * self.base.mean

    @property
    def variance(self) -> Tensor:
        r"""\( (1 - \pi)(Var_0[x] + \pi E_0[x]^2) \), shape (*batch)."""
        extra = torch.sigmoid(self.logits) * self.base.mean**2
        return torch.sigmoid(-self.logits) * (self.base.variance + extra)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, shape (*sample_shape, *batch)."""
        with torch.no_grad():
            x = self.base.sample(torch.Size(sample_shape))
            return torch.where(torch.rand_like(x) < torch.sigmoid(self.logits), torch.zeros_like(x), x)

    def log_prob(self, value: Tensor) -> Tensor:
        """log P(x) in nats."""
        drawn = F.logsigmoid(-self.logits) + self.base.log_prob(value)
        return torch.where(value == 0, torch.logaddexp(F.logsigmoid(self.logits), drawn), drawn)
