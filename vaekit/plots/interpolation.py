"""Straight lines in latent space between pairs of rows."""

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure

from vaekit.errors import ConfigError, ShapeError
from vaekit.models.rows import as_tensor
from vaekit.plots import access, drawers, images
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
    look = drawers.drawer(first.event_shape, columns, value_range)
    t = torch.linspace(0, 1, look.num_steps(num_steps))
    codes = access.encode(first).unsqueeze(1), access.encode(last).unsqueeze(1)
    z = torch.lerp(*codes, t.to(codes[0].dtype).reshape(1, -1, 1))
    knows_range = told(RowTraits, start).value_range is not None
    walk = drawers.Walk(
        access.decode(first, access.nearest(first, z.flatten(0, 1))),
        t,
        "E[x|z] on straight lines between two codes",
        "place on the line (0: start, 1: end)",
        panels=[f"pair {i + 1}" for i in range(len(first))],
        steps=["start", *[""] * (num_steps - 2), "end"],
        name_rows=False,
        x=start,
        known=start if knows_range else torch.cat([as_tensor(view.rows) for view in (first, last)]),
        unit=None,
    )
    return look.walk(first, walk)
