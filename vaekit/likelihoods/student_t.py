"""Student's t likelihood of real numbers with outliers."""

from torch import Tensor

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import Product
from vaekit.distributions import StudentT as StudentTDistribution
from vaekit.distributions.links import PositiveKind, PositiveParameter
from vaekit.distributions.product import Missing
from vaekit.likelihoods.scale import ScaleKind, ScaleParameter
from vaekit.shapes import Shape


class StudentT(ConditionalDistribution):
    r"""\( p(x|z) = \prod_i t_\nu(x_i; \mu_i(z), \sigma_i) \propto \prod_i (1 + y_i^2/\nu)^{-(\nu+1)/2} \).

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
