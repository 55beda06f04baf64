"""A learned mixture of Gaussians."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from vaekit.distributions import Mixture, Normal, Product
from vaekit.distributions.links import entries_of, tril_of
from vaekit.errors import ConfigError, ShapeError
from vaekit.shapes import Shape, as_shape

Covariance = Literal["diagonal", "full"]


class NormalMixture(nn.Module):
    r"""\( p(z) = \sum_k \pi_k N(z; \mu_k, \Sigma_k) \) with learned weights, means and covariances.

    Use it where the data fall into groups, or to describe the aggregate posterior of a fitted model
    (`vaekit.training.fit_prior`); `VampPrior` needs fewer parameters where z has many dimensions. It begins spread out:
    means from N(0, I / 2) and variances 1/2, so that together the components have about the moments of N(0, I).

    References:
        Dilokthanakul et al., "Deep unsupervised clustering with Gaussian mixture variational autoencoders", 2016,
        https://arxiv.org/abs/1611.02648; Tomczak & Welling, "VAE with a VampPrior", 2018,
        https://arxiv.org/abs/1705.07120, where it is a baseline.

    Args:
        event_shape: shape of z.
        num_components: K.
        covariance: "diagonal", or "full" for events of one dimension.

    Raises:
        ConfigError: for K < 1 or another word.
        ShapeError: for full covariances of an event of more than one dimension.

    Example:
        >>> NormalMixture(4, num_components=3)().event_shape
        torch.Size([4])
    """

    def __init__(self, event_shape: Shape, num_components: int = 10, covariance: Covariance = "diagonal") -> None:
        super().__init__()
        self.event_shape, self.num_components, self.covariance = as_shape(event_shape), num_components, covariance
        if num_components < 1:
            raise ConfigError(f"a mixture has at least 1 component; got num_components={num_components}")
        if covariance not in ("diagonal", "full"):
            raise ConfigError(f'covariance is "diagonal" or "full"; got {covariance!r}')
        if covariance == "full" and len(self.event_shape) != 1:
            raise ShapeError(f"full covariances take events of one dimension; got shape {self.event_shape}. Flatten z.")
        self.logits = nn.Parameter(torch.zeros(num_components))
        self.loc = nn.Parameter(0.5**0.5 * torch.randn(num_components, *self.event_shape))
        scale = torch.full((num_components, *self.event_shape), 0.5**0.5)
        if covariance == "diagonal":
            self.log_scale = nn.Parameter(scale.log())
        else:
            self.tril_entries = nn.Parameter(entries_of(torch.diag_embed(scale)))

    def forward(self) -> Mixture:
        """p(z), batch shape ()."""
        if self.covariance == "diagonal":
            normal = Normal(self.loc, self.log_scale.exp(), validate_args=False)
            return Mixture(self.logits, Product(normal, len(self.event_shape)))
        tril = tril_of(self.tril_entries, self.event_shape[0])
        return Mixture(self.logits, MultivariateNormal(self.loc, scale_tril=tril, validate_args=False))

    @torch.no_grad()
    def assign(self, weights: Tensor, loc: Tensor, covariance: Tensor) -> None:
        r"""Take the parameters from elsewhere.

        Args:
            weights: \( \pi_k \), shape (K,).
            loc: \( \mu_k \), shape (K, *Z).
            covariance: variances of shape (K, *Z), or full covariances of shape (K, D, D).

        Raises:
            ShapeError: if a shape does not fit.
        """
        size = self.event_shape[0]
        wanted = (self.num_components, *((size, size) if self.covariance == "full" else self.event_shape))
        came = (tuple(weights.shape), tuple(loc.shape), tuple(covariance.shape))
        if came != (tuple(self.logits.shape), tuple(self.loc.shape), wanted):
            raise ShapeError(
                f"expected weights, means and covariances of shape {tuple(self.logits.shape)}, {tuple(self.loc.shape)} "
                f"and {wanted}; got {came}"
            )
        self.logits.copy_(weights.clamp(min=torch.finfo(weights.dtype).tiny).log())
        self.loc.copy_(loc)
        if self.covariance == "diagonal":
            self.log_scale.copy_(0.5 * covariance.log())
        else:
            self.tril_entries.copy_(entries_of(torch.linalg.cholesky(covariance)))
