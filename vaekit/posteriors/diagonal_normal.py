"""Gaussian posterior with a diagonal covariance."""

from typing import Literal

from torch import Tensor

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import Normal, Product
from vaekit.distributions.links import check_scale, to_scale
from vaekit.shapes import Shape

_KINDS = ("log-variance", "exp", "softplus", "softplus-variance")


class DiagonalNormal(ConditionalDistribution):
    r"""\( q(z|x) = N(z; \mu(x), \mathrm{diag}\, \sigma^2(x)) \), drawn as \( z = \mu + \sigma \epsilon \)
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
        check_scale("DiagonalNormal", scale, _KINDS)
        super().__init__(event_shape, num_params=2)
        self.scale = scale

    def forward(self, params: Tensor) -> Product:
        """(mean, v) of shape (..., 2, *event) to q(z|x)."""
        loc, raw = self.unbind(params)
        scale = to_scale(raw, self.scale)
        return Product(Normal(loc, scale, validate_args=False), len(self.event_shape))
