"""Classes of rows, of a run whose model is conditioned on a label."""

from typing import Any

import numpy as np
import torch

from vaekit import queries
from vaekit.data import Dataset
from vaekit.data.cells import naming_cells
from vaekit.data.schema import Schema
from vaekit.errors import ConfigError
from vaekit.evaluation.results import with_article
from vaekit.models.view import View
from vaekit.queries.classify import By, Classification, fitted_temperature
from vaekit.runs.table import Table
from vaekit.traits import ModelTraits, told

TEMPERATURE = "temperature"
"""The key of the temperature of p(y|x) in the metadata of a saved model."""
DRAWS = 100
_MOST_ROWS = 1_000
_FEWEST_ROWS = 50  # of those with a label, where others have none


def classes_of(schema: Schema | None) -> list[Any]:
    """The classes in their order, of the schema of contexts.

    Raises:
        ConfigError: unless the context is a single label.
    """
    if schema is None or len(schema.modelled) != 1 or not schema.modelled[0].levels:
        raise ConfigError(
            "the run is not one of a model given a single label: fit it with --preset conditional-vae and labels "
            "(--label COLUMN)"
        )
    return list(schema.modelled[0].levels)


def calibrated_temperature(view: View, seed: int = 0) -> float | None:
    """The temperature of p(y|x), fitted to at most 1,000 held-out rows with labels; None where they are few."""
    assert view.context is not None
    known = (~view.context[:, 0].isnan()).nonzero()[:, 0].cpu()
    if (0 < len(known) < len(view) and len(known) < _FEWEST_ROWS) or not len(known):
        return None
    some = (view if len(known) == len(view) else view.take(known)).some(_MOST_ROWS)
    assert some.context is not None
    found = classified(some.model, some, seed=seed)
    return fitted_temperature(found, some.context[:, 0].cpu())


def classified(model: Any, x: Any, *, seed: int = 0, num_samples: int = DRAWS, **how: Any) -> Classification:
    """`queries.classify` under a seed."""
    return queries.classify(model, x, num_samples, generator=torch.Generator().manual_seed(seed), **how)


def table_of(found: Classification, classes: list[Any], rows: Dataset, notes: tuple[str, ...]) -> Table:
    """The columns `label`, `p_<class>`, `stderr_<class>` and `log_p` behind the keys of the rows."""
    label = np.array(classes, dtype=None if not isinstance(classes[0], str) else np.str_)[found.codes.numpy()]
    columns = (*(f"{what}_{name}" for what in ("p", "stderr") for name in classes), "log_p")
    values = torch.cat([found.probabilities, found.stderr, found.log_p.unsqueeze(1)], 1).numpy()
    about: dict[str, Any] = {"behind_key": {"label": label}, "notes": notes, "quantity": found.quantity}
    return Table(values, columns, rows.key, rows.row_keys, **about)


def classify_rows(
    run: Any, rows: Dataset, num_samples: int, seed: int, proportions: Any, progress: bool, by: By | None = None
) -> Table:
    """What `Run.classify` answers; see there."""
    classes = classes_of(run.data.context_schema)
    by = by or ("bayes" if told(ModelTraits, run.model).classifier is None else "posterior")
    temperature = float(run.config.metadata.get(TEMPERATURE) or 1.0) if by == "bayes" else 1.0
    how: dict[str, Any] = {"num_samples": num_samples, "seed": seed, "proportions": proportions, "by": by}
    with naming_cells(rows):
        found = classified(run.model, rows, temperature=temperature, progress=progress, **how)
    densities = f"p(class | row) by Bayes' rule, K = {num_samples} draws of z per row and class"
    what = densities if by == "bayes" else "q(class | row) of the model's own classifier"
    notes = (
        f"p is {what}, temperature {temperature:.3g}",
        f"log_p is {with_article(found.quantity)}, in nats, of the row whatever its class: low where it is like none",
    )
    return table_of(found, classes, rows, notes)


def given_in_words(schema: Schema | None, rows: Dataset) -> str | None:
    """What log p of rows is conditioned on, of a run with a conditional model; None of others."""
    if schema is None:
        return None
    names = ", ".join(column.name for column in schema.modelled)
    if rows.contexts is not None:
        return f"log_p is log p(x | {names}), by the {names} of each row"
    return f"log_p is log p(x): the rows have no {names}, and all of its levels are summed over"
