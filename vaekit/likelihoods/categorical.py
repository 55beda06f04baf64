"""Categorical likelihood of integers."""

from torch import Tensor

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import OrdinalCategorical, Product
from vaekit.distributions.discrete import check_num_classes
from vaekit.distributions.product import Missing
from vaekit.shapes import Shape


class Categorical(ConditionalDistribution):
    r"""\( p(x|z) = \prod_i \pi_{i, x_i} \) for integers x in 0..C-1: any shape of mass, C parameters per element.

    Use it for categories and, with 256 classes, for pixels whose distribution has several peaks. For smooth images
    `DiscretizedLogistic` needs two parameters instead of 256.

    References:
        van den Oord et al., "Pixel recurrent neural networks", 2016, https://arxiv.org/abs/1601.06759, section 3.3.

    Args:
        event_shape: shape of x.
        num_classes: C.
        missing: "observed-only" leaves NaN elements of x out of log p.

    Raises:
        ConfigError: if C < 2.
    """

    autocast_params = True
    levels_argument = "num_classes"

    def __init__(self, event_shape: Shape, num_classes: int = 256, missing: Missing = "error") -> None:
        check_num_classes("Categorical", num_classes)
        super().__init__(event_shape, num_params=num_classes)
        self.num_classes, self.missing = num_classes, missing

    def forward(self, params: Tensor) -> Product:
        """Unnormalised log-probabilities of shape (..., C, *event) to p(x|z)."""
        logits = params.movedim(-len(self.event_shape) - 1, -1)
        base = OrdinalCategorical(logits=logits, validate_args=False)
        return Product(base, len(self.event_shape), missing=self.missing)
