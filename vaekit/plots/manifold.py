"""What the decoder makes of the latent plane (figure 13.6b of "Neural Networks and Deep Learning")."""

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure

from vaekit.errors import ConfigError
from vaekit.plots import access, drawers, images
from vaekit.traits import Data


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
    look = drawers.drawer(decoded.shape[1:], columns, value_range)
    return look.plane(view, decoded, n, x, "E[x|z] over the latent plane")
