"""How rows of each kind are drawn: images as tiles, all others column by column."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vaekit.data import kinds
from vaekit.errors import ShapeError
from vaekit.models.rows import as_tensor
from vaekit.models.view import View
from vaekit.plots import access, images, style, tables
from vaekit.traits import Data

_MAX_POINTS = 1000
_NARROW_TILES = 6
_GROUP = 10  # tiles of a group
_PLANE_TICKS = (-1.5, -0.5, 0.0, 0.5, 1.5)


@dataclass(frozen=True)
class Walk:
    """Lines through the latent space, and the words beside them.

    Attributes:
        decoded: E[x|z] along L lines of S points each, shape (L S, *X).
        position: place of each point on its line, shape (S,).
        title: of the figure.
        axis: what the position is.
        panels: name of each line where it has a panel of its own, and beside a row of tiles if `name_rows`.
        steps: labels above the tiles.
        name_rows: whether rows of tiles have names.
        x: rows that know the names of columns, or None.
        known: rows that know what is black and white, or None.
        unit: rows whose standard deviations are the unit of the columns; None takes samples.
    """

    decoded: Tensor
    position: Tensor
    title: str
    axis: str
    panels: Sequence[str]
    steps: Sequence[str]
    name_rows: bool
    x: Data
    known: Data
    unit: Tensor | None


class Drawer(ABC):
    """Draws what a model makes of rows.

    Args:
        columns: names of the columns of a table; None takes those of the rows.
        value_range: what is black and white in the units of the data; None reads it off the model or the rows.
        width: of a narrow page in inches; None takes what a figure needs.

    Attributes:
        about_samples: what a reader who cannot see it should know of a picture of samples.
        about_reconstructions: the same of reconstructions beside their originals.
        num_pairs: how many lines between rows a page shows.
        shows_groups: whether `groups` draws anything.
    """

    about_samples: str
    about_reconstructions: str
    num_pairs: int
    shows_groups = False

    def __init__(
        self,
        columns: Sequence[str] | None = None,
        value_range: images.Range | None = None,
        width: float | None = None,
    ) -> None:
        self.columns, self.value_range, self.width = columns, value_range, width

    def limits(self, view: View, known: Data = None, decoded: Data = None) -> images.Range | None:
        """What is black and white, where that matters."""
        return self.value_range

    def about_pixels(self, view: View) -> str:
        """A sentence, behind a space, on how pixels are enlarged; empty where nothing has to be said."""
        return ""

    def num_steps(self, n: int) -> int:
        """How many points of a line are decoded where n are asked for."""
        return n

    def num_samples(self, n: int) -> int:
        """How many samples are drawn where n are asked for."""
        return n

    @abstractmethod
    def samples(self, view: View, drawn: Tensor, x: Data, title: str) -> Figure:
        """Draws, shape (n, *X); x are data or None."""

    @abstractmethod
    def reconstructions(self, view: View, x: Data, n: int) -> Figure:
        """The rows of the view and what the model makes of their codes; x are the same rows as they came."""

    def groups(self, view: View, rows: Sequence[Tensor], names: Sequence[str]) -> Figure:
        """A few rows of each of several groups, shape (n, *X) each, n >= 1.

        Raises:
            NotImplementedError: where `shows_groups` is False.
        """
        raise NotImplementedError("rows of this kind are not looked at one by one")

    @abstractmethod
    def walk(self, view: View, walk: Walk) -> Figure:
        """Means along lines."""

    @abstractmethod
    def plane(self, view: View, decoded: Tensor, n: int, x: Data, title: str) -> Figure:
        """Means over n x n points of the latent plane, shape (n n, *X), from the top left, row by row."""


class Tiles(Drawer):
    """Each row is a picture."""

    about_samples = "Grid of images"
    about_reconstructions = "Rows of images: originals above, reconstructions below."
    num_pairs = 5
    shows_groups = True

    def limits(self, view: View, known: Data = None, decoded: Data = None) -> images.Range:
        """What was handed in, or what model and rows say."""
        return self.value_range or images.model_range(view, known, decoded)

    def about_pixels(self, view: View) -> str:
        """Which images are shown smoothly."""
        height, width = view.event_shape[-2:]
        return f" Images of {height} × {width} pixels are shown smoothly." if images.is_smooth(view.event_shape) else ""

    def samples(self, view: View, drawn: Tensor, x: Data, title: str) -> Figure:
        """A grid that is at most 16 wide."""
        n = len(drawn)
        ncols = min(16, max(int(np.ceil(np.sqrt(n))), min(n, 4)))
        return images.tiles_figure(drawn, ncols, title, self.limits(view, x, drawn), page=self.width)

    def reconstructions(self, view: View, x: Data, n: int) -> Figure:
        """Originals, the bits that the model sees where it sees bits, reconstructions."""
        limits, view = self.limits(view, x), view.take(slice(0, n if self.width is None else min(n, _NARROW_TILES)))
        bits = access.seen_by_model(view)
        parts = [
            ("original", as_tensor(view.rows)),
            ("seen by the model" if self.width is None else "seen by\nthe model", bits),
            ("reconstruction", view.reconstruct()),
        ]
        shown = [(label, part.double().cpu()) for label, part in parts if part is not None]
        labels = [label for label, _ in shown]
        tiles = torch.cat([part for _, part in shown])
        options: dict[str, Any] = {"row_labels": labels, "tile_inches": 0.72, "page": self.width}
        return images.tiles_figure(tiles, len(view), "Reconstructions", limits, **options)

    def groups(self, view: View, rows: Sequence[Tensor], names: Sequence[str]) -> Figure:
        """A row of tiles for each group, grey where there are too few."""
        width = _GROUP if self.width is None else _NARROW_TILES - 1
        shape = (len(rows), width, *rows[0].shape[1:])
        tiles = torch.full(shape, torch.nan, dtype=torch.float64)
        for row, members in zip(tiles, rows, strict=True):
            row[: len(members)] = members[:width].double().cpu()
        options: dict[str, Any] = {"row_labels": names, "tile_inches": 0.72, "page": self.width}
        limits = self.limits(view, torch.cat(list(rows)))
        return images.tiles_figure(tiles.flatten(0, 1), width, "Members", limits, **options)

    def walk(self, view: View, walk: Walk) -> Figure:
        """A row of tiles for each line."""
        limits = self.limits(view, walk.known, walk.decoded)
        names = walk.panels if walk.name_rows else ()
        steps = walk.steps
        if self.width is not None:  # the labels of the ends and the middle have room
            last = len(steps) - 1
            steps = [step if i in (0, last) or 2 * i == last else "" for i, step in enumerate(steps)]
        options: dict[str, Any] = {"row_labels": names, "column_labels": steps, "tile_inches": 0.72}
        options["page"] = self.width
        return images.tiles_figure(walk.decoded, len(walk.position), walk.title, limits, **options)

    def plane(self, view: View, decoded: Tensor, n: int, x: Data, title: str) -> Figure:
        """Tiles, z1 to the right and z2 upwards."""
        # Tiles of few pixels are filled to their edges and would run into each other.
        gap = 2 if min(decoded.shape[-2:]) < 16 else 0
        limits = self.limits(view, x, decoded)
        page = None if self.width is None else self.width - 0.4  # the axis is labelled
        made = images.tiles_figure(decoded, n, title, limits, tile_inches=0.4, gap=gap, page=page)
        with style.style():
            _label_plane(made.axes[0])
        return made


class Columns(Drawer):
    """Each element of a row is a column with a panel or a line of its own."""

    about_samples = "Histograms of columns"
    about_reconstructions = "Scatter plots by column."
    num_pairs = 3

    def num_steps(self, n: int) -> int:
        """Enough for a smooth line."""
        return max(n, 41)

    def num_samples(self, n: int) -> int:
        """Enough for a histogram."""
        return max(n, 2000)

    def samples(self, view: View, drawn: Tensor, x: Data, title: str) -> Figure:
        """Histograms, over those of the data where there are any."""
        table = tables.as_table(drawn)
        data = None if x is None else tables.as_table(as_tensor(x))
        if data is not None and data.shape[1] != table.shape[1]:
            raise ShapeError(f"x has {data.shape[1]} columns, the model {table.shape[1]}")
        with style.style():
            return tables.histograms(table, data, self._names(x, table), title, self.width)

    def reconstructions(self, view: View, x: Data, n: int) -> Figure:
        """Reconstruction against original of up to 1,000 rows."""
        view = view.take(slice(0, _MAX_POINTS))
        original, other = tables.as_table(as_tensor(view.rows)), tables.as_table(view.reconstruct())
        with style.style():
            title = f"Reconstructions of {len(view)} rows"
            return tables.scatter(original, other, self._names(x, original), title, self.width)

    def walk(self, view: View, walk: Walk) -> Figure:
        """A panel for each line, with the columns that change most."""
        table = tables.as_table(walk.decoded)
        unit = _unit(walk.unit, access.sample(access.under_one(view), 1000, False, access.fixed(None)))
        values = ((table - table.mean(0)) / unit).reshape(len(walk.panels), len(walk.position), -1)
        with style.style():
            labels = (walk.axis, "standard deviations")
            names = self._names(walk.x, table)
            return tables.lines(walk.position.numpy(), values, names, walk.panels, walk.title, labels, self.width)

    def plane(self, view: View, decoded: Tensor, n: int, x: Data, title: str) -> Figure:
        """A map for each column."""
        table = tables.as_table(decoded)
        with style.style():
            return tables.maps(table.reshape(n, n, -1), self._names(x, table), _plane_ticks(), title, self.width)

    def _names(self, x: Data, table: np.ndarray) -> list[str]:
        return access.column_names(self.columns, x, table.shape[1])


DRAWERS: dict[kinds.Picture, type[Drawer]] = {"tiles": Tiles, "columns": Columns}


def drawer(
    event_shape: Sequence[int],
    columns: Sequence[str] | None = None,
    value_range: images.Range | None = None,
    width: float | None = None,
) -> Drawer:
    """What draws rows of that shape."""
    return DRAWERS[kinds.of_event(event_shape).picture](columns, value_range, width)


def _unit(rows: Tensor | None, drawn: Tensor) -> np.ndarray:
    """The standard deviation of each column of the data, or of samples where there are none; 1 where it is 0."""
    source = drawn if rows is None or len(rows) < 2 else rows
    scale = np.nanstd(tables.as_table(source), axis=0)
    return np.where(scale > 0, scale, 1.0)


def _plane_ticks() -> tuple[list[float], list[str]]:
    """Places in (0, 1), and the values of z there: they are even in probability, not in z."""
    places = torch.special.ndtr(torch.tensor(_PLANE_TICKS, dtype=torch.float64)).tolist()
    return places, [f"{value:g}".replace("-", "−") for value in _PLANE_TICKS]


def _label_plane(axes: Axes) -> None:
    places, labels = _plane_ticks()
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    axes.tick_params(length=3, labeltop=False, labelbottom=True, bottom=True, left=True)
    axes.set_xticks([left + place * (right - left) for place in places], labels)
    axes.set_yticks([bottom + place * (top - bottom) for place in places], labels)
    axes.set_xlabel("z1")
    axes.set_ylabel("z2")
