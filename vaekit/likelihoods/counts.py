"""Likelihoods of counts: Poisson, negative binomial, with more zeros, and a log-normal or another power, rounded."""

from collections.abc import Sequence
from math import isfinite, prod

import torch
from torch import Tensor

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import NegativeBinomial as NegativeBinomialDistribution
from vaekit.distributions import Poisson as PoissonDistribution
from vaekit.distributions import Product, ZeroInflated
from vaekit.distributions import RoundedLogNormal as RoundedLogNormalDistribution
from vaekit.distributions.links import PositiveKind, PositiveParameter, log_positive
from vaekit.distributions.product import Missing
from vaekit.distributions.rounded import POWERS
from vaekit.errors import ConfigError
from vaekit.raw import softplus_from_one
from vaekit.shapes import Shape


class Poisson(ConditionalDistribution):
    r"""Poisson likelihood of counts.

    \( \log p(x|z) = \sum_i x_i \log \lambda_i - \lambda_i - \log x_i! \) for counts x, log-rates from the network.

    Use it for counts whose variance, given z, is their mean: events in a fixed time or area. Where they spread more,
    which most counts do, take `NegativeBinomial`; for integers with a highest value, `DiscretizedLogistic` or
    `Categorical`. Counts are not standardised; in front of an encoder belongs `networks.LogInput`, as presets have it.

    The rate is \( e^r \) up to r = 16, a straight line above, so that it cannot overflow.

    References:
        Zhao et al., "Variational autoencoders for sparse and overdispersed discrete data", 2020,
        https://arxiv.org/abs/1905.00616, section 2.

    Args:
        event_shape: shape of x.
        missing: "observed-only" leaves NaN elements of x out of log p.

    Example:
        >>> import torch
        >>> Poisson(3)(torch.zeros(1, 1, 3)).log_prob(torch.tensor([[0.0, 1.0, 2.0]]))
        tensor([-3.6931])
    """

    def __init__(self, event_shape: Shape, missing: Missing = "error") -> None:
        super().__init__(event_shape, num_params=1)
        self.missing = missing

    def forward(self, params: Tensor) -> Product:
        """Raw log-rates of shape (..., 1, *event) to p(x|z)."""
        (raw,) = self.unbind(params)
        base = PoissonDistribution(log_positive(raw), validate_args=False)
        return Product(base, len(self.event_shape), missing=self.missing)


class NegativeBinomial(ConditionalDistribution):
    r"""Negative binomial likelihood of counts that spread more than a Poisson's.

    Counts with mean \( \mu_i(z) \) and variance \( \mu_i + \alpha_i \mu_i^2 \), log-mean from the network.

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


class ZeroInflatedNegativeBinomial(ConditionalDistribution):
    r"""Negative binomial likelihood of counts with additional zeros.

    \( p(x|z) = \prod_i \pi_i(z) [x_i = 0] + (1 - \pi_i(z)) NB(x_i; \mu_i(z), \alpha_i) \) for counts x.

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


class RoundedLogNormal(ConditionalDistribution):
    r"""Likelihood of counts that spread more or less than a Poisson's.

    \( x_i = \mathrm{round}(e^{Y_i} - 1) \) with \( Y_i \sim N(\mu_i(z), s_i(z)^2) \): a mass of each count, with
    location and scale of log(x + 1) from the network. An element with a `power` p other than 0 has
    \( x_i = \mathrm{round}(c_i (1 + p_i Y_i)^{1/p_i} - 1) \) instead: of the same spread near the `centre` c, and with
    a shorter tail.

    Use it for counts of which it is not known how far they spread given z: of scores from 0 to 15 z may tell nearly
    all, while a `NegativeBinomial` spreads at least as a `Poisson` does. The tail is that of a log-normal, and twice
    as wide as that of a Poisson with few counts; 1/2 has the tail of a Poisson, 1/4 that of counts in between, 1 that
    of a normal. `vaekit fit` chooses it for each column of a table. Counts are not standardised; in front of an encoder
    belongs `networks.LogInput`, or in a table `networks.ColumnsInput` with the same powers.

    References:
        Canale & Dunson, "Bayesian kernel mixtures for counts", 2011, https://doi.org/10.1198/jasa.2011.tm10552
        (rounded densities).

    Args:
        event_shape: shape of x.
        scale: s: a number (fixed), "learned" (one value for all), "per-dimension" (one per element), or "network".
        min_scale: floor of a scale that is not fixed, in units of log(x + 1), or of (x + 1) / c near c.
        missing: "observed-only" leaves NaN elements of x out of log p.
        power: p: 0, 1/4, 1/2 or 1, one for all elements or one for each in the order of memory.
        centre: c > 0, likewise; about the mean of x + 1.

    Raises:
        ConfigError: if the scale is no positive number and none of the words, the power is another one, the centre is
            not positive, or there are not as many as elements.

    Example:
        >>> import torch
        >>> RoundedLogNormal(1, scale=0.1)(torch.full((1, 1, 1), 2.0)).mean
        tensor([[6.4...]])
        >>> RoundedLogNormal(1, scale=0.5, power=0.5, centre=4.0)(torch.zeros(1, 1, 1)).mean
        tensor([[3.25...]])
    """

    min_scale: float
    _power: Tensor
    _centre: Tensor

    def __init__(
        self,
        event_shape: Shape,
        scale: PositiveKind = "network",
        min_scale: float = 0.02,
        missing: Missing = "error",
        power: float | Sequence[float] = 0.0,
        centre: float | Sequence[float] = 1.0,
    ) -> None:
        super().__init__(event_shape, num_params=2 if scale == "network" else 1)
        self.scale, self.min_scale, self.missing = scale, min_scale, missing
        self.power, self.centre = (v if isinstance(v, int | float) else tuple(v) for v in (power, centre))
        if not set(self._each(self.power)) <= set(POWERS):
            raise ConfigError(f"power is one of {', '.join(f'{p:g}' for p in POWERS)}; got {power}")
        if not all(isfinite(c) and c > 0 for c in self._each(self.centre)):
            raise ConfigError(f"centre is positive, a typical count and 1 more; got {centre}")
        self.scale_parameter = PositiveParameter(
            self.event_shape, scale, name="scale", floor=min_scale, link=softplus_from_one
        )
        for name, value in {"_power": self.power, "_centre": self.centre}.items():
            each = torch.tensor(self._each(value), dtype=torch.float64)
            self.register_buffer(name, each.reshape(self.event_shape), persistent=False)

    def _each(self, value: float | Sequence[float]) -> list[float]:
        """One number for each element.

        Raises:
            ConfigError: if there are not as many.
        """
        size = prod(self.event_shape)
        each = [float(value)] * size if isinstance(value, int | float) else [float(v) for v in value]
        if len(each) != size:
            raise ConfigError(f"one number for each of {size} element(s), or one for all; got {len(each)}")
        return each

    @property
    def bends(self) -> list[tuple[float, float]]:
        """Power and centre of each element."""
        return list(zip(self._each(self.power), self._each(self.centre), strict=True))

    @property
    def scale_is_fixed(self) -> bool:
        """Whether `scale` is a number."""
        return isinstance(self.scale, float | int)

    def forward(self, params: Tensor) -> Product:
        """(location[, raw scale]) of shape (..., P, *event) to p(x|z)."""
        loc, *raw = self.unbind(params)
        scale = self.scale_parameter(loc, raw[0] if raw else None)
        bend = {} if self.power == 0 and self.centre == 1 else {"power": self._power, "centre": self._centre}
        base = RoundedLogNormalDistribution(loc, scale, validate_args=False, **bend)
        return Product(base, len(self.event_shape), missing=self.missing)
