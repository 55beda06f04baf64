"""Samples from the model."""

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure

from vaekit.plots import access, drawers, images
from vaekit.traits import Data


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
    look = drawers.drawer(view.event_shape, columns, value_range)
    drawn = access.sample(view, look.num_samples(n), mean, access.fixed(generator))
    title = "E[x|z] at draws of z from the prior" if mean else "Samples of x from the model"
    return look.samples(view, drawn, x, title)
