"""Posteriors in R^n with closed forms: normal ones of three covariances, and Laplace."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal
from torch.distributions import Laplace as TorchLaplace

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import LowRankNormal as LowRankNormalDistribution
from vaekit.distributions import Normal, Product
from vaekit.distributions.links import check_scale, to_scale
from vaekit.errors import ConfigError
from vaekit.raw import num_entries, tril_of
from vaekit.shapes import Shape, as_shape, as_vector


class DiagonalNormal(ConditionalDistribution):
    r"""Gaussian posterior with a diagonal covariance.

    \( q(z|x) = N(z; \mu(x), \mathrm{diag}\, \sigma^2(x)) \), drawn as \( z = \mu + \sigma \epsilon \)
    (13.25-13.26).

    The mean is linear in the last layer (13.8); the raw second parameter v becomes the scale by
    "log-variance" \( \sigma = e^{v/2} \), "exp" \( \sigma = e^v \), "softplus" \( \sigma = \log(1 + e^v) \), or
    "softplus-variance" \( \sigma^2 = \log(1 + e^v) \) (13.9-13.10).

    Use it first: it is the cheapest, and its KL to a Gaussian prior is known. It cannot follow a p(z|x) whose
    dimensions depend on each other.

    References:
        Kingma & Welling, "Auto-encoding variational Bayes", 2014, https://arxiv.org/abs/1312.6114, equation 9.

    Args:
        event_shape: shape of z.
        scale: how v becomes the scale.

    Raises:
        ConfigError: for another word.
    """

    def __init__(
        self,
        event_shape: Shape,
        scale: Literal["log-variance", "exp", "softplus", "softplus-variance"] = "log-variance",
    ) -> None:
        check_scale("DiagonalNormal", scale, ("log-variance", "exp", "softplus", "softplus-variance"))
        super().__init__(event_shape, num_params=2)
        self.scale = scale

    def forward(self, params: Tensor) -> Product:
        """(mean, v) of shape (..., 2, *event) to q(z|x)."""
        loc, raw = self.unbind(params)
        scale = to_scale(raw, self.scale)
        return Product(Normal(loc, scale, validate_args=False), len(self.event_shape))


class _TrilNormal(MultivariateNormal):
    """torch's `MultivariateNormal` of a mean and a factor of one batch shape.

    torch's constructor broadcasts the two by a function whose first call imports sympy, which takes a second.
    """

    def __init__(self, loc: Tensor, scale_tril: Tensor) -> None:
        self.loc, self.scale_tril, self._unbroadcasted_scale_tril = loc, scale_tril, scale_tril
        Distribution.__init__(self, loc.shape[:-1], loc.shape[-1:], validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> "_TrilNormal":
        """The same distribution, repeated over `batch_shape`."""
        size, batch = self.event_shape[0], tuple(batch_shape)
        return _TrilNormal(self.loc.expand(*batch, size), self.scale_tril.expand(*batch, size, size))


class FullNormal(ConditionalDistribution):
    r"""Gaussian posterior with a full covariance.

    \( q(z|x) = N(z; \mu(x), L(x) L(x)^T) \) with a lower triangular L of positive diagonal (13.23).

    D (D + 3) / 2 parameters: use it where latents are few and correlated given x; `DiagonalNormal` costs 2 D.

    References:
        Kingma & Welling, "An introduction to variational autoencoders", 2019, https://arxiv.org/abs/1906.02691, 2.5.1.

    Args:
        event_shape: number of dimensions D of z (an int or a tuple of one).

    Raises:
        ShapeError: for an event of more than one dimension.
    """

    def __init__(self, event_shape: Shape) -> None:
        (size,) = as_vector("FullNormal", event_shape)
        super().__init__(size, param_shape=(size + num_entries(size),))

    def forward(self, params: Tensor) -> MultivariateNormal:
        """(mean, rows of L) of shape (..., D (D + 3) / 2) to q(z|x)."""
        size = self.event_shape[0]
        loc, entries = params[..., :size], params[..., size:]
        return _TrilNormal(loc, tril_of(entries, size))


class LowRankNormal(ConditionalDistribution):
    r"""Gaussian posterior whose covariance is a diagonal plus a matrix of low rank.

    \( q(z|x) = N(z; \mu(x), \mathrm{diag}\, \sigma^2(x) + U(x) U(x)^T) \) with U of shape (D, R).

    (R + 2) D parameters: between `DiagonalNormal` (R = 0) and `FullNormal`, for correlated latents in many dimensions.
    KL to a standard normal prior is exact; U = 0, near which the raw parameters start, is the diagonal family. Use it
    in tens or hundreds of dimensions where a few directions are correlated given x.

    References:
        Rezende et al., "Stochastic backpropagation", 2014, https://arxiv.org/abs/1401.4082, section 4.3 (rank one).
        Ong et al., "Gaussian variational approximation with a factor covariance structure", 2018,
        https://arxiv.org/abs/1701.03208.

    Args:
        event_shape: shape of z.
        rank: R, the number of columns of U; more than D of them say nothing new.

    Raises:
        ConfigError: for R < 1.

    Example:
        >>> import torch
        >>> LowRankNormal(3, rank=1)(torch.zeros(5, 3, 3)).batch_shape
        torch.Size([5])
    """

    def __init__(self, event_shape: Shape, rank: int = 2) -> None:
        if rank < 1:
            raise ConfigError(f"LowRankNormal expects a rank of at least 1; got {rank}. DiagonalNormal has rank 0.")
        super().__init__(event_shape, param_shape=(rank + 2, *as_shape(event_shape)))
        self.rank = rank

    def forward(self, params: Tensor) -> LowRankNormalDistribution:
        """(mean, log-variance of the diagonal, columns of U) of shape (..., R + 2, *event) to q(z|x).

        The diagonal stays above what the precision of its numbers resolves beside U: 0.14% of U in float32.
        """
        event_ndims = len(self.event_shape)
        rows = params.movedim(-event_ndims - 1, -1)
        factor = rows[..., 2:]
        least = 4 * math.sqrt(torch.finfo(factor.dtype).eps) * factor.abs().amax(-1)
        scale = torch.maximum(to_scale(rows[..., 1], "log-variance"), least)
        return LowRankNormalDistribution(rows[..., 0], scale, factor, event_ndims)


class Laplace(ConditionalDistribution):
    r"""Laplace posterior.

    \( q(z|x) = \prod_j \frac{1}{2 b_j} e^{-|z_j - \mu_j| / b_j} \), with the mean and b from the network.

    The variance is \( 2 b^2 \). The raw second parameter v becomes the scale by "exp" \( b = e^v \) or "softplus"
    \( b = \log(1 + e^v) \). Use it where p(z|x) has heavier tails than a normal distribution: a q whose tails are too
    light makes importance weights without a variance. Under a standard normal prior its KL is exact; the bound is
    otherwise about as tight as that of `DiagonalNormal`, the place to start.

    References:
        Kingma & Welling, "Auto-encoding variational Bayes", 2014, https://arxiv.org/abs/1312.6114, section 2.4 (the
        families that can be reparameterised).

    Args:
        event_shape: shape of z.
        scale: how v becomes the scale.

    Raises:
        ConfigError: for another word.

    Example:
        >>> import torch
        >>> Laplace(2)(torch.zeros(2, 2)).log_prob(torch.zeros(2))
        tensor(-1.3863)
    """

    def __init__(self, event_shape: Shape, scale: Literal["exp", "softplus"] = "exp") -> None:
        check_scale("Laplace", scale, ("exp", "softplus"))
        super().__init__(event_shape, num_params=2)
        self.scale = scale

    def forward(self, params: Tensor) -> Product:
        """(mean, v) of shape (..., 2, *event) to q(z|x)."""
        loc, raw = self.unbind(params)
        base = TorchLaplace(loc, to_scale(raw, self.scale), validate_args=False)
        return Product(base, len(self.event_shape))
