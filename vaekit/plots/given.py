"""Pictures of a model that is conditioned on a label: the same style in each class."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from vaekit import engine
from vaekit.bounds import LatentVariableModel
from vaekit.data.kinds import IMAGES
from vaekit.errors import ConfigError, DataError
from vaekit.models.rows import as_tensor
from vaekit.models.view import View
from vaekit.plots import access, images
from vaekit.queries.classify import labels_of
from vaekit.traits import Data


def class_by_style(
    model: LatentVariableModel,
    n: int = 8,
    generator: torch.Generator | None = None,
    *,
    classes: Sequence[str] | None = None,
    x: Data = None,
    value_range: images.Range | None = None,
    width: float | None = None,
) -> Figure:
    """A grid of class by style: E[x|z, y] of one draw of z in each row, under each label in its column.

    Args:
        model: a model that is conditioned on a single label, as `ConditionalVAE` is, of images.
        n: number of styles.
        generator: source of the noise; None is the seed 0.
        classes: names of the labels; None numbers them.
        x: data, which say what is black and white where nothing else does.
        value_range: what is black and white in the units of the data; None reads it off the model or the data.
        width: of the page in inches, for a figure that is read on a narrow one.

    Returns:
        The figure.

    Raises:
        ConfigError: if the model is not conditioned on a single label, or its rows are no images.
    """
    decoded = under_each(model, styles(model, n, access.fixed(generator)))
    return _grid(model, decoded, "One style in each row, one class in each column", classes, x, value_range, width)


def transfer(
    model: LatentVariableModel,
    x: Data,
    n: int = 8,
    *,
    classes: Sequence[str] | None = None,
    value_range: images.Range | None = None,
    width: float | None = None,
) -> Figure:
    """Style transfer: rows of data, and E[x|z, y] at the z inferred from each, under each label in its column.

    Args:
        model: see `class_by_style`.
        x: images with their labels: a data set, or a view with contexts.
        n: how many of them.
        classes: see `class_by_style`, as for `value_range` and `width`.

    Returns:
        The figure.

    Raises:
        ConfigError: see `class_by_style`.
        DataError: if the images come without labels, under which z is inferred.
    """
    labels_of(model)
    view = View.of(model, x)
    if view.context is None:
        raise DataError("z is inferred from an image under its label, and these have none; hand over labelled ones")
    view = view.take(slice(min(n, len(view))))
    codes = view.encode().detach().cpu()
    each = codes.unsqueeze(0).expand(labels_of(model), *codes.shape)
    decoded = torch.cat([as_tensor(view.rows).to(each.dtype).unsqueeze(0).cpu(), under_each(model, each)])
    title = "Given image, and its style in each class"
    return _grid(model, decoded, title, classes, x, value_range, width, first="given")


def styles(model: LatentVariableModel, n: int, generator: torch.Generator) -> Tensor:
    """n draws of z under each label, from the same noise: shape (L, n, *Z)."""
    if n < 1:
        raise ConfigError(f"n is at least 1; got {n}")
    found, num_labels, seed = [], labels_of(model), engine.draw_seed(generator)
    for label in range(num_labels):
        with torch.no_grad(), engine.evaluating(model), engine.seeded(seed):
            prior = model.given(torch.full((n, 1), float(label))).prior()  # type: ignore[attr-defined]
            found.append(prior.sample(torch.Size() if prior.batch_shape else torch.Size((n,))).cpu())
    return torch.stack(found)


def under_each(model: LatentVariableModel, z: Tensor) -> Tensor:
    """E[x|z, y] of z of shape (L, n, *Z), the first under the first label, and so on: shape (L, n, *X)."""
    found = []
    for label, codes in enumerate(z):
        alike = model.given(torch.tensor([float(label)]))  # type: ignore[attr-defined]
        view = View.of(alike, requires=("prior", "likelihood"))
        found.append(view.decode(codes.to(view.dtype)).detach().cpu())
    return torch.stack(found)


def _grid(
    model: LatentVariableModel,
    decoded: Tensor,
    title: str,
    classes: Sequence[str] | None,
    x: Data,
    value_range: images.Range | None,
    width: float | None,
    first: str | None = None,
) -> Figure:
    """Tiles of shape (columns, rows, *X), the columns named by the classes."""
    columns, rows = decoded.shape[:2]
    if not IMAGES.shows(decoded.shape[2:]):
        raise ConfigError(
            f"this picture is a grid of images, and rows have shape {tuple(decoded.shape[2:])}: draw some of a class "
            "instead, vaekit sample RUN --given label=CLASS."
        )
    names = [str(name) for name in classes or range(labels_of(model))]
    labels = names if first is None else [first, *names]
    tiles = decoded.transpose(0, 1).reshape(rows * columns, *decoded.shape[2:])
    known = value_range or images.model_range(View.of(model, requires=("prior", "likelihood")), x, decoded)
    return images.tiles_figure(tiles, columns, title, known, column_labels=labels, page=width)
