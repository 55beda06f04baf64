"""Kullback-Leibler divergences in closed form: our own table first, then torch's. Nothing is registered into torch."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
)
from torch.distributions import OneHotCategorical as TorchOneHotCategorical
from torch.distributions.kl import kl_divergence as torch_kl_divergence

from vaekit.distributions import Product, UnitNormal
from vaekit.distributions.base import Hooks, hooks
from vaekit.distributions.discrete import OneHotCategorical
from vaekit.distributions.normal import LowRankNormal
from vaekit.errors import ConfigError
from vaekit.shapes import broadcast_shapes

__all__ = ["as_own", "kl_divergence", "kl_per_dimension"]

_Pair = tuple[type[Distribution], type[Distribution]]


def as_own(distribution: Distribution) -> Distribution:
    """The same distribution in vaekit's classes, so that a closed form need know one class of each kind.

    torch's `Independent` of elements becomes a `Product`, and so do nested ones and torch's distributions of a single
    number; torch's one-hot vectors become ours. Any other distribution is returned as it is, nested ones flattened.
    """
    if isinstance(distribution, Product) and not isinstance(distribution.base, Independent):
        return distribution
    base, ndims = distribution, 0
    while isinstance(base, Independent | Product):
        if isinstance(base, Product):
            ndims, base = ndims + base.event_ndims, base.base
        else:
            ndims, base = ndims + base.reinterpreted_batch_ndims, base.base_dist
    if isinstance(base, TorchOneHotCategorical):
        return OneHotCategorical(base.logits, ndims)
    if base is distribution and isinstance(base, Hooks):
        return base
    if not base.event_shape:
        return Product(base, ndims)
    return Independent(base, ndims, validate_args=False) if ndims else base


def _normal_normal(q: Normal, p: Normal) -> Tensor:
    r"""\( \tfrac12 (\sigma_q^2/\sigma_p^2 + (\mu_q-\mu_p)^2/\sigma_p^2 - 1) - \log(\sigma_q/\sigma_p) \)."""
    ratio = q.scale / p.scale
    shift = (q.loc - p.loc) / p.scale
    return 0.5 * (ratio**2 + shift**2 - 1) - torch.log(ratio)


def _normal_unit(q: Normal, p: UnitNormal) -> Tensor:
    r"""\( \tfrac12 (\sigma^2 + \mu^2 - 1) - \log \sigma \) per element (equation 13.24)."""
    # Products, not squares: the gradient of a power is a power, and slow.
    return 0.5 * (q.scale * q.scale + q.loc * q.loc - 1) - q.scale.log()


def _bernoulli_bernoulli(q: Bernoulli, p: Bernoulli) -> Tensor:
    r"""\( \pi \log(\pi/\rho) + (1 - \pi) \log((1 - \pi)/(1 - \rho)) \), from logits, where nothing is divided by 0."""
    ones = torch.sigmoid(q.logits) * (F.logsigmoid(q.logits) - F.logsigmoid(p.logits))
    return ones + torch.sigmoid(-q.logits) * (F.logsigmoid(-q.logits) - F.logsigmoid(-p.logits))


_ELEMENTWISE: dict[_Pair, Callable[..., Tensor]] = {
    (Normal, UnitNormal): _normal_unit,
    (Normal, Normal): _normal_normal,
    (Bernoulli, Bernoulli): _bernoulli_bernoulli,
}


def gaussian_kl(loc_q: Tensor, tril_q: Tensor, loc_p: Tensor, tril_p: Tensor) -> Tensor:
    r"""KL between two Gaussians with Cholesky factors L of their covariances (equation 13.23).

    \[ \tfrac12 \left( \mathrm{tr}(\Sigma_p^{-1} \Sigma_q) + (\mu_p-\mu_q)^T \Sigma_p^{-1} (\mu_p-\mu_q) - D
    + \log \frac{|\Sigma_p|}{|\Sigma_q|} \right) \]

    Args:
        loc_q: mean of q, shape (..., D).
        tril_q: Cholesky factor of q, shape (..., D, D).
        loc_p: mean of p, shape (..., D).
        tril_p: Cholesky factor of p, shape (..., D, D).

    Returns:
        KL(q, p) in nats, shape (...).
    """
    shape = broadcast_shapes(tril_q.shape, tril_p.shape)
    tril_q, tril_p = tril_q.expand(shape), tril_p.expand(shape)
    ratio = torch.linalg.solve_triangular(tril_p, tril_q, upper=False)
    shift = torch.linalg.solve_triangular(tril_p, (loc_p - loc_q).expand(shape[:-1]).unsqueeze(-1), upper=False)
    log_det = 2 * (tril_p.diagonal(dim1=-2, dim2=-1).log() - tril_q.diagonal(dim1=-2, dim2=-1).log()).sum(-1)
    trace = ratio.square().sum((-2, -1))
    result: Tensor = 0.5 * (trace + shift.square().sum((-2, -1)) - shape[-1] + log_det)
    return result


def _gaussians(q: Distribution, p: Distribution) -> Tensor | None:
    if q.event_shape != p.event_shape:
        return None
    of_q, of_p = _as_gaussian(q), _as_gaussian(p)
    return None if of_q is None or of_p is None else gaussian_kl(*of_q, *of_p)


def _own(q: Distribution, p: Distribution) -> Tensor | None:
    """The form that q itself knows for a family of its kind, by a method `kl_to(p)`."""
    return hooks(q).kl_to(p)


def _as_gaussian(d: Distribution) -> tuple[Tensor, Tensor] | None:
    """(mean, Cholesky factor) of a Gaussian, whichever class it has, with its event in one dimension."""
    if isinstance(d, MultivariateNormal):
        return d.loc, d.scale_tril
    if isinstance(d, LowRankNormal | LowRankMultivariateNormal):
        return d.mean.flatten(-len(d.event_shape)), torch.linalg.cholesky(d.covariance_matrix)
    if isinstance(d, Product) and isinstance(d.base, Normal) and d.event_ndims:
        return d.base.loc.flatten(-d.event_ndims), torch.diag_embed(d.base.scale.flatten(-d.event_ndims))
    return None


def _elementwise(q: Distribution, p: Distribution) -> Tensor | None:
    """KL of each element for two products of the same event, shape (*batch, *event); None where there is no form.

    A factorised distribution of other elements knows its own form, by a method `kl_per_element(p)`.
    """
    known = hooks(q).kl_per_element(p)
    if known is not None:
        return known
    if not (isinstance(q, Product) and isinstance(p, Product)) or q.event_ndims != p.event_ndims:
        return None
    for (kind_q, kind_p), own in _ELEMENTWISE.items():  # the special form stands before the general one
        if isinstance(q.base, kind_q) and isinstance(p.base, kind_p):
            return own(q.base, p.base)
    return _from_torch(q.base, p.base)


def _sum_of_elements(q: Distribution, p: Distribution) -> Tensor | None:
    elementwise = _elementwise(q, p)
    if elementwise is None:
        return None
    event_ndims = elementwise.ndim - max(len(q.batch_shape), len(p.batch_shape))
    return elementwise.flatten(-event_ndims).sum(-1) if event_ndims else elementwise


def _from_torch(q: Distribution, p: Distribution) -> Tensor | None:
    """torch's closed form, or None. Some of its formulas do not broadcast, so p gets the batch shape of q first."""
    try:
        shape = broadcast_shapes(q.batch_shape, p.batch_shape)
        wide = p if p.batch_shape == shape else p.expand(shape)
        return torch_kl_divergence(q, wide)
    except NotImplementedError:
        return None


def _unrotated(q: Distribution, p: Distribution) -> Distribution:
    """The base of a flow that only turns space, where p is N(0, I), which looks the same from all sides."""
    unturned = hooks(q).unturned() if isinstance(p, Product) and isinstance(p.base, UnitNormal) else None
    return q if unturned is None else unturned


def kl_divergence(q: Distribution, p: Distribution) -> Tensor | None:
    """KL(q, p) in closed form.

    Args:
        q: batch shape (B,), event shape Z.
        p: batch shape () or (B,), event shape Z.

    Returns:
        Nats, shape (B,); None where no closed form is known.
    """
    p = as_own(p)
    q = _unrotated(as_own(q), p)
    values = (form(q, p) for form in (_sum_of_elements, _own, _gaussians, _from_torch))
    return next((value for value in values if value is not None), None)


def kl_per_dimension(q: Distribution, p: Distribution) -> Tensor:
    """KL(q, p) of each dimension of a factorised posterior, shape (B, *Z), in nats; of each code for one-hot vectors.

    Raises:
        ConfigError: unless both are products over dimensions with a closed form.
    """
    elementwise = _elementwise(as_own(q), as_own(p))
    if elementwise is None:
        raise ConfigError(
            "KL per dimension (free bits, diagnostics) is defined for a factorised posterior and prior with a closed "
            f"form, such as DiagonalNormal and StandardNormal; got {q} and {p}."
        )
    return elementwise
