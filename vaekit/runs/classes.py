"""Classes of rows, of a run whose model is conditioned on a label."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor

from vaekit import queries
from vaekit.bounds import LatentVariableModel
from vaekit.data import Dataset
from vaekit.data.cells import naming_cells
from vaekit.data.column import Cell
from vaekit.data.schema import Schema
from vaekit.errors import ConfigError
from vaekit.evaluation.results import with_article
from vaekit.models.view import View
from vaekit.queries.classify import By, Classification, fitted_temperature
from vaekit.runs.calibration import calibrated
from vaekit.runs.table import Table
from vaekit.traits import Data, ModelTraits, told

if TYPE_CHECKING:
    from vaekit.runs.fitted import Fitted

Proportions: TypeAlias = Sequence[float] | Tensor | None
"""p(y); None takes those of the fit."""

TEMPERATURE = "temperature"
"""The key of the temperature of p(y|x) in the metadata of a saved model."""
CLASS_CALIBRATION = "class_calibration"
"""The key of the calibrations of log p(x), summed over the classes."""
DRAWS = 100
_MOST_ROWS = 1_000
_FEWEST_ROWS = 50  # of those with a label, where others have none


def classes_of(schema: Schema | None) -> list[Cell]:
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


def about_classes(view: View, trained: View, marks: Sequence[int] = (), seed: int = 0) -> dict[str, object]:
    """What held-out rows say of the classes, as metadata hold it; at most 1,000 rows, a fixed choice.

    The temperature of p(y|x), unless labels are few among rows without one, and of rows that are vectors how log p(x),
    summed over the classes, is distributed: the scale on which a row is like none of them.

    Args:
        view: the held-out rows, with contexts.
        trained: rows that were trained on; see `runs.calibration.calibrated`, as for `marks`.
        seed: source of all noise.
    """
    some = view.some(_MOST_ROWS)
    assert some.context is not None
    found = classified(some.model, some, seed=seed)

    def log_p(rows: View, num_samples: int) -> Tensor:
        is_found = num_samples == DRAWS and len(rows) == len(some) and not seed
        return (found if is_found else classified(rows.model, rows, num_samples=num_samples)).log_p

    about: dict[str, object] = {CLASS_CALIBRATION: [asdict(each) for each in calibrated(some, trained, marks, log_p)]}
    codes = some.context[:, 0].cpu()
    num_known = int((~codes.isnan()).sum())
    if num_known == len(codes) or num_known >= _FEWEST_ROWS:
        about[TEMPERATURE] = fitted_temperature(found, codes)
    return about


def classified(
    model: LatentVariableModel,
    x: Data,
    *,
    seed: int = 0,
    num_samples: int = DRAWS,
    proportions: Proportions = None,
    temperature: float = 1.0,
    progress: bool = False,
    by: By = "bayes",
) -> Classification:
    """`queries.classify` under a seed."""
    return queries.classify(
        model,
        x,
        num_samples,
        proportions=proportions,
        temperature=temperature,
        generator=torch.Generator().manual_seed(seed),
        progress=progress,
        by=by,
    )


def table_of(found: Classification, classes: list[Cell], rows: Dataset, notes: tuple[str, ...]) -> Table:
    """The columns `label`, `p_<class>`, `stderr_<class>` and `log_p` behind the keys of the rows."""
    label = np.array(classes, dtype=None if not isinstance(classes[0], str) else np.str_)[found.codes.numpy()]
    columns = (*(f"{what}_{name}" for what in ("p", "stderr") for name in classes), "log_p")
    values = torch.cat([found.probabilities, found.stderr, found.log_p.unsqueeze(1)], 1).numpy()
    return Table(
        values,
        columns,
        rows.key,
        rows.row_keys,
        notes=notes,
        quantity=found.quantity,
        behind_key={"label": label},
    )


def classify_rows(
    run: "Fitted",
    rows: Dataset,
    num_samples: int,
    seed: int,
    proportions: Proportions,
    progress: bool,
    by: By | None = None,
) -> Table:
    """What `Run.classify` answers; see there."""
    classes = classes_of(run.data.context_schema)
    by = by or ("bayes" if told(ModelTraits, run.model).classifier is None else "posterior")
    temperature = run.temperature if by == "bayes" else 1.0
    with naming_cells(rows):
        found = classified(
            run.model,
            rows,
            seed=seed,
            num_samples=num_samples,
            proportions=proportions,
            temperature=temperature,
            progress=progress,
            by=by,
        )
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
