r"""Rows whose q(z|x) is far narrower than p(z|x): its draws agree with each other, and none says what lies beside them.

Where q has the scale that makes the ELBO largest, \( \mathrm{cov}(\log p(x, z), \log q(z|x)) = \mathrm{var}(\log q) \)
under q, whatever p is; along one dimension of a normal q, log p(x, z) falls by \( \tfrac12 \epsilon_j^2 \) on average.
Where the variance of q is r times that of a normal p, both are r times as large. A q that is too
narrow has r near 0: log q varies from draw to draw as it must, and log p(x, z) hardly does. Its log p(x) is too low by
up to \( \tfrac12 \log 1/r \) for each dimension, of which neither the ess nor the spread of the weights says anything.
"""

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Laplace, MultivariateNormal, Normal

from vaekit.bounds import Draw
from vaekit.distributions import LowRankNormal, Product
from vaekit.distributions.support import is_real

MOST_DIMS = 128
"""Of z, beyond which draws are not looked at one dimension at a time, nor kept."""
_ERRORS = 1.5  # standard errors above an estimated r, which q then is not narrower than
_WITHOUT_VARIANCE = 0.5  # of r: below, the weights of a normal q have no variance
_LOST = 1.0  # nats of KL(q, p) by the width of q alone
_FEWEST, _PER_FEATURE = 12, 4  # draws
_SMALLEST = 1e-12


def is_unresolved(q: Distribution, z: Tensor) -> Tensor:
    """Where draws from q differ by rounding alone, shape (B,), bool: their density then is not that of q.

    Args:
        q: batch shape (B,).
        z: draws of it, shape (K, B, *Z), or none.
    """
    base = q.base if isinstance(q, Product) else q.base_dist if isinstance(q, Independent) else q
    coarse = torch.zeros(*q.batch_shape, 1, dtype=torch.bool, device=z.device)
    if isinstance(base, Normal | Laplace | MultivariateNormal | LowRankNormal):
        spread = base.stddev < torch.finfo(base.mean.dtype).eps * base.mean.abs()
        coarse = spread.reshape(*q.batch_shape, -1)
    if len(z) > 1 and is_real(q):
        values = z.flatten(2).double()
        coarse = coarse | (values.std(0) <= torch.finfo(z.dtype).eps * values.mean(0).abs())
    return coarse.any(-1).cpu()


def is_narrow(q: Distribution, draws: Draw) -> Tensor:
    """Where q lacks more than a nat by its width alone, for all that its draws can tell, shape (B,), bool.

    Args:
        q: batch shape (B,).
        draws: of q, with densities of shape (K, B) and z of shape (K, B, *Z), or none.
    """
    log_weights, log_q = (values.double().T.cpu() for values in (draws.log_weights, draws.log_posterior))
    num_rows, num_draws = log_weights.shape
    if num_draws < _FEWEST or not is_real(q):
        return torch.zeros(num_rows, dtype=torch.bool)
    num_dims = math.prod(q.event_shape)
    slope, error = _slopes(log_q.unsqueeze(-1), log_weights)
    varies = log_q.var(1, keepdim=True) > num_dims / 20  # as the log-density of a normal distribution does
    found = num_dims * _lost(torch.where(varies, 1 + slope, 1.0), error) > _LOST
    if len(draws.z) == num_draws >= _PER_FEATURE * (2 * num_dims + 1):
        z = draws.z.flatten(2).double().transpose(0, 1).cpu()
        u = torch.cat([z, _turned(z)])  # along both sets of axes, in one pass
        u = (u - u.mean(1, keepdim=True)) / u.std(1, keepdim=True)
        slope, error = _slopes(torch.cat([u.square(), u], -1), (log_weights + log_q).repeat(2, 1))
        lost = _lost(-2 * slope[:, :num_dims], 2 * error[:, :num_dims]) > _LOST
        found |= lost[:num_rows] | lost[num_rows:]
    return found


def _turned(z: Tensor) -> Tensor:
    """Draws (B, K, D) along the principal axes of those of each row."""
    centred = z - z.mean(1, keepdim=True)
    covariance = centred.mT @ centred
    known = covariance.isfinite().flatten(1).all(1)[:, None, None]
    axes: Tensor = torch.linalg.eigh(torch.where(known, covariance, torch.eye(z.shape[-1], dtype=z.dtype)))[1]
    return centred @ axes


def _lost(ratio: Tensor, error: Tensor) -> Tensor:
    """KL in nats that dimensions of these ratios of variances make at least, shape (B,), for shapes (B, D)."""
    most = (ratio.clamp(min=0) + _ERRORS * error).clamp(min=_SMALLEST)
    return torch.where(most < _WITHOUT_VARIANCE, 0.5 * (most - 1 - most.log()), 0.0).sum(-1)


def _slopes(features: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Least squares of values (B, K) on features (B, K, F): slopes and their errors, shape (B, F); NaN for no fit."""
    features = features - features.mean(1, keepdim=True)
    values = (values - values.mean(1, keepdim=True)).unsqueeze(-1)
    gram = features.mT @ features
    size = gram.diagonal(dim1=-2, dim2=-1).mean(-1)
    known = (size > 0) & gram.isfinite().flatten(1).all(1) & values.isfinite().flatten(1).all(1)
    unit = torch.eye(gram.shape[-1], dtype=gram.dtype)
    ridged = torch.where(known[:, None, None], gram + 1e-12 * size[:, None, None] * unit, unit)
    inverse = torch.linalg.inv(ridged)
    slope = inverse @ (features.mT @ values)
    rest = (values - features @ slope).square().sum((1, 2)) / (values.shape[1] - gram.shape[-1] - 1)
    error = (rest.unsqueeze(-1) * inverse.diagonal(dim1=-2, dim2=-1)).clamp(min=0).sqrt()
    return torch.where(known[:, None], slope.squeeze(-1), math.nan), error
