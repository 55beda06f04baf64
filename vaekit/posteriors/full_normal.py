"""Gaussian posterior with a full covariance."""

from torch import Tensor
from torch.distributions import MultivariateNormal

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions.links import num_entries, tril_of
from vaekit.shapes import Shape, as_vector


class FullNormal(ConditionalDistribution):
    r"""\( q(z|x) = N(z; \mu(x), L(x) L(x)^T) \) with a lower triangular L of positive diagonal (13.23).

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
        return MultivariateNormal(loc, scale_tril=tril_of(entries, size), validate_args=False)
