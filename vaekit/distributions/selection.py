"""Numbers of which some are hidden because of what they are: a normal, and a bit that its value moves."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Bernoulli, constraints
from torch.distributions.utils import broadcast_all

from vaekit.distributions.base import Base
from vaekit.distributions.columns import Columns
from vaekit.distributions.normal import Normal
from vaekit.distributions.product import Product
from vaekit.distributions.special import HALF_LOG_TWO_PI


def _at(loc: Tensor, scale: Tensor, intercept: Tensor, slope: Tensor) -> Tensor:
    r"""t with \( E[\Phi(a + b x)] = \Phi(t) \), \( t = (a + b \mu) / \sqrt{1 + b^2 \sigma^2} \), for normal x."""
    t: Tensor = (intercept + slope * loc) / torch.sqrt(1 + (slope * scale).square())
    return t


class SelectedNormal(Base):
    r"""Normal numbers that passed a choice: \( p(x) = N(x; \mu, \sigma^2)\, \Phi(a + b x) / \Phi(t) \).

    That is x given that \( a + b x + \epsilon > 0 \) with \( \epsilon \sim N(0, 1) \): an extended skew normal.
    a = b = 0 is the normal itself.

    References:
        Arnold & Beaver, "Hidden truncation models", 2000, Sankhya A 62, 23-35.
        Heckman, "Sample selection bias as a specification error", 1979, https://doi.org/10.2307/1912352 (the mean).

    Args:
        loc: \( \mu \).
        scale: \( \sigma > 0 \).
        intercept: a.
        slope: b.

    Example:
        >>> zero, one = torch.tensor(0.0), torch.tensor(1.0)
        >>> SelectedNormal(zero, one, zero, torch.tensor(1e3)).mean  # half a normal: the root of 2 / pi
        tensor(0.7979)
    """

    parameters = ("loc", "scale", "intercept", "slope")
    support: constraints.Constraint = constraints.real
    has_rsample = False

    def __init__(self, loc: Tensor, scale: Tensor, intercept: Tensor, slope: Tensor) -> None:
        self.loc, self.scale, self.intercept, self.slope = broadcast_all(loc, scale, intercept, slope)
        super().__init__(self.loc.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats."""
        chosen: Tensor = torch.special.log_ndtr(self.intercept + self.slope * value) - torch.special.log_ndtr(self._t)
        return Normal(self.loc, self.scale, validate_args=False).log_prob(value) + chosen

    @property
    def _t(self) -> Tensor:
        return _at(self.loc, self.scale, self.intercept, self.slope)

    @property
    def _pull(self) -> Tensor:
        r"""\( b \sigma^2 / \sqrt{1 + b^2 \sigma^2} \): the covariance of x with what decides, by the sd of that."""
        pull: Tensor = self.slope * self.scale.square() / torch.sqrt(1 + (self.slope * self.scale).square())
        return pull

    @property
    def mean(self) -> Tensor:
        """E[x], shape (*batch)."""
        return self.loc + self._pull * _hazard(self._t)

    @property
    def variance(self) -> Tensor:
        """Var[x], shape (*batch)."""
        t = self._t
        hazard = _hazard(t)
        variance: Tensor = self.scale.square() - self._pull.square() * hazard * (hazard + t)
        return variance.clamp(min=0)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws without gradients, shape (*sample_shape, *batch)."""
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            uniform = torch.rand(shape, dtype=torch.float64, device=self.loc.device)
            noise = torch.randn(shape, dtype=torch.float64, device=self.loc.device)
            t = self._t.double()
            passed = (uniform * torch.special.ndtr(t)).clamp(min=torch.finfo(torch.float64).tiny)
            beyond = -torch.special.ndtri(passed)  # standard normal, above -t
            rest = self.scale.double() / torch.sqrt(1 + (self.slope * self.scale).double().square())
            x: Tensor = self.loc.double() + self._pull.double() * beyond + rest * noise
            return x.to(self.loc)


def _hazard(t: Tensor) -> Tensor:
    r"""\( \phi(t) / \Phi(t) \)."""
    hazard: Tensor = (-0.5 * t.square() - HALF_LOG_TWO_PI - torch.special.log_ndtr(t)).exp()
    return hazard


class SelfMasked(Columns):
    r"""d normal numbers and d bits that say which of them are hidden: \( p(m_j = 1 | x_j) = \Phi(a_j + b_j x_j) \).

    Where x_j is not observed (NaN) it is integrated out, which for a normal is exact:
    \( p(m_j = 1) = \Phi(t_j) \), \( t_j = (a_j + b_j \mu_j) / \sqrt{1 + b_j^2 \sigma_j^2} \). A bit that is NaN says
    nothing. `of_cells` gives the numbers and the bits given each other.

    Args:
        values: product of `Normal` numbers, event shape (d,).
        intercept: a, shape (d,).
        slope: b, shape (d,), in units of 1 / x.

    Example:
        >>> values = Product(Normal(torch.zeros(1), torch.ones(1)), 1, missing="observed-only")
        >>> x = SelfMasked(values, torch.zeros(1), torch.ones(1))
        >>> x.log_prob(torch.tensor([torch.nan, 1.0])).exp()  # of all numbers half are hidden,
        tensor(0.5000)
        >>> x.of_cells(torch.tensor([torch.nan, 1.0])).mean[0]  # the larger ones
        tensor(0.5642)
    """

    def __init__(self, values: Product, intercept: Tensor, slope: Tensor) -> None:
        normal = values.base
        assert isinstance(normal, Normal)
        self.values, self.intercept, self.slope = values, intercept, slope
        self.size = values.event_shape.numel()
        self._t = _at(normal.loc, normal.scale, intercept, slope)
        super().__init__([values, self._bits(self._t)], [range(self.size), range(self.size, 2 * self.size)])

    def _bits(self, t: Tensor) -> Product:
        logits = torch.special.log_ndtr(t) - torch.special.log_ndtr(-t)
        return Product(Bernoulli(logits=logits, validate_args=False), 1, missing=self.values.missing)  # type: ignore[arg-type]

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> "SelfMasked":
        """The same distribution, repeated over `batch_shape`."""
        return SelfMasked(self.values.expand(batch_shape), self.intercept, self.slope)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """No: bits carry no gradients."""
        return False

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws of numbers and bits together, shape (*sample_shape, *batch, 2 d)."""
        with torch.no_grad():
            x = self.values.sample(sample_shape)
            hidden = self.intercept + self.slope * x + torch.randn_like(x) > 0
            return torch.cat([x, hidden.to(x)], -1)

    def entropy(self) -> Tensor:
        """Not known in closed form.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("the entropy of SelfMasked has no closed form")

    def log_prob_per_element(self, value: Tensor) -> Tensor:
        """log p(x_j), and log p(m_j | x_j) or, where x_j was not observed, log p(m_j), in nats, shape (*batch, 2 d)."""
        x, bit = value.split(self.size, -1)
        is_hidden = torch.where(bit.isnan(), 0.0, bit)
        t = self._deciding(x)
        of_bit = torch.special.log_ndtr(torch.where(is_hidden > 0.5, t, -t))
        of_bit = torch.where(bit.isnan(), torch.zeros_like(of_bit), of_bit)
        return torch.cat([self.values.log_prob_per_element(x).expand(of_bit.shape), of_bit], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x, m) in nats, summed over what was observed, shape (*batch,)."""
        return self.log_prob_per_element(value).sum(-1)

    def _deciding(self, x: Tensor) -> Tensor:
        """a + b x where x was observed, t elsewhere."""
        seen = ~x.isnan()
        return torch.where(seen, self.intercept + self.slope * torch.where(seen, x, 0.0), self._t)

    def of_cells(self, value: Tensor) -> Columns:
        """The product of all p(x_j | m_j) and p(m_j | x_j), given what was observed of each row."""
        x, bit = value.split(self.size, -1)
        sign = torch.where(bit.isnan(), 0.0, 2 * bit - 1)
        normal = self.values.base
        assert isinstance(normal, Normal)
        chosen = SelectedNormal(normal.loc, normal.scale, sign * self.intercept, sign * self.slope)
        return Columns([Product(chosen, 1, missing=self.values.missing), self._bits(self._deciding(x))], self.places)  # type: ignore[arg-type]
