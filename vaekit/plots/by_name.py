"""Pictures by name, as the command line asks for them."""

from typing import TYPE_CHECKING, Any

import torch
from matplotlib.figure import Figure

from vaekit.bounds import LatentVariableModel
from vaekit.errors import DataError
from vaekit.evaluation import bias_trend
from vaekit.models.view import View
from vaekit.plots import (
    class_by_style,
    interpolation,
    latent,
    losses,
    manifold,
    reconstructions,
    samples,
    transfer,
    traversal,
    trend,
)

if TYPE_CHECKING:
    from vaekit.data import Dataset


_LINES = 8  # rows of an interpolation
_TREND_ROWS = 256


def draw(
    kind: str,
    model: LatentVariableModel,
    *,
    data: "Dataset | None" = None,
    records: list[dict[str, float]] | None = None,
    generator: torch.Generator | None = None,
    transform_seed: int = 0,
) -> Figure:
    """One of the pictures in `KINDS`.

    Args:
        kind: its name.
        model: any latent-variable model.
        data: rows for the pictures that show some; they lend their names of columns and range of values to all others.
        records: the epochs, for `losses`.
        generator: source of the noise, for `samples` and `trend`.
        transform_seed: which bits, or dequantisation noise, the rows get.

    Returns:
        The figure.

    Raises:
        DataError: if the picture needs data and there are none.
    """
    if kind == "losses":
        return losses(records or [])
    look: dict[str, Any] = {} if data is None else {"columns": data.columns, "value_range": data.value_range}
    if kind in ("style", "transfer"):
        return _of_classes(kind, model, data, generator, transform_seed)
    if kind == "samples":
        return samples(model, generator=generator, x=data, **look)
    if kind == "manifold":
        return manifold(model, x=data, **look)
    if data is None:
        raise DataError(f"the picture {kind!r} shows rows of data; hand some over")
    view = View.of(model, data).under(transform_seed)
    if kind == "latent":
        return latent(model, view, data.shown_labels)
    if kind == "trend":
        return trend(bias_trend(model, view.some(_TREND_ROWS), generator=generator))
    if kind == "traversal":
        return traversal(model, view, **look)
    if kind == "interpolation":
        half = min(_LINES, len(data) // 2)
        return interpolation(model, view.take(slice(half)), view.take(slice(half, 2 * half)), **look)
    return reconstructions(model, view, **look)


def _of_classes(
    kind: str, model: LatentVariableModel, data: "Dataset | None", generator: torch.Generator | None, seed: int
) -> Figure:
    """The pictures of a model that is conditioned on a label."""
    look: dict[str, Any] = {}
    if data is not None:
        schema = data.context_schema
        look["value_range"] = data.value_range
        look["classes"] = None if schema is None else [str(level) for level in schema.modelled[0].levels]
    if kind == "style":
        return class_by_style(model, generator=generator, x=data, **look)
    if data is None:
        raise DataError("the picture 'transfer' shows rows of data; hand some over")
    return transfer(model, View.of(model, data).under(seed), **look)
