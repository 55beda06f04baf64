"""Straight lines in latent space between pairs of rows."""

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure

from vaekit.errors import ConfigError, ShapeError
from vaekit.models.rows import as_tensor
from vaekit.plots import access, images, style, tables
from vaekit.plots.traversal import unit
from vaekit.traits import RowTraits, told

_MAX_PAIRS = 10


def interpolation(
    model: Any,
    start: Any,
    end: Any,
    num_steps: int = 10,
    *,
    columns: Sequence[str] | None = None,
    value_range: images.Range | None = None,
) -> Figure:
    """E[x|z] on straight lines between the codes of two rows.

    From E[z|start] to E[z|end]: one row, or panel, per pair.

    Args:
        model: any latent-variable model.
        start: rows where the lines begin, shape (N, *X), or a single row; at most 10 are shown.
        end: rows where they end, as many.
        num_steps: points on each line, both ends included; tables take at least 41.
        columns: names of the columns of a table; None takes those of `start`.
        value_range: what is black and white in the units of the data; None reads it off the model or the data.

    Returns:
        The figure.

    Raises:
        ConfigError: if num_steps < 2.
        ShapeError: if there are not as many starts as ends.
    """
    if num_steps < 2:
        raise ConfigError(f"num_steps is at least 2; got {num_steps}")
    first, last = access.view_of(model, start), access.view_of(model, end)
    if len(first) != len(last):
        raise ShapeError(f"start and end need as many rows; got {len(first)} and {len(last)}")
    first, last = (view.take(slice(0, _MAX_PAIRS)) for view in (first, last))
    is_image = images.is_image(first.event_shape)
    t = torch.linspace(0, 1, num_steps if is_image else max(num_steps, 41))
    codes = access.encode(first).unsqueeze(1), access.encode(last).unsqueeze(1)
    z = torch.lerp(*codes, t.to(codes[0].dtype).reshape(1, -1, 1))
    decoded = access.decode(first, access.nearest(first, z.flatten(0, 1)))
    title = "E[x|z] on straight lines between two codes"
    if is_image:
        both = torch.cat([as_tensor(view.rows) for view in (first, last)])
        known = start if told(RowTraits, start).value_range else both
        limits = value_range or images.model_range(first, known, decoded)
        ends = ["start", *[""] * (num_steps - 2), "end"]
        return images.tiles_figure(decoded, num_steps, title, limits, column_labels=ends, tile_inches=0.72)
    table = tables.as_table(decoded)
    values = (table - table.mean(0)) / unit(None, access.sample(first, 1000, False, access.fixed(None)))
    with style.style():
        return tables.lines(
            t.numpy(),
            values.reshape(len(first), len(t), -1),
            access.column_names(columns, start, table.shape[1]),
            [f"pair {i + 1}" for i in range(len(first))],
            title,
            ("place on the line (0: start, 1: end)", "standard deviations"),
        )
