"""What follows from the schema of a table: a head and a transform for each kind of column."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vaekit import likelihoods, transforms
from vaekit.conditional import ConditionalDistribution
from vaekit.data import Dataset
from vaekit.data.schema import Column, Schema
from vaekit.recipes.powers import powers_of
from vaekit.transforms import Transform

MIN_SCALE = 0.03
"""Floor of the scale of standardised numbers: where two columns are copies up to rounding, a density has no bound."""


@dataclass(frozen=True)
class _Family:
    """How columns of some kinds are modelled: the head of all of them, and what leads them into its support."""

    head: Callable[[Sequence[Column]], ConditionalDistribution]
    transform: Callable[[Sequence[Column]], Transform] | None = None


def _normal(columns: Sequence[Column]) -> ConditionalDistribution:
    return likelihoods.Normal(len(columns), scale="network", min_scale=MIN_SCALE, missing="observed-only")


def _mixture(columns: Sequence[Column]) -> ConditionalDistribution:
    return likelihoods.NormalMixture(len(columns), num_components=5, min_scale=MIN_SCALE, missing="observed-only")


def _spiked(columns: Sequence[Column]) -> ConditionalDistribution:
    return likelihoods.Spiked(len(columns), _normal(columns), [column.spikes for column in columns])


def _student_t(columns: Sequence[Column]) -> ConditionalDistribution:
    return likelihoods.StudentT(
        len(columns), df="per-dimension", scale="network", min_scale=MIN_SCALE, missing="observed-only"
    )


def _bits(columns: Sequence[Column]) -> ConditionalDistribution:
    return likelihoods.Bernoulli(len(columns), missing="observed-only")


def _levels(columns: Sequence[Column]) -> ConditionalDistribution:
    return likelihoods.Categorical(len(columns), [column.num_codes for column in columns], missing="observed-only")


def _grades(columns: Sequence[Column]) -> ConditionalDistribution:
    return likelihoods.Ordinal(len(columns), [column.num_codes for column in columns], missing="observed-only")


def _counts(columns: Sequence[Column]) -> ConditionalDistribution:
    return likelihoods.RoundedLogNormal(len(columns), missing="observed-only")


def _bent(places: Sequence[int], rows: Dataset) -> ConditionalDistribution:
    """The head of counts, each of the power that suits its cells."""
    powers, centres = powers_of(rows, places)
    return likelihoods.RoundedLogNormal(len(places), missing="observed-only", power=powers, centre=centres)


def _zero_inflated(columns: Sequence[Column]) -> ConditionalDistribution:
    return likelihoods.ZeroInflatedNegativeBinomial(len(columns), dispersion="network", missing="observed-only")


def _standardized(columns: Sequence[Column]) -> Transform:
    return transforms.Standardize(len(columns))


def _standardized_off_spikes(columns: Sequence[Column]) -> Transform:
    return transforms.Spiked(_standardized(columns), [column.spikes for column in columns])


def _logarithms(columns: Sequence[Column]) -> Transform:
    return transforms.Compose([transforms.Log(), transforms.Standardize(len(columns))])


def _log_odds(columns: Sequence[Column]) -> Transform:
    low, high = columns[0].low, columns[0].high
    assert low is not None
    assert high is not None
    return transforms.Compose([transforms.Scale(low, high), transforms.Logit(), transforms.Standardize(len(columns))])


_NUMBERS = _Family(_normal, _standardized)
FAMILIES: dict[str, _Family] = {
    "continuous": _NUMBERS,
    "datetime": _NUMBERS,
    "multi-modal": _Family(_mixture, _standardized),
    "spiky": _Family(_spiked, _standardized_off_spikes),
    "heavy-tailed": _Family(_student_t, _standardized),
    "positive": _Family(_normal, _logarithms),
    "bounded": _Family(_normal, _log_odds),
    "count": _Family(_counts),
    "zero-inflated count": _Family(_zero_inflated),
    "binary": _Family(_bits),
    "hole": _Family(_bits),
    "categorical": _Family(_levels),
    "ordinal": _Family(_grades),
}
"""By the kind of a column."""


def _self_masked(schema: Schema) -> dict[str, int]:
    """Places of the holes that depend on the value of their column, by the name of that."""
    return {column.of: place for place, column in enumerate(schema.modelled) if column.by_value and column.of}


def _grouped(schema: Schema, alike: Callable[[Column], object]) -> list[tuple[list[int], list[Column]]]:
    """Places and columns of each group of columns that are alike, in the order of their first columns."""
    groups: dict[object, list[int]] = {}
    for place, column in enumerate(schema.modelled):
        groups.setdefault(alike(column), []).append(place)
    return [(places, [schema.modelled[place] for place in places]) for places in groups.values()]


def columns_likelihood(schema: Schema, rows: Dataset | None = None) -> likelihoods.Columns:
    """The head of a row: one head for all columns of a family; what was not observed is left out.

    Args:
        schema: of the table.
        rows: training rows, which choose the power of each column of counts; None takes logarithms.

    Raises:
        DataError: if no column is left to model.
    """
    schema.require_columns("the table")
    holes = _self_masked(schema)
    heads: list[ConditionalDistribution] = []
    all_places: list[list[int]] = []
    for places, columns in _grouped(schema, lambda c: (FAMILIES[c.kind].head, c.by_value, c.name in holes)):
        if columns[0].by_value:
            continue  # beside their numbers
        if rows is not None and columns[0].kind == "count":
            head = _bent(places, rows)
        else:
            head = FAMILIES[columns[0].kind].head(columns)
        if columns[0].name in holes:
            places = [*places, *(holes[column.name] for column in columns)]
            head = likelihoods.SelfMasked(len(places), head)
        heads.append(head)
        all_places.append(places)
    return likelihoods.Columns(len(schema.modelled), heads, all_places)


def columns_transform(schema: Schema) -> transforms.Columns | None:
    """What leads numbers into the support of their heads, not yet fitted; None where no column needs anything.

    Numbers are centred and scaled in float64, so that seconds since 1970 keep their fractions.
    """

    def alike(column: Column) -> object:
        bounds = (column.low, column.high) if column.kind == "bounded" else None
        return FAMILIES[column.kind].transform, bounds

    groups = [(places, columns) for places, columns in _grouped(schema, alike) if FAMILIES[columns[0].kind].transform]
    if not groups:
        return None
    parts = [FAMILIES[columns[0].kind].transform(columns) for _, columns in groups]  # type: ignore[misc]
    return transforms.Columns(len(schema.modelled), parts, [places for places, _ in groups])


def place_spikes(head: likelihoods.Columns, transform: transforms.Columns | None) -> None:
    """Tell the head of columns with point masses where the fitted transform leads these."""
    if transform is None:
        return
    parts = zip(transform.transforms, transform.places, strict=True)
    led = {places: part for part, places in parts if isinstance(part, transforms.Spiked)}
    for part, places in zip(head.heads, head.places, strict=True):
        if isinstance(part, likelihoods.Spiked):
            part.place(led[places].spikes_of())
