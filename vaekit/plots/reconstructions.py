"""Reconstructions beside their originals."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from vaekit.plots import access, drawers, images
from vaekit.traits import Data


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
    return drawers.drawer(view.event_shape, columns, value_range).reconstructions(view, x, n)
