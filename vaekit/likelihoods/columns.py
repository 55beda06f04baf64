"""The likelihood of a table's row: groups of columns, each with an ordinary head of its own family."""

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn

from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import Columns as ColumnsDistribution
from vaekit.errors import ConfigError, ShapeError
from vaekit.shapes import Shape


class Columns(ConditionalDistribution):
    r"""Likelihood of rows whose columns differ in kind.

    \( p(x|z) = \prod_g p_g(x_{S_g}|z) \): the columns S_g of each group have a head of their own, as a `Normal` for
    numbers, `Categorical` for levels and `RoundedLogNormal` for counts. One head serves all columns of a family, so
    that hundreds of columns cost a handful of operations.

    Use it for tables that are not all of one kind; `vaekit fit` composes it from the kinds that it finds. The value is
    the log of a density in the columns of densities and of a mass in the others. For columns of one family that family
    alone does the same.

    References:
        Nazabal et al., "Handling incomplete heterogeneous data using VAEs", 2020, https://arxiv.org/abs/1807.03653,
        section 3.1.
        Mattei & Frellsen, "MIWAE: deep generative modelling and imputation of incomplete data sets", 2019,
        https://arxiv.org/abs/1812.02633, for columns that are left out where they were not observed.

    Args:
        event_shape: D, or (D,).
        heads: a likelihood for each group, with events of shape (number of its columns,).
        places: the columns of each group; together 0..D-1, each once.

    Raises:
        ShapeError: if the places are not the columns, each once, or a head is not one of its columns.
        ConfigError: if some heads leave out what was not observed and others do not.

    Example:
        >>> import torch
        >>> from vaekit.likelihoods import Bernoulli, Normal
        >>> head = Columns(3, [Normal(2, scale=1.0), Bernoulli(1)], places=[(0, 2), (1,)])
        >>> head.param_shape
        (3,)
        >>> head(torch.zeros(1, 3)).log_prob(torch.tensor([[0.0, 1.0, 0.0]]))
        tensor([-2.5310])
    """

    def __init__(
        self, event_shape: Shape, heads: Sequence[ConditionalDistribution], places: Sequence[Sequence[int]]
    ) -> None:
        self._check(event_shape, heads, places)
        sizes = [prod(head.param_shape) for head in heads]
        super().__init__(event_shape, param_shape=(sum(sizes),))
        self.heads = nn.ModuleList(heads)
        self.places = tuple(tuple(columns) for columns in places)
        self._sizes = sizes
        floors = [head.min_scale for head in heads if head.min_scale is not None]
        self.min_scale = min(floors) if floors else None

    @staticmethod
    def _check(shape: Shape, heads: Sequence[ConditionalDistribution], places: Sequence[Sequence[int]]) -> None:
        event = (shape,) if isinstance(shape, int) else tuple(shape)
        found = sorted(column for columns in places for column in columns)
        if len(event) != 1 or found != list(range(event[0])):
            raise ShapeError(f"places name each column of an event of shape {event} once; got {places}")
        if len(heads) != len(places):
            raise ShapeError(f"each head has its columns; got {len(heads)} heads and {len(places)} groups of columns")
        for head, columns in zip(heads, places, strict=True):
            if head.event_shape != (len(columns),):
                raise ShapeError(f"{head} has events of shape {head.event_shape}, and its columns are {tuple(columns)}")
        if len({head.missing for head in heads}) > 1:
            raise ConfigError(
                "either each head leaves out what was not observed (missing='observed-only'), or none does"
            )

    @property
    def scale_is_fixed(self) -> bool:
        """Whether no head has a scale that is learned."""
        return all(head.scale_is_fixed or head.min_scale is None for head in self.parts)

    @property
    def parts(self) -> list[ConditionalDistribution]:
        """The heads, one for each group of columns."""
        return list(self.heads)  # type: ignore[arg-type]

    def forward(self, params: Tensor) -> ColumnsDistribution:
        """The raw parameters of all heads one after the other, shape (..., P), to p(x|z)."""
        parts = params.split(self._sizes, -1)
        pairs = zip(self.parts, parts, strict=True)
        return ColumnsDistribution([head(part.unflatten(-1, head.param_shape)) for head, part in pairs], self.places)
