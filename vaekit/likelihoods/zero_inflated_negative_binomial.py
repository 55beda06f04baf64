"""Negative binomial likelihood of counts with additional zeros."""

from torch import Tensor

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import NegativeBinomial as NegativeBinomialDistribution
from vaekit.distributions import Product, ZeroInflated
from vaekit.distributions.links import PositiveKind, PositiveParameter, log_positive
from vaekit.distributions.product import Missing
from vaekit.shapes import Shape


class ZeroInflatedNegativeBinomial(ConditionalDistribution):
    r"""\( p(x|z) = \prod_i \pi_i(z) [x_i = 0] + (1 - \pi_i(z)) NB(x_i; \mu_i(z), \alpha_i) \) for counts x.

    Use it where zeros have a cause of their own (an instrument that misses, a customer who never came). The negative
    binomial has many zeros itself: compare log p(x) with `NegativeBinomial` before believing \( \pi \). Where both
    explain the zeros, \( \pi \) and the mean are hardly told apart.

    References:
        Eraslan et al., "Single-cell RNA-seq denoising using a deep count autoencoder", 2019,
        https://doi.org/10.1038/s41467-018-07931-2.

    Args:
        event_shape: shape of x.
        dispersion: \( \alpha \), as in `NegativeBinomial`.
        min_dispersion: floor of a dispersion that is not fixed.
        missing: "observed-only" leaves NaN elements of x out of log p.

    Raises:
        ConfigError: if the dispersion is no positive number and none of the words.

    Example:
        >>> import torch
        >>> head = ZeroInflatedNegativeBinomial(1, dispersion=1.0)
        >>> head(torch.zeros(1, 2, 1)).log_prob(torch.zeros(1, 1)).exp()
        tensor([0.7500])
    """

    def __init__(
        self,
        event_shape: Shape,
        dispersion: PositiveKind = "per-dimension",
        min_dispersion: float = 1e-4,
        missing: Missing = "error",
    ) -> None:
        super().__init__(event_shape, num_params=3 if dispersion == "network" else 2)
        self.dispersion, self.min_dispersion, self.missing = dispersion, min_dispersion, missing
        self.dispersion_parameter = PositiveParameter(
            self.event_shape, dispersion, name="dispersion", floor=min_dispersion
        )

    def forward(self, params: Tensor) -> Product:
        """(raw log-mean, log-odds of an extra zero[, raw dispersion]) of shape (..., P, *event) to p(x|z)."""
        mean, logits, *raw = self.unbind(params)
        dispersion = self.dispersion_parameter(mean, raw[0] if raw else None)
        counts = NegativeBinomialDistribution(log_positive(mean), dispersion, validate_args=False)
        base = ZeroInflated(counts, logits, validate_args=False)
        return Product(base, len(self.event_shape), missing=self.missing)
