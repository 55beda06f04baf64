"""Samples from the model."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure

from vaekit.errors import ShapeError
from vaekit.models.rows import as_tensor
from vaekit.plots import access, images, style, tables
from vaekit.traits import Data

_TABLE_SAMPLES = 2000


def samples(
    model: Any,
    n: int = 64,
    mean: bool = False,
    generator: torch.Generator | None = None,
    *,
    x: Data = None,
    columns: Sequence[str] | None = None,
    value_range: images.Range | None = None,
) -> Figure:
    """Draws of x from the model, or E[x|z] at draws of z.

    A grid of images, or histograms of columns.

    Args:
        model: any latent-variable model.
        n: number of images; histograms take at least 2,000 samples.
        mean: show E[x|z] instead of draws of x.
        generator: source of the noise; None is the seed 0.
        x: data, shape (N, *X): drawn behind the histograms; gives the range of grey values and the names of columns.
        columns: names of the columns of a table.
        value_range: what is black and white in the units of the data; None reads it off the model or the data.

    Returns:
        The figure.
    """
    view = access.view_of(model)
    what = "E[x|z] at draws of z from the prior" if mean else "Samples of x from the model"
    if images.is_image(view.event_shape):
        drawn = access.sample(view, n, mean, access.fixed(generator))
        limits = value_range or images.model_range(view, x, drawn)
        ncols = min(16, max(math.ceil(math.sqrt(n)), min(n, 4)))
        return images.tiles_figure(drawn, ncols, what, limits)
    drawn = access.sample(view, max(n, _TABLE_SAMPLES), mean, access.fixed(generator))
    table = tables.as_table(drawn)
    data = None if x is None else tables.as_table(as_tensor(x))
    if data is not None and data.shape[1] != table.shape[1]:
        raise ShapeError(f"x has {data.shape[1]} columns, the model {table.shape[1]}")
    with style.style():
        names = access.column_names(columns, x, table.shape[1])
        return tables.histograms(table, data, names, what)
