"""Laplace likelihood of real numbers with heavier tails."""

from torch import Tensor
from torch.distributions import Laplace as TorchLaplace

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions.product import Missing, Product
from vaekit.likelihoods.scale import ScaleKind, ScaleParameter
from vaekit.networks.shapes import Shape


class Laplace(ConditionalDistribution):
    r"""\( p(x|z) = \prod_i \frac{1}{2 b_i} e^{-|x_i - \mu_i(z)|/b_i} \): an absolute instead of a squared error.

    Use it where a few values lie far out; the `Normal` is smoother where they do not.

    Args:
        event_shape: shape of x.
        scale: b, chosen as in `Normal`.
        min_scale: floor of a scale that is not fixed.
        missing: "observed-only" leaves NaN elements of x out of log p.

    Raises:
        ConfigError: if the scale is no positive number and none of the words.
    """

    def __init__(
        self,
        event_shape: Shape,
        scale: ScaleKind = "per-dimension",
        min_scale: float = 1e-3,
        missing: Missing = "error",
    ) -> None:
        super().__init__(event_shape, num_params=2 if scale == "network" else 1)
        self.scale, self.min_scale, self.missing = scale, min_scale, missing
        self.scale_parameter = ScaleParameter(self.event_shape, scale, min_scale)

    def forward(self, params: Tensor) -> Product:
        """(location[, raw scale]) of shape (..., P, *event) to p(x|z)."""
        loc, *raw = self.unbind(params)
        scale = self.scale_parameter(loc, raw[0] if raw else None)
        return Product(TorchLaplace(loc, scale, validate_args=False), len(self.event_shape), missing=self.missing)
