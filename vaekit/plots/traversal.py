"""Walks along one latent dimension at a time."""

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure

from vaekit.errors import ConfigError
from vaekit.models.rows import as_tensor
from vaekit.plots import access, drawers, images
from vaekit.traits import Data

_MAX_DIMS = 10
_REACH = 3.0


def traversal(
    model: Any,
    x: Data = None,
    n_steps: int = 9,
    dims: Sequence[int] | None = None,
    *,
    columns: Sequence[str] | None = None,
    value_range: images.Range | None = None,
) -> Figure:
    """E[x|z] along one latent dimension at a time.

    It goes from -3 to 3 while the others stay at a base point: one row, or panel, per latent.

    Args:
        model: any latent-variable model.
        x: data, shape (N, *X): the latents whose E[z|x] varies most over it come first, and the base point is the mean
            of E[z|x]; without it they come in their own order, around the mean of the prior.
        n_steps: steps from -3 to 3; tables take at least 41.
        dims: latents to walk along, counted from 0; None takes up to 10.
        columns: names of the columns of a table.
        value_range: what is black and white in the units of the data; None reads it off the model or the data.

    Returns:
        The figure.

    Raises:
        ConfigError: if a latent does not exist, or is confined (to bits, a sphere, a ball), or n_steps < 2.
    """
    if n_steps < 2:
        raise ConfigError(f"n_steps is at least 2; got {n_steps}")
    view = access.view_of(model, x)
    access.check_unconfined(view, "traversal")
    codes = None if x is None else access.encode(view)
    base = access.base_point(view) if codes is None else codes.mean(0)
    chosen = _dims(access.num_latents(view), dims, codes)
    look = drawers.drawer(view.event_shape, columns, value_range)
    steps = torch.linspace(-_REACH, _REACH, look.num_steps(n_steps), dtype=base.dtype)
    z = base.repeat(len(chosen), len(steps), 1)
    for row, dim in enumerate(chosen):
        z[row, :, dim] = steps
    walk = drawers.Walk(
        access.decode(view, z.flatten(0, 1)),
        steps,
        "E[x|z] along one latent at a time",
        "value of the latent",
        panels=[f"z{dim + 1}" for dim in chosen],
        steps=_step_labels(steps),
        name_rows=True,
        x=x,
        known=x,
        unit=None if x is None else as_tensor(view.rows),
    )
    return look.walk(view, walk)


def _step_labels(steps: torch.Tensor) -> list[str]:
    """Every label where there is room, else about every third, the ends and the middle among them."""
    labels = [f"{step:.3g}".replace("-", "−") for step in steps.tolist()]
    return labels if len(labels) <= 13 else [s if i % (len(labels) // 6) == 0 else "" for i, s in enumerate(labels)]


def _dims(num_latents: int, dims: Sequence[int] | None, codes: torch.Tensor | None) -> list[int]:
    if dims is not None:
        wrong = [dim for dim in dims if not 0 <= dim < num_latents]
        if wrong or not dims:
            raise ConfigError(f"dims counts latents from 0 to {num_latents - 1}; got {list(dims)}")
        return list(dims)
    if codes is None or len(codes) < 2:
        return list(range(num_latents))[:_MAX_DIMS]
    return torch.argsort(codes.double().var(0), descending=True, stable=True)[:_MAX_DIMS].tolist()
