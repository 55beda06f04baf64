"""What the decoder makes of the latent plane (figure 13.6b of "Neural Networks and Deep Learning")."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from vaekit.errors import ConfigError
from vaekit.models.rows import as_tensor
from vaekit.plots import access, images, style, tables
from vaekit.traits import Data, RowTraits, told


def grid(n: int) -> torch.Tensor:
    r"""n x n points of the latent plane that split the standard normal into cells of equal probability.

    \( z = \Phi^{-1}((i + 1/2) / n) \) in either direction; \( z_2 \) grows upwards and \( z_1 \) to the
    right, as in a coordinate system.

    Args:
        n: points in each direction.

    Returns:
        Shape (n, n, 2), in float64: `grid(n)[i, j]` belongs to row i from the top and column j from the left.
    """
    if n < 1:
        raise ConfigError(f"n is at least 1; got {n}")
    z = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    z2, z1 = torch.meshgrid(z.flip(0), z, indexing="ij")
    return torch.stack([z1, z2], dim=-1)


def manifold(
    model: Any,
    n: int = 20,
    *,
    x: Data = None,
    columns: Sequence[str] | None = None,
    value_range: images.Range | None = None,
) -> Figure:
    """E[x|z] over a two-dimensional latent space.

    The steps are uniform in the probability of a standard normal prior. Images become n x n tiles with z1 to the right
    and z2 upwards; tables one map per column.

    Args:
        model: a latent-variable model with two latent dimensions.
        n: points in each direction.
        x: data, for the range of grey values and the names of columns.
        columns: names of the columns of a table.
        value_range: what is black and white in the units of the data; None reads it off the model or the data.

    Returns:
        The figure.

    Raises:
        ConfigError: if z does not have two dimensions, or is confined (to bits, a sphere, a ball).
    """
    view = access.view_of(model)
    dims = access.num_latents(view)
    if dims != 2:
        raise ConfigError(
            f"a manifold shows a latent space of 2 dimensions, and this model has {dims}. Fit one with latent_dim=2, "
            "or draw a traversal, which walks along one dimension at a time."
        )
    access.check_unconfined(view, "manifold")
    z = grid(n)
    decoded = access.decode(view, z.reshape(-1, 2).to(torch.get_default_dtype()))
    if not images.is_image(decoded.shape[1:]):
        names = access.column_names(columns, x, int(decoded[0].numel()))
        return _maps(tables.as_table(decoded).reshape(n, n, -1), names)
    limits = value_range or images.model_range(view, None if x is None else _kept(x), decoded)
    # Tiles of few pixels are filled to their edges and would run into each other.
    gap = 2 if min(decoded.shape[-2:]) < 16 else 0
    made = images.tiles_figure(decoded, n, "E[x|z] over the latent plane", limits, tile_inches=0.4, gap=gap)
    with style.style():
        _label_axes(made.axes[0])
    return made


def _kept(x: Data) -> Any:
    return x if told(RowTraits, x).value_range else as_tensor(x)


def _label_axes(axes: Any) -> None:
    """A few values of z at their places: these are even in probability, not in z."""
    places, labels = _ticks()
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    axes.tick_params(length=3, labeltop=False, labelbottom=True, bottom=True, left=True)
    axes.set_xticks([left + place * (right - left) for place in places], labels)
    axes.set_yticks([bottom + place * (top - bottom) for place in places], labels)
    axes.set_xlabel("z1")
    axes.set_ylabel("z2")


def _ticks() -> tuple[list[float], list[str]]:
    """Places in (0, 1), and the values of z there."""
    values = (-1.5, -0.5, 0.0, 0.5, 1.5)
    places = torch.special.ndtr(torch.tensor(values, dtype=torch.float64)).tolist()
    return places, [f"{value:g}".replace("-", "−") for value in values]


def _maps(values: np.ndarray, names: Sequence[str]) -> Figure:
    """One map per column: probability to the right and upwards, E[x|z] as colour."""
    num_columns = values.shape[-1]
    places, labels = _ticks()
    with style.style():
        made, axes = style.panels(min(num_columns, tables.MAX_COLUMNS), height=2.6)
        for i, panel in enumerate(axes):
            image = panel.imshow(values[:, :, i], extent=(0, 1, 0, 1), cmap="viridis", interpolation="nearest")
            panel.set_xticks(places, labels)
            panel.set_yticks(places, labels)
            panel.set_title(style.shortened(names[i]))
            bar = made.colorbar(image, ax=panel, shrink=0.85)
            bar.outline.set_visible(False)
            bar.ax.locator_params(nbins=4)
            style.label_outside(panel, "z1", "z2")
        more = f" (the first {len(axes)} of {num_columns} columns)" if num_columns > len(axes) else ""
        made.suptitle("E[x|z] over the latent plane" + more)
    return made
