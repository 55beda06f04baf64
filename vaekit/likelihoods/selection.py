"""Likelihood of numbers of which some are hidden because of what they are."""

import torch
from torch import Tensor, nn

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import Normal as NormalDistribution
from vaekit.distributions import SelfMasked as SelfMaskedDistribution
from vaekit.distributions.product import Product
from vaekit.errors import ConfigError
from vaekit.shapes import Shape

_STEEPEST = 10.0  # slope of a_j + b_j x_j, beyond which a probit is a step


class SelfMasked(ConditionalDistribution):
    r"""Likelihood of numbers with bits that say which are hidden, where being hidden depends on the number itself.

    \( p(x_j, m_j | z) = p(x_j | z)\, p(m_j | x_j) \) with normal \( p(x_j | z) \) and
    \( p(m_j = 1 | x_j) = \Phi(a_j + b_j x_j) \), a probit of one learned intercept and slope for each number. A hidden
    x_j is integrated out in closed form,
    \[ p(m_j = 1 | z) = \Phi\left(\frac{a_j + b_j \mu_j}{\sqrt{1 + b_j^2 \sigma_j^2}}\right), \]
    so that bounds need no draws of it, and a fill is the mean of \( p(x_j | z, m_j = 1) \).

    Use it where cells are missing not at random: incomes that are not told where they are high, readings beyond the
    end of a scale. What the hidden numbers are like then rests on the other columns and on the shape of the model, and
    no data can say whether that is right: compare with a model that takes cells to be missing at random. Where whether
    a cell is empty depends on other columns alone, a `Bernoulli` for the bit says so. `vaekit fit --self-masking`
    makes it of a table.

    References:
        Ipsen, Mattei & Frellsen, "not-MIWAE: deep generative modelling with missing not at random data", 2021,
        https://arxiv.org/abs/2006.12871 (self-masking, there by a logistic function and draws of x_j).
        Heckman, "Sample selection bias as a specification error", 1979, https://doi.org/10.2307/1912352 (the probit).

    Args:
        event_shape: 2 d: the numbers, and behind them their bits, 1 where hidden.
        density: a `Normal` head of d numbers.

    Attributes:
        intercept: a, shape (d,).

    Raises:
        ConfigError: if the density is not normal, or has not half of the elements.

    Example:
        >>> from vaekit.likelihoods import Normal
        >>> head = SelfMasked(2, Normal(1, scale=1.0, missing="observed-only"))
        >>> head(torch.zeros(1, 1, 1)).log_prob(torch.tensor([[torch.nan, 1.0]])).exp()
        tensor([0.5000], grad_fn=<ExpBackward0>)
    """

    def __init__(self, event_shape: Shape, density: ConditionalDistribution) -> None:
        super().__init__(event_shape, param_shape=density.param_shape)
        (size,) = density.event_shape if len(density.event_shape) == 1 else (0,)
        with torch.no_grad():
            made = density(torch.zeros(density.param_shape))
            base = made.base if isinstance(made, Product) else None
        if self.event_shape != (2 * size,) or not isinstance(base, NormalDistribution):
            raise ConfigError(
                f"SelfMasked takes a Normal of half of its {self.event_shape} elements, the others are bits; got "
                f"{type(density).__name__} of events {density.event_shape}"
            )
        self.density, self.missing, self.min_scale = density, density.missing, density.min_scale
        self.intercept, self.raw_slope = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size))

    @property
    def slope(self) -> Tensor:
        """b, shape (d,), between -10 and 10."""
        return _STEEPEST * torch.tanh(self.raw_slope / _STEEPEST)

    @property
    def scale_is_fixed(self) -> bool:
        """That of the density."""
        return self.density.scale_is_fixed

    def forward(self, params: Tensor) -> SelfMaskedDistribution:
        """The parameters of the density, shape (..., *its), to p(x, m|z)."""
        values = self.density(params)
        assert isinstance(values, Product)
        return SelfMaskedDistribution(values, self.intercept, self.slope)
