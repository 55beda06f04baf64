"""Likelihoods of numbers between 0 and 1: continuous Bernoulli and beta."""

from torch import Tensor

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import Beta as BetaDistribution
from vaekit.distributions import ContinuousBernoulli as ContinuousBernoulliDistribution
from vaekit.distributions.links import PositiveKind, PositiveParameter
from vaekit.distributions.product import Missing, Product
from vaekit.shapes import Shape


class ContinuousBernoulli(ConditionalDistribution):
    r"""Continuous Bernoulli likelihood of values in the unit interval.

    \( p(x|z) = \prod_i C(\lambda_i) \lambda_i^{x_i} (1 - \lambda_i)^{1 - x_i} \) for x in [0, 1]: a density.

    Use it for grey values where a Bernoulli would be no density. 8-bit images are integers: a density of x / 255 can
    grow without bound at 0 and 1, `DiscretizedLogistic` gives their mass.

    References:
        Loaiza-Ganem & Cunningham, "The continuous Bernoulli", 2019, https://arxiv.org/abs/1907.06845, equations 4-6.

    Args:
        event_shape: shape of x.
        missing: "observed-only" leaves NaN elements of x out of log p.
    """

    def __init__(self, event_shape: Shape, missing: Missing = "error") -> None:
        super().__init__(event_shape, num_params=1)
        self.missing = missing

    def forward(self, params: Tensor) -> Product:
        """Logits of shape (..., 1, *event) to p(x|z)."""
        (logits,) = self.unbind(params)
        base = ContinuousBernoulliDistribution(logits=logits, validate_args=False)
        return Product(base, len(self.event_shape), missing=self.missing)


class Beta(ConditionalDistribution):
    r"""Beta likelihood of proportions.

    \( p(x|z) = \prod_i x_i^{a_i - 1} (1 - x_i)^{b_i - 1} / B(a_i, b_i) \) with a = m kappa, b = (1 - m) kappa.

    The network gives the log-odds of the mean m; the concentration \( \kappa \) is chosen, and the variance is
    \( m (1 - m) / (1 + \kappa) \). Use it for proportions strictly between 0 and 1. Where 0 and 1 themselves occur
    take `ContinuousBernoulli`; for k successes of n the proportion is no sufficient statistic; for 8-bit images
    `DiscretizedLogistic`. The density has no bound at 0 and 1 where a or b is below 1, so values that were rounded to
    nearly 0 or 1 dominate log p.

    References:
        Ferrari & Cribari-Neto, "Beta regression for modelling rates and proportions", 2004,
        https://doi.org/10.1080/0266476042000214501.

    Args:
        event_shape: shape of x.
        concentration: \( \kappa \): a number (fixed), "learned" (one value for all, starting at 2, where m = 1/2 gives
            the uniform density), "per-dimension", or "network".
        min_concentration: floor of a concentration that is not fixed.
        missing: "observed-only" leaves NaN elements of x out of log p.

    Raises:
        ConfigError: if the concentration is no positive number and none of the words.

    Example:
        >>> import torch
        >>> Beta(2, concentration=4.0)(torch.zeros(1, 1, 2)).log_prob(torch.full((1, 2), 0.5)).exp()
        tensor([2.2500])
    """

    def __init__(
        self,
        event_shape: Shape,
        concentration: PositiveKind = "per-dimension",
        min_concentration: float = 1e-2,
        missing: Missing = "error",
    ) -> None:
        super().__init__(event_shape, num_params=2 if concentration == "network" else 1)
        self.concentration, self.min_concentration, self.missing = concentration, min_concentration, missing
        self.concentration_parameter = PositiveParameter(
            self.event_shape, concentration, name="concentration", floor=min_concentration, initial=2.0
        )

    def forward(self, params: Tensor) -> Product:
        """(log-odds of the mean[, raw concentration]) of shape (..., P, *event) to p(x|z)."""
        logits, *raw = self.unbind(params)
        concentration = self.concentration_parameter(logits, raw[0] if raw else None)
        base = BetaDistribution(logits, concentration, validate_args=False)
        return Product(base, len(self.event_shape), missing=self.missing)
