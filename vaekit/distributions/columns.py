"""A product over the columns of a row: groups of columns, each with a distribution of its own family."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Size, Tensor
from torch.distributions import constraints

from vaekit.distributions.base import Base, hooks
from vaekit.distributions.levels import OrdinalCategorical
from vaekit.distributions.product import Product
from vaekit.distributions.support import Columnwise, Levels, elements, has_levels, num_values


class RaggedCategorical(OrdinalCategorical):
    """Categorical variables side by side that have different numbers of levels.

    Args:
        logits: unnormalised log-probabilities, shape (..., D, C) with C the largest number of levels, minus infinity
            for the levels that a variable does not have.
        sizes: number of levels of each of the D variables.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[0.0, 0.0, -torch.inf], [0.0, 0.0, 0.0]])
        >>> RaggedCategorical(logits, (2, 3)).log_prob(torch.tensor([1.0, 2.0])).exp()
        tensor([0.5000, 0.3333])
    """

    def __init__(self, logits: Tensor, sizes: Sequence[int], validate_args: bool | None = None) -> None:
        self.sizes = tuple(sizes)
        super().__init__(logits, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> "RaggedCategorical":
        """The same distribution, repeated over `batch_shape`."""
        logits = self.logits.expand(torch.Size(batch_shape) + self.logits.shape[-1:])
        return RaggedCategorical(logits, self.sizes, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """The integers 0..C_d - 1 for each variable d."""
        return Levels(self.sizes)

    @property
    def mode(self) -> Tensor:
        """The most probable level, shape (*batch)."""
        return self.logits.argmax(-1).to(self.logits.dtype)


class Columns(Base):
    r"""\( p(x) = \prod_g p_g(x_{S_g}) \): independent groups S_g of the columns of a row, each with its own family.

    Where some groups have densities and others masses, `log_prob` is the log of a density with respect to lengths in
    the former and counts in the latter; `quantity` then is "density and mass", and `log_prob_per_element` tells them
    apart.

    Args:
        parts: a distribution for each group, of the batch shape of all and events of shape (number of its columns,).
        places: the columns of each group; together 0..D-1, each once.

    Example:
        >>> import torch
        >>> from torch.distributions import Bernoulli, Normal
        >>> numbers = Product(Normal(torch.zeros(2), torch.ones(2)), 1)
        >>> bit = Product(Bernoulli(logits=torch.zeros(1)), 1)
        >>> row = Columns([numbers, bit], [(0, 2), (1,)])
        >>> row.log_prob_per_element(torch.tensor([0.0, 1.0, 0.0])), row.quantity
        (tensor([-0.9189, -0.6931, -0.9189]), 'density and mass')
    """

    def __init__(self, parts: "Sequence[Product | Columns]", places: Sequence[Sequence[int]]) -> None:
        self.parts, self.places = list(parts), [tuple(columns) for columns in places]
        order = [column for columns in self.places for column in columns]
        self._back = sorted(range(len(order)), key=order.__getitem__)
        super().__init__(parts[0].batch_shape, Size((len(order),)), validate_args=False)

    def __repr__(self) -> str:
        families = ", ".join(
            f"{len(p)} x {type(elements(d)).__name__}" for p, d in zip(self.places, self.parts, strict=True)
        )
        return f"Columns({families}, batch_shape={tuple(self.batch_shape)})"

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> "Columns":
        """The same distribution, repeated over `batch_shape`."""
        return Columns([part.expand(batch_shape) for part in self.parts], self.places)

    @property
    def missing(self) -> str:  # type: ignore[override]
        """What NaN means: "observed-only" where each group leaves out what was not observed, else "error"."""
        return "observed-only" if all(part.missing == "observed-only" for part in self.parts) else "error"

    @property
    def quantity(self) -> str:
        """What log_prob is: "density", "mass", "no density", or "density and mass"."""
        found = {part.quantity for part in self.parts}
        return "no density" if "no density" in found else found.pop() if len(found) == 1 else "density and mass"

    @property
    def is_mass(self) -> Tensor:
        """Which columns have a mass and no density, shape (D,), bool."""
        flags = [
            part.is_mass if isinstance(part, Columns) else torch.full((len(columns),), part.quantity == "mass")
            for part, columns in zip(self.parts, self.places, strict=True)
        ]
        return torch.cat(flags)[self._back]

    @property
    def num_values(self) -> int:  # type: ignore[override]
        """How many numbers the groups hold for one event."""
        return sum(num_values(part) for part in self.parts)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether draws of all groups carry gradients to the parameters."""
        return all(part.has_rsample for part in self.parts)

    @property
    def has_exact_mean(self) -> bool:  # type: ignore[override]
        """Whether `mean` is E[x] for each group."""
        return all(hooks(elements(part)).has_exact_mean for part in self.parts)

    @property
    def support(self) -> constraints.Constraint:
        """What each group takes."""
        return constraints.independent(Columnwise(self.parts, self.places), 1)

    @property
    def mean(self) -> Tensor:
        """E[x], shape (*batch, D); of levels, of their numbers."""
        return self._joined(lambda part: part.mean)

    @property
    def centre(self) -> Tensor:
        """E[x], but of bits and levels the most probable, shape (*batch, D): a point that could be a row."""
        return self._joined(_centre)

    @property
    def mode(self) -> Tensor:
        """The most probable event, shape (*batch, D)."""
        return self._joined(lambda part: part.mode)

    @property
    def variance(self) -> Tensor:
        """Var[x] per column, shape (*batch, D)."""
        return self._joined(lambda part: part.variance)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws without gradients, shape (*sample_shape, *batch, D)."""
        return self._joined(lambda part: part.sample(sample_shape))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws by reparameterisation, shape (*sample_shape, *batch, D), where each group has them."""
        return self._joined(lambda part: part.rsample(sample_shape))

    def entropy(self) -> Tensor:
        """Entropy in nats, shape (*batch,)."""
        return cast(Tensor, sum(part.entropy() for part in self.parts))

    def log_prob_per_element(self, value: Tensor) -> Tensor:
        """log p_d(x_d) in nats, shape (*batch, D); 0 where x_d was not observed."""
        found = [part.log_prob_per_element(value[..., c]) for part, c in zip(self.parts, self.places, strict=True)]
        return torch.cat(found, -1)[..., self._back]

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats, summed over the (observed) columns, shape (*batch,)."""
        found = [part.log_prob(value[..., c]) for part, c in zip(self.parts, self.places, strict=True)]
        return cast(Tensor, sum(found))

    def of_cells(self, value: Tensor) -> "Columns":
        """The product over cells, given what was observed of each row."""
        pairs = zip(self.parts, self.places, strict=True)
        return Columns([cast("Product | Columns", part.of_cells(value[..., c])) for part, c in pairs], self.places)

    def _joined(self, ask: "Callable[[Product | Columns], Tensor]") -> Tensor:
        return torch.cat([ask(part) for part in self.parts], -1)[..., self._back]


def _centre(part: Product | Columns) -> Tensor:
    if isinstance(part, Columns):
        return part.centre
    return part.mode if has_levels(part.base) else part.mean


def ragged_places(sizes: Sequence[int]) -> Tensor:
    """Where the parameter of each level stands in a row of all of them, shape (D, C); behind the last where none."""
    places = torch.full((len(sizes), max(sizes)), sum(sizes))
    start = 0
    for d, size in enumerate(sizes):
        places[d, :size] = torch.arange(start, start + size)
        start += size
    return places


def ragged(params: Tensor, places: Tensor) -> Tensor:
    """Parameters of shape (..., P) at their levels, shape (..., D, C), minus infinity where there is no such level."""
    none = params.new_full((*params.shape[:-1], 1), -torch.inf)
    return torch.cat([params, none], -1)[..., places]
