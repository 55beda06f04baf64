r"""What the code carries: active units, rate, mutual information, and the aggregate posterior beside the prior.

With \( q(z) = \frac1N \sum_n q(z|x_n) \), the rate splits exactly (Hoffman & Johnson 2016):
\[ \frac1N \sum_n KL(q(z|x_n), p(z)) = I_q(x; z) + KL(q(z), p(z)). \]
If every q(z|x) were the prior, both terms would be 0; a rate that lies in the second term is paid for nothing, and the
prior then draws codes that the decoder has never seen.

References:
    Hoffman & Johnson, "ELBO surgery", 2016, http://approximateinference.org/accepted/HoffmanJohnson2016.pdf.
    Burda et al., "Importance weighted autoencoders", 2016, https://arxiv.org/abs/1509.00519 (active units).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit.bounds import LatentVariableModel
from vaekit.evaluation.estimate import Score

ACTIVE = 0.01
"""Burda et al.: a unit is active where the variance over x of E[z|x] exceeds this."""
_PAIRS = 2**17  # densities q(z|x_n) per pass


@dataclass(frozen=True)
class Aggregate:
    """The aggregate posterior of N points.

    Attributes:
        unit_variance: variance over x of E[z|x], shape Z.
        mean: mean of q(z), shape Z.
        std: standard deviation of q(z), shape Z.
        posterior_std: mean over x of the standard deviation of q(z|x), shape Z.
        mutual_information: I(x; z) in nats, for x drawn from the N points: at most log N.
        gap: KL(q(z), p(z)) in nats for the q(z) of the N points: falls with N, so an upper bound for the data.
        limit: log N.
    """

    unit_variance: Tensor
    mean: Tensor
    std: Tensor
    posterior_std: Tensor
    mutual_information: Score
    gap: Score
    limit: float

    @property
    def active_units(self) -> int:
        """Number of active units."""
        return int((self.unit_variance > ACTIVE).sum())

    @property
    def saturated(self) -> bool:
        """Whether I(x; z) is so near log N that N points cannot tell it."""
        return self.mutual_information.value > self.limit - 0.5


def posterior_moments(q: Distribution, num_samples: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(z|x), shape (B, *Z) each, in float64: its own where it has them, else those of draws."""
    return _moments(q, num_samples)[:2]


def _moments(q: Distribution, num_samples: int) -> tuple[Tensor, Tensor, Tensor]:
    """`posterior_moments`, and the Monte Carlo variance of the means, shape Z: 0 where they are q's own."""
    try:
        means, variances = q.mean.double(), q.variance.double()
        return means, variances, torch.zeros_like(means[0])
    except NotImplementedError:
        z = q.sample(torch.Size((num_samples,))).double()
        return z.mean(0), z.var(0), z.var(0).mean(0) / num_samples


def aggregate(model: LatentVariableModel, y: Tensor, num_samples: int = 64) -> Aggregate:
    """The aggregate posterior of the rows of y; call it in eval mode and with a seed.

    Args:
        model: any object with `posterior` and `prior`.
        y: data in model space, shape (N, *X) with N >= 2. The cost is that of N^2 densities.
        num_samples: draws of z per point for the moments of a posterior that does not know its own.
    """
    q, prior = model.posterior(y), model.prior()
    means, variances, noise = _moments(q, num_samples)
    z = q.sample()
    log_aggregate = _log_aggregate(q, z)
    information = q.log_prob(z).double() - log_aggregate
    gap = log_aggregate - prior.log_prob(z).double()
    return Aggregate(
        unit_variance=(means.var(0) - noise).clamp(min=0),  # the noise of means of draws adds to the variance over x
        mean=means.mean(0),
        std=(means.var(0, correction=0) + variances.mean(0)).sqrt(),
        posterior_std=variances.sqrt().mean(0),
        mutual_information=Score.of_mean(information),
        gap=Score.of_mean(gap),
        limit=math.log(len(y)),
    )


def _log_aggregate(q: Distribution, z: Tensor) -> Tensor:
    """log q(z) of each of N codes z of shape (N, *Z), shape (N,)."""
    num_rows = len(z)
    size = max(1, _PAIRS // num_rows)
    # z with a dimension of its own before the batch of q: every code under every q(z|x_n).
    parts = [torch.logsumexp(q.log_prob(part.unsqueeze(1)).double(), 1) for part in z.split(size)]
    return torch.cat(parts) - math.log(num_rows)
