"""Negative binomial likelihood of counts that spread more than a Poisson's."""

from torch import Tensor

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import NegativeBinomial as NegativeBinomialDistribution
from vaekit.distributions import Product
from vaekit.distributions.links import PositiveKind, PositiveParameter, log_positive
from vaekit.distributions.product import Missing
from vaekit.shapes import Shape


class NegativeBinomial(ConditionalDistribution):
    r"""Counts with mean \( \mu_i(z) \) and variance \( \mu_i + \alpha_i \mu_i^2 \), log-mean from the network.

    \[ p(x|z) = \prod_i \frac{\Gamma(x_i + r_i)}{\Gamma(r_i)\, x_i!}
       \frac{\mu_i^{x_i} r_i^{r_i}}{(\mu_i + r_i)^{x_i + r_i}}, \qquad r_i = 1 / \alpha_i. \]
    Use it for counts that spread more than their mean given z (reads per gene, visits, claims). As the dispersion
    \( \alpha \) falls it becomes the `Poisson`. Where there are more zeros than even this explains, take
    `ZeroInflatedNegativeBinomial`. The mean is \( e^r \) up to r = 16, a straight line above. Counts are not
    standardised; in front of an encoder belongs `networks.LogInput`, as the presets have it: thousands overflow it.

    References:
        Lopez et al., "Deep generative modeling for single-cell transcriptomics", 2018,
        https://doi.org/10.1038/s41592-018-0229-2; their inverse dispersion is \( 1/\alpha \).

    Args:
        event_shape: shape of x.
        dispersion: \( \alpha \): a number (fixed), "learned" (one value for all, starting at 1), "per-dimension", or
            "network".
        min_dispersion: floor of a dispersion that is not fixed.
        missing: "observed-only" leaves NaN elements of x out of log p.

    Raises:
        ConfigError: if the dispersion is no positive number and none of the words.

    Example:
        >>> import torch
        >>> NegativeBinomial(2, dispersion=1.0)(torch.zeros(1, 1, 2)).log_prob(torch.tensor([[0.0, 1.0]]))
        tensor([-2.0794])
    """

    def __init__(
        self,
        event_shape: Shape,
        dispersion: PositiveKind = "per-dimension",
        min_dispersion: float = 1e-4,
        missing: Missing = "error",
    ) -> None:
        super().__init__(event_shape, num_params=2 if dispersion == "network" else 1)
        self.dispersion, self.min_dispersion, self.missing = dispersion, min_dispersion, missing
        self.dispersion_parameter = PositiveParameter(
            self.event_shape, dispersion, name="dispersion", floor=min_dispersion
        )

    def forward(self, params: Tensor) -> Product:
        """(raw log-mean[, raw dispersion]) of shape (..., P, *event) to p(x|z)."""
        mean, *raw = self.unbind(params)
        dispersion = self.dispersion_parameter(mean, raw[0] if raw else None)
        base = NegativeBinomialDistribution(log_positive(mean), dispersion, validate_args=False)
        return Product(base, len(self.event_shape), missing=self.missing)
