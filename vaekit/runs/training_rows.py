"""What a run remembers of its training rows, and what `vaekit fit` says of them before the first epoch."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError

from vaekit import columns, evaluation
from vaekit.columns import LEVELS, RowsAbout
from vaekit.conditional import Conditional, ConditionalDistribution
from vaekit.data import Dataset
from vaekit.data.kinds import IMAGES
from vaekit.errors import ArtifactError, VaekitError
from vaekit.models.view import View
from vaekit.saving import artifact
from vaekit.traits import ModelTraits, told

TRAINING_ROWS = "training_rows"
"""The key of the description in the metadata of a saved model."""
_LOG_P_ROWS, _LOG_P_DRAWS, _NAMED = 256, 16, 5


def describe_rows(dataset: Dataset) -> RowsAbout:
    """Describe the rows of a data set, in memory or on disk."""
    is_image = dataset.kind == IMAGES.name
    schema = dataset.schema
    levels = [column.name for column in schema.modelled if column.levels] if schema is not None else []
    return columns.described(
        dataset.blocks(),
        len(dataset),
        dataset.event_shape,
        names=dataset.columns,
        levels=levels,
        is_image=is_image,
    )


def with_log_p(about: RowsAbout, view: View) -> RowsAbout:
    """The description with the range of log p(x) of the fitted model on a fixed choice of 256 rows."""
    if not view.has_likelihood:
        return about
    try:
        found = evaluation.iwae(  # the bound: log_marginal would warn of so few draws
            view.model, view.some(_LOG_P_ROWS), num_samples=_LOG_P_DRAWS, generator=torch.Generator().manual_seed(0)
        )
    except VaekitError:  # a model that cannot be asked, such as one that needs a context
        return about
    values = found.value[torch.isfinite(found.value)].double().numpy()
    return replace(about, log_p=tuple(np.quantile(values, LEVELS).tolist())) if len(values) else about


def stored_rows(metadata: Mapping[str, object], folder: Path) -> RowsAbout | None:
    """The description in the metadata of a saved model; None where there is none, as in runs of older versions.

    Raises:
        ArtifactError: if it is damaged.
    """
    if metadata.get(TRAINING_ROWS) is None:
        return None
    try:
        return TypeAdapter(RowsAbout).validate_python(metadata[TRAINING_ROWS])
    except ValidationError as error:
        where = folder / artifact.CONFIG
        raise ArtifactError(f"the description of the training rows in {where} is damaged") from error


def about_density(about: RowsAbout, view: View) -> str | None:
    """Which columns a density has no bound on, what that does to log p, and what mends it.

    None where there are none, log p is no density, or the scale of p(x|z) is fixed.
    """
    decoder = told(ModelTraits, view.model).decoder
    head = decoder.head if isinstance(decoder, Conditional) else None
    if view.quantity != "density" or not isinstance(head, ConditionalDistribution) or head.scale_is_fixed:
        return None
    found = [f"{about.columns[place].name} {why}" for place, why in about.repeated.items()]
    if not found:
        return None
    more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    rise = "log p can rise there with -log(scale)"
    if head.min_scale:
        rise += f", by up to {-np.log(head.min_scale):.1f} nats a column at the floor of {head.min_scale:g}"
    return (
        f"{'; '.join(found[:_NAMED])}{more}. A density has no bound on such columns: {rise}, which says nothing of how "
        "well the model predicts. Drop them, dequantise whole numbers (add uniform noise; transform=dequantize where "
        "all columns are whole), or raise the floor (likelihood=normal:min_scale=0.1)."
    )
