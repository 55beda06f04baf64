"""What a page says of a table beyond what it says of any rows: odd rows, pairs of columns, simple tools beside it."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaekit import evaluation
from vaekit.data import Dataset
from vaekit.data.kinds import TABLES
from vaekit.data.schema import Column, Schema
from vaekit.errors import UnreliableEstimateWarning, VaekitError
from vaekit.models.view import View
from vaekit.plots import style, tables
from vaekit.report.beside import Beside, Contest
from vaekit.report.figures import Picture, picture
from vaekit.runs.calibration import Calibration, without_nan
from vaekit.runs.reasons import reasons

_ODDEST = 6
_SCORED, _DRAWN = 2_000, 2_000
_MOST_COLUMNS, _MOST_BARS = 24, 12  # panels, and levels that a panel names
_MOST_PAIRS = 40  # features of a map of correlations


@dataclass(frozen=True)
class OddRow:
    """A row with a low log p(x).

    Attributes:
        key: what the row is called.
        log_p: nats, with what its holes add.
        reason: in words, the cells that the others make least probable; see `runs.reasons`.
    """

    key: str
    log_p: str
    reason: str


@dataclass(frozen=True)
class OfTable:
    """The sections of a table; each may be empty.

    Attributes:
        contests: this model and simple tools at four jobs.
        margins: pictures of the columns of real and made-up rows.
        pairs: pictures of their correlations.
        odd: the oddest rows.
    """

    contests: list[Contest]
    margins: list[Picture]
    pairs: list[Picture]
    odd: list[OddRow]


def of_table(
    view: View,
    names: Sequence[str],
    *,
    learned: np.ndarray | None,
    keys: Sequence[Any] | None,
    schema: Schema | None,
    seed: int,
    calibration: Calibration | None = None,
) -> OfTable:
    """The sections of a page about rows of a table.

    Args:
        view: the model, and rows that it was not fitted to, shape (N, D).
        names: of the columns.
        learned: rows that it was fitted to, shape (N', D); None leaves simple tools nothing to learn from.
        keys: what the rows are called; None numbers them.
        schema: how numbers are written as cells.
        seed: of all noise.
        calibration: what holes add to log p; None takes off nothing.
    """
    odd = odd_rows(view, names, keys, schema, seed, calibration)
    made = view.wide().sample(_DRAWN, False, torch.Generator().manual_seed(seed)).double().cpu().numpy()
    columns = [] if schema is None else [_margins(view, made, schema)]
    if learned is None or len(learned) < 20 or len(view) < 20:
        return OfTable([], columns, [], odd)
    beside = Beside(view, learned, seed)
    return OfTable(beside.all(), columns, _pairs(beside, made, names), odd)


def odd_rows(
    view: View,
    names: Sequence[str],
    keys: Sequence[Any] | None,
    schema: Schema | None,
    seed: int,
    calibration: Calibration | None = None,
) -> list[OddRow]:
    """The oddest rows among the first 2,000, with the cells that make them so.

    They are those that `Run.detect` finds oddest: of the lowest log p(x), less what the holes of a row add to it, where
    the calibration says that.
    """
    rows = torch.as_tensor(view.take(slice(0, _SCORED)).rows)
    noise = torch.Generator().manual_seed(seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnreliableEstimateWarning)  # the numbers of the page say it of all rows
            found = evaluation.log_marginal(
                view.model, view.beside(rows), num_samples=50, generator=noise, key="content"
            )
        log_p, cells = without_nan(found.value.double().cpu().numpy()), rows.double().cpu().numpy()
        bare = log_p if calibration is None else calibration.comparable(log_p, cells)
        oddest = np.argsort(bare, kind="stable")[:_ODDEST]
        some = Dataset(
            rows[torch.from_numpy(oddest)].cpu().numpy(), columns=tuple(names), kind=TABLES.name, schema=schema
        )
        said = reasons(view.model, some, names, num_samples=100, seed=seed)
    except VaekitError:  # no density, or no product over columns
        return []
    return [
        OddRow(str(place if keys is None else keys[place]), f"{float(log_p[place]):.1f}", reason)
        for place, reason in zip(oddest.tolist(), said, strict=True)
    ]


def _margins(view: View, made: np.ndarray, schema: Schema) -> Picture:
    """Each column of real rows and of made-up ones: histograms of numbers, bars of levels under their names."""
    real = torch.as_tensor(view.rows).cpu().double().numpy()
    shown = schema.modelled[:_MOST_COLUMNS]
    left_out = len(schema.modelled) - len(shown)
    return picture(
        lambda page: margins(real, made, shown, page),
        f"A panel for each of {len(shown)} columns: real rows in grey, made-up rows as a line.",
        f"{len(real):,} rows as they are and {len(made):,} made-up rows"
        + (f"; {left_out} more columns are not shown." if left_out else "."),
    )


def margins(real: np.ndarray, made: np.ndarray, columns: Sequence[Column], page: float | None = None) -> Figure:
    """A panel for each column: histograms of numbers, bars of the shares of levels.

    Args:
        real: rows as they are, codes and numbers, shape (N, D).
        made: rows of the model, shape (M, D).
        columns: the first of the D columns.
        page: width of a narrow page in inches, or None.
    """
    with style.style():
        figure, axes = style.panels(len(columns), height=2.3 if page is None else 1.9, page=page)
        for j, (panel, column) in enumerate(zip(axes, columns, strict=True)):
            pair = [part[~np.isnan(part[:, j]), j] for part in (real, made)]
            if column.levels and len(column.levels) <= _MOST_BARS:
                _bars(panel, pair, column)
            else:
                tables.histogram(panel, pair[1], pair[0])
            panel.set_title(style.shortened(column.name))
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        return figure


def _bars(panel: Axes, pair: Sequence[np.ndarray], column: Column) -> None:
    size = column.num_codes
    real, made = (np.bincount(part.astype(int), minlength=size)[:size] / max(1, len(part)) for part in pair)
    places = np.arange(size)
    panel.bar(places, real, color="#c9ced6", label="data")
    panel.stairs(made, np.arange(size + 1) - 0.5, color=style.BLUE, lw=1.6, label="samples")
    names = [style.shortened(str(level), 10) for level in column.levels] + ["other"] * column.other
    panel.set_xticks(places, names, fontsize=7, rotation=0 if sum(map(len, names)) < 22 else 60)
    panel.set_yticks([])
    panel.spines["left"].set_visible(False)


def _pairs(beside: Beside, made: np.ndarray, names: Sequence[str]) -> list[Picture]:
    """Maps of the correlations of the columns of real rows and of made-up ones, side by side."""
    numbers = np.flatnonzero(beside.num_levels == 0)[:_MOST_PAIRS]
    if len(numbers) < 2:
        return []
    places = np.array([beside.places(int(j)).start for j in numbers])
    maps = [beside.correlations(rows)[np.ix_(places, places)] for rows in (beside.x, made)]
    labels = [style.shortened(names[j], 14) for j in numbers]

    def draw(page: float | None) -> Figure:
        return correlations(maps, labels, page)

    return [
        picture(
            draw,
            "Two maps of correlations, of rows as they are and of rows that the model made up.",
            f"Correlations of {len(numbers)} columns of numbers: where both maps look alike, made-up rows keep what "
            "columns have to do with each other.",
        )
    ]


def correlations(maps: Sequence[np.ndarray], labels: Sequence[str], page: float | None = None) -> Figure:
    """Two maps of correlations on one scale, side by side; on narrow pages one below the other.

    Args:
        maps: of real rows and of made-up ones, shape (D, D) each.
        labels: names of the D columns.
        page: width of a narrow page in inches, or None.
    """
    with style.style():
        return _maps(maps, labels, page)


def _maps(maps: Sequence[np.ndarray], labels: Sequence[str], page: float | None) -> Figure:
    made, axes = style.panels(2, width=4.2, height=4.0 if page is None else 3.0, page=page)
    is_legible = len(labels) <= 14
    for panel, values, title in zip(axes, maps, ("rows as they are", "made-up rows"), strict=True):
        image = panel.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        panel.set_title(title)
        ticks = range(len(labels)) if is_legible else []
        panel.set_yticks(ticks, labels if is_legible else [], fontsize=7)
        panel.set_xticks(ticks, labels if is_legible else [], fontsize=7, rotation=90)
    bar = made.colorbar(image, ax=list(axes), shrink=0.6)
    bar.outline.set_visible(False)
    return made
