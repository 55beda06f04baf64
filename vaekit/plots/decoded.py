"""Pictures of what a model decodes: samples, reconstructions, and walks through the latent space."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure

from vaekit.bounds import LatentVariableModel
from vaekit.errors import ConfigError, ShapeError
from vaekit.models.rows import as_tensor
from vaekit.models.view import View
from vaekit.plots import access, drawers, images
from vaekit.traits import Data, ModelTraits, RowTraits, told


def samples(
    model: LatentVariableModel,
    n: int = 64,
    mean: bool = False,
    generator: torch.Generator | None = None,
    *,
    x: Data = None,
    columns: Sequence[str] | None = None,
    value_range: images.Range | None = None,
    width: float | None = None,
) -> Figure:
    """Draws of x from the model, or E[x|z] at draws of z.

    A grid of images, or histograms of columns.

    Args:
        model: any latent-variable model.
        n: number of images; histograms take at least 2,000 samples.
        mean: show E[x|z] instead of draws of x.
        generator: source of the noise; None is the seed 0.
        x: data, shape (N, *X): drawn behind the histograms; gives the range of grey values, the names of columns, and
            the contexts of a model that is given more than a label.
        columns: names of the columns of a table.
        value_range: what is black and white in the units of the data; None reads it off the model or the data.
        width: of the page in inches, for a figure that is read on a narrow one; None takes what the figure needs.

    Returns:
        The figure.
    """
    view = access.view_of(model)
    look = drawers.drawer(view.event_shape, columns, value_range, width)
    num = look.num_samples(n)
    drawn = access.sample(access.under_some(view, x, num), num, mean, access.fixed(generator))
    title = "E[x|z] at draws of z from the prior" if mean else "Samples of x from the model"
    return look.samples(view, drawn, x.rows if isinstance(x, View) else x, title)


def reconstructions(
    model: LatentVariableModel,
    x: Data,
    n: int = 10,
    *,
    columns: Sequence[str] | None = None,
    value_range: images.Range | None = None,
    width: float | None = None,
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
        width: of the page in inches, for a figure that is read on a narrow one; None takes what the figure needs.

    Returns:
        The figure.
    """
    view = access.view_of(model, x)
    return drawers.drawer(view.event_shape, columns, value_range, width).reconstructions(view, x, n)


_MAX_PAIRS = 10


def interpolation(
    model: LatentVariableModel,
    start: Data,
    end: Data,
    num_steps: int = 10,
    *,
    columns: Sequence[str] | None = None,
    value_range: images.Range | None = None,
    width: float | None = None,
) -> Figure:
    """E[x|z] on straight lines between the codes of two rows.

    From E[z|start] to E[z|end]: one row, or panel, per pair; under the context of the start, if there is any.

    Args:
        model: any latent-variable model.
        start: rows where the lines begin, shape (N, *X), or a single row; at most 10 are shown.
        end: rows where they end, as many.
        num_steps: points on each line, both ends included; tables take at least 41.
        columns: names of the columns of a table; None takes those of `start`.
        value_range: what is black and white in the units of the data; None reads it off the model or the data.
        width: of the page in inches, for a figure that is read on a narrow one; None takes what the figure needs.

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
    look = drawers.drawer(first.event_shape, columns, value_range, width)
    t = torch.linspace(0, 1, look.num_steps(num_steps))
    codes = access.encode(first).unsqueeze(1), access.encode(last).unsqueeze(1)
    z = torch.lerp(*codes, t.to(codes[0].dtype).reshape(1, -1, 1))
    knows_range = told(RowTraits, start).value_range is not None
    walk = drawers.Walk(
        access.decode(access.repeated(first, z.shape[1]), access.nearest(first, z.flatten(0, 1))),
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


_MAX_DIMS = 10
_REACH = 3.0


def traversal(
    model: LatentVariableModel,
    x: Data = None,
    n_steps: int = 9,
    dims: Sequence[int] | None = None,
    *,
    columns: Sequence[str] | None = None,
    value_range: images.Range | None = None,
    width: float | None = None,
) -> Figure:
    """E[x|z] along one latent dimension at a time.

    It goes from -3 to 3 while the others stay at a base point: one row, or panel, per latent. A model given contexts
    decodes under that of the first row.

    Args:
        model: any latent-variable model.
        x: data, shape (N, *X): the latents whose E[z|x] varies most over it come first, and the base point is the mean
            of E[z|x]; without it they come in their own order, around the mean of the prior.
        n_steps: steps from -3 to 3; tables take at least 41.
        dims: latents to walk along, counted from 0; None takes up to 10.
        columns: names of the columns of a table.
        value_range: what is black and white in the units of the data; None reads it off the model or the data.
        width: of the page in inches, for a figure that is read on a narrow one; None takes what the figure needs.

    Returns:
        The figure.

    Raises:
        ConfigError: if a latent does not exist, or is confined (to bits, a sphere, a ball), or n_steps < 2.
    """
    if n_steps < 2:
        raise ConfigError(f"n_steps is at least 2; got {n_steps}")
    view = access.view_of(model, x)
    codes = None if x is None else access.encode(view)
    view = access.under_one(view)
    access.check_unconfined(view, "traversal")
    base = access.base_point(view) if codes is None else codes.mean(0)
    chosen = _dims(access.num_latents(view), dims, codes)
    look = drawers.drawer(view.event_shape, columns, value_range, width)
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
    model: LatentVariableModel,
    n: int = 20,
    *,
    x: Data = None,
    columns: Sequence[str] | None = None,
    value_range: images.Range | None = None,
    width: float | None = None,
) -> Figure:
    """E[x|z] over a two-dimensional latent space.

    The steps are uniform in the probability of a standard normal prior. Images become n x n tiles with z1 to the right
    and z2 upwards; tables one map per column.

    Args:
        model: a latent-variable model with two latent dimensions.
        n: points in each direction.
        x: data, for the range of grey values and the names of columns; of a model given contexts that of its first row.
        columns: names of the columns of a table.
        value_range: what is black and white in the units of the data; None reads it off the model or the data.
        width: of the page in inches, for a figure that is read on a narrow one; None takes what the figure needs.

    Returns:
        The figure.

    Raises:
        ConfigError: if z does not have two dimensions, or is confined (to bits, a sphere, a ball).
    """
    conditioned = x is not None and told(ModelTraits, model).check_context is not None
    view = access.under_one(access.view_of(model, x)) if conditioned else access.view_of(model)
    dims = access.num_latents(view)
    if dims != 2:
        raise ConfigError(
            f"a manifold shows a latent space of 2 dimensions, and this model has {dims}. Fit one with latent_dim=2, "
            "or draw a traversal, which walks along one dimension at a time."
        )
    access.check_unconfined(view, "manifold")
    z = grid(n)
    decoded = access.decode(view, z.reshape(-1, 2).to(torch.get_default_dtype()))
    look = drawers.drawer(decoded.shape[1:], columns, value_range, width)
    return look.plane(view, decoded, n, x, "E[x|z] over the latent plane")
