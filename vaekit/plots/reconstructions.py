"""Reconstructions beside their originals."""

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure

from vaekit.models.rows import as_tensor
from vaekit.models.view import View
from vaekit.plots import access, images, style, tables
from vaekit.traits import Data

_MAX_POINTS = 1000


def reconstructions(
    model: Any,
    x: Data,
    n: int = 10,
    *,
    columns: Sequence[str] | None = None,
    value_range: images.Range | None = None,
) -> Figure:
    """Originals, and what the model makes of their codes.

    E[x'|z] at z = E[z|x] under the originals: images in rows, or one scatter per column.

    Where the transform binarises, a row between them shows the bits that the model sees.

    Args:
        model: any latent-variable model.
        x: data in their own units, shape (N, *X).
        n: number of images, the first of x; tables show up to 1,000 rows.
        columns: names of the columns of a table; None takes those of x.
        value_range: what is black and white in the units of the data; None reads it off the model or the data.

    Returns:
        The figure.
    """
    view = access.view_of(model, x)
    if images.is_image(view.event_shape):
        return _images(view.take(slice(0, n)), value_range or images.model_range(view, x))
    view = view.take(slice(0, _MAX_POINTS))
    original, other = tables.as_table(as_tensor(view.rows)), tables.as_table(view.reconstruct())
    with style.style():
        names = access.column_names(columns, x, original.shape[1])
        return tables.scatter(original, other, names, f"Reconstructions of {len(view)} rows")


def _images(view: View, limits: images.Range) -> Figure:
    bits = access.seen_by_model(view)
    parts = [("original", as_tensor(view.rows)), ("seen by the model", bits), ("reconstruction", view.reconstruct())]
    shown = [(label, part.double().cpu()) for label, part in parts if part is not None]
    tiles = torch.cat([part for _, part in shown])
    return images.tiles_figure(
        tiles, len(view), "Reconstructions", limits, row_labels=[label for label, _ in shown], tile_inches=0.72
    )
