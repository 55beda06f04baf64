"""Laplace posterior."""

from typing import Literal

from torch import Tensor
from torch.distributions import Laplace as TorchLaplace

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import Product
from vaekit.distributions.links import check_scale, to_scale
from vaekit.shapes import Shape

_KINDS = ("exp", "softplus")


class Laplace(ConditionalDistribution):
    r"""\( q(z|x) = \prod_j \frac{1}{2 b_j} e^{-|z_j - \mu_j| / b_j} \), with the mean and b from the network.

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
        check_scale("Laplace", scale, _KINDS)
        super().__init__(event_shape, num_params=2)
        self.scale = scale

    def forward(self, params: Tensor) -> Product:
        """(mean, v) of shape (..., 2, *event) to q(z|x)."""
        loc, raw = self.unbind(params)
        base = TorchLaplace(loc, to_scale(raw, self.scale), validate_args=False)
        return Product(base, len(self.event_shape))
