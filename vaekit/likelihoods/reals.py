"""Likelihoods of real numbers: normal and mixtures of it, Laplace, Student t, and of positive ones the log-normal."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Distribution
from torch.distributions import Laplace as TorchLaplace

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import LogNormal as LogNormalDistribution
from vaekit.distributions import Normal as NormalDistribution
from vaekit.distributions import NormalMixture as NormalMixtureDistribution
from vaekit.distributions import StudentT as StudentTDistribution
from vaekit.distributions.links import PositiveKind, PositiveParameter
from vaekit.distributions.product import Missing, Product
from vaekit.errors import ConfigError
from vaekit.raw import softplus_from_one
from vaekit.shapes import Shape

ScaleKind = PositiveKind


class ScaleParameter(PositiveParameter):
    r"""\( \sigma = \sigma_{min} + \mathrm{softplus}(r + c) \), with c such that \( \sigma \approx 1 \) at r = 0.

    The floor keeps the density finite: without it, a column that the decoder fits exactly drives sigma to 0 and log p
    to infinity.

    Args:
        event_shape: shape of x.
        scale: a number (fixed), "learned" (one value), "per-dimension" (one per element) or "network" (r from the
            decoder).
        min_scale: the floor \( \sigma_{min} > 0 \).

    Raises:
        ConfigError: for another word, or a number that is not positive.
    """

    def __init__(self, event_shape: tuple[int, ...], scale: ScaleKind, min_scale: float) -> None:
        super().__init__(event_shape, scale, name="scale", floor=min_scale, link=softplus_from_one)


class LocationScale(ConditionalDistribution):
    """A product of location-scale densities: location from the network, scale as chosen. Members name their `family`.

    Args:
        event_shape: shape of x.
        scale: a number (fixed), "learned" (one value for all), "per-dimension", or "network".
        min_scale: floor of a scale that is not fixed, in units of x as the model sees it.
        missing: "observed-only" leaves NaN elements of x out of log p.

    Raises:
        ConfigError: if the scale is no positive number and none of the words.
    """

    family: Callable[..., Distribution]

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

    @property
    def scale_is_fixed(self) -> bool:
        """Whether `scale` is a number."""
        return isinstance(self.scale, float | int)

    def forward(self, params: Tensor) -> Product:
        """(location[, raw scale]) of shape (..., P, *event) to p(x|z)."""
        loc, *raw = self.unbind(params)
        scale = self.scale_parameter(loc, raw[0] if raw else None)
        base = type(self).family(loc, scale, validate_args=False)
        return Product(base, len(self.event_shape), missing=self.missing)


class Normal(LocationScale):
    r"""Normal likelihood of real numbers.

    \( p(x|z) = \prod_i N(x_i; \mu_i(z), \sigma_i^2) \): mean from the network, scale as chosen.

    Equation 13.18 with `scale="network"`; with a fixed scale, equation 13.28: the objective is then half the squared
    error plus \( \sigma^2 \) times the KL, up to the factor \( 1/\sigma^2 \) and a constant.

    Use it for real numbers without far outliers. A scale per dimension suits tables, a fixed one images whose noise is
    known; a scale from the network makes errors differ from row to row.

    References:
        Kingma & Welling, "Auto-encoding variational Bayes", 2014, https://arxiv.org/abs/1312.6114, appendix C.2.

    Args:
        event_shape: shape of x.
        scale: a number (fixed), "learned" (one value for all), "per-dimension", or "network".
        min_scale: floor of a scale that is not fixed, in units of x as the model sees it.
        missing: "observed-only" leaves NaN elements of x out of log p.

    Raises:
        ConfigError: if the scale is no positive number and none of the words.

    Example:
        >>> import torch
        >>> Normal(2, scale=1.0)(torch.zeros(1, 1, 2)).log_prob(torch.zeros(1, 2))
        tensor([-1.8379])
    """

    family = NormalDistribution


class Laplace(LocationScale):
    r"""Laplace likelihood of real numbers with heavier tails.

    \( p(x|z) = \prod_i \frac{1}{2 b_i} e^{-|x_i - \mu_i(z)|/b_i} \): an absolute instead of a squared error.

    Use it where a few values lie far out; the `Normal` is smoother where they do not.

    Args:
        event_shape: shape of x.
        scale: b, chosen as in `Normal`.
        min_scale: floor of a scale that is not fixed.
        missing: "observed-only" leaves NaN elements of x out of log p.

    Raises:
        ConfigError: if the scale is no positive number and none of the words.
    """

    family = TorchLaplace


class StudentT(ConditionalDistribution):
    r"""Student's t likelihood of real numbers with outliers.

    \( p(x|z) = \prod_i t_\nu(x_i; \mu_i(z), \sigma_i) \propto \prod_i (1 + y_i^2/\nu)^{-(\nu+1)/2} \).

    Here \( y = (x - \mu) / \sigma \), with the location \( \mu \) from the network.

    Use it where single values lie far out: their pull on the fit is bounded, and tends to zero. The tail, like
    \( |x|^{-\nu - 1} \), can be learned; towards infinity it is that of the `Normal`, which is cheaper where nothing
    lies far out. `Laplace` is between the two.

    References:
        Lange, Little & Taylor, "Robust statistical modeling using the t distribution", 1989,
        https://doi.org/10.2307/2290063.
        Takahashi et al., "Student-t variational autoencoder for robust density estimation", 2018,
        https://doi.org/10.24963/ijcai.2018/374.

    Args:
        event_shape: shape of x.
        df: degrees of freedom \( \nu \): a number (fixed), "learned" (one value for all, starting at 5),
            "per-dimension", or "network".
        scale: sigma, chosen as in `Normal`.
        min_df: floor of degrees of freedom that are not fixed; 2 keeps the variance finite.
        min_scale: floor of a scale that is not fixed.
        missing: "observed-only" leaves NaN elements of x out of log p.

    Raises:
        ConfigError: if df or the scale is no positive number and none of the words.

    Example:
        >>> import torch
        >>> StudentT(2, df=3.0, scale=1.0)(torch.zeros(1, 1, 2)).log_prob(torch.zeros(1, 2))
        tensor([-2.0018])
    """

    def __init__(
        self,
        event_shape: Shape,
        df: PositiveKind = "learned",
        scale: ScaleKind = "per-dimension",
        min_df: float = 2.0,
        min_scale: float = 1e-3,
        missing: Missing = "error",
    ) -> None:
        super().__init__(event_shape, num_params=1 + (scale == "network") + (df == "network"))
        self.df, self.scale, self.min_df, self.min_scale, self.missing = df, scale, min_df, min_scale, missing
        self.scale_parameter = ScaleParameter(self.event_shape, scale, min_scale)
        self.df_parameter = PositiveParameter(self.event_shape, df, name="df", floor=min_df, initial=3.0)

    @property
    def scale_is_fixed(self) -> bool:
        """Whether `scale` is a number."""
        return isinstance(self.scale, float | int)

    def forward(self, params: Tensor) -> Product:
        """(location[, raw scale][, raw degrees of freedom]) of shape (..., P, *event) to p(x|z)."""
        loc, *raw = self.unbind(params)
        scale = self.scale_parameter(loc, raw.pop(0) if self.scale_parameter.num_params else None)
        df = self.df_parameter(loc, raw.pop(0) if self.df_parameter.num_params else None)
        base = StudentTDistribution(df, loc, scale, validate_args=False)
        return Product(base, len(self.event_shape), missing=self.missing)


class NormalMixture(ConditionalDistribution):
    r"""Mixture of normal densities: real numbers that heap in several places, given z.

    \( p(x|z) = \prod_i \sum_k \pi_{ik}(z) N(x_i; \mu_{ik}(z), \sigma_{ik}(z)^2) \): weights, means and scales from the
    network, K of each for an element.

    Use it where a histogram has several peaks that the latents do not tell apart. It costs 3 K parameters an element;
    `Normal` needs one or two. At the start the means are spread over [-1, 1], so that the components differ.

    References:
        Bishop, "Mixture density networks", 1994, https://publications.aston.ac.uk/id/eprint/373/.

    Args:
        event_shape: shape of x.
        num_components: K.
        min_scale: floor of the scales, in units of x as the model sees it.
        missing: "observed-only" leaves NaN elements of x out of log p.

    Raises:
        ConfigError: if K < 1 or the floor is not positive.

    Example:
        >>> import torch
        >>> head = NormalMixture(2, num_components=1)
        >>> head(torch.zeros(1, 3, 2)).mean
        tensor([[0., 0.]])
    """

    min_scale: float

    def __init__(
        self, event_shape: Shape, num_components: int = 5, min_scale: float = 1e-3, missing: Missing = "error"
    ) -> None:
        if num_components < 1:
            raise ConfigError(f"NormalMixture expects at least 1 component; got {num_components}")
        if not min_scale > 0:
            raise ConfigError(f"min_scale is positive; got {min_scale}")
        super().__init__(event_shape, num_params=3 * num_components)
        self.num_components, self.min_scale, self.missing = num_components, float(min_scale), missing

    def forward(self, params: Tensor) -> Product:
        """(log-weights, means, raw scales), K of each, of shape (..., 3 K, *event) to p(x|z)."""
        place = -len(self.event_shape) - 1
        logits, loc, raw = (part.movedim(place, -1) for part in params.split(self.num_components, place))
        index = torch.arange(self.num_components, dtype=loc.dtype, device=loc.device)
        loc = loc + ((2 * index + 1) / self.num_components - 1)
        scale = self.min_scale + softplus_from_one(raw)
        weights = TorchCategorical(logits=logits, validate_args=False)
        base = NormalMixtureDistribution(
            weights, NormalDistribution(loc, scale, validate_args=False), validate_args=False
        )
        return Product(base, len(self.event_shape), missing=self.missing)


class LogNormal(LocationScale):
    r"""Log-normal likelihood of positive numbers.

    \( p(x|z) = \prod_i \frac{1}{x_i} N(\log x_i; \mu_i(z), \sigma_i^2) \) for x > 0: a `Normal` of log x.

    Use it for positive numbers whose errors are relative (prices, concentrations, durations). The density is one of x,
    not of log x, so that log p can be compared with that of a `Normal`. Zeros have no density: take a likelihood of
    counts, or shift the data. The data are not standardised. The mean \( e^{\mu + \sigma^2/2} \) lies above the median
    \( e^\mu \).

    References:
        Limpert, Stahel & Abbt, "Log-normal distributions across the sciences", 2001,
        https://doi.org/10.1641/0006-3568(2001)051[0341:LNDATS]2.0.CO;2.

    Args:
        event_shape: shape of x.
        scale: sigma of log x, chosen as in `Normal`.
        min_scale: floor of a scale that is not fixed.
        missing: "observed-only" leaves NaN elements of x out of log p.

    Raises:
        ConfigError: if the scale is no positive number and none of the words.

    Example:
        >>> import torch
        >>> LogNormal(2, scale=1.0)(torch.zeros(1, 1, 2)).log_prob(torch.ones(1, 2))
        tensor([-1.8379])
    """

    family = LogNormalDistribution
