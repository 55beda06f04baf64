"""Panels for rows that are no images: histograms of columns, columns against columns, columns along a line."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vaekit.plots import style

MAX_COLUMNS = 9


def as_table(x: Tensor) -> np.ndarray:
    """Rows of any event shape as (N, D), in float64."""
    return x.detach().cpu().double().flatten(1).numpy()


def _suffix(num_columns: int) -> str:
    return f" (the first {MAX_COLUMNS} of {num_columns} columns)" if num_columns > MAX_COLUMNS else ""


def histograms(
    samples: np.ndarray, data: np.ndarray | None, names: Sequence[str], title: str, page: float | None = None
) -> Figure:
    """One histogram per column of the samples, over that of the data where there are any."""
    made, axes = style.panels(min(samples.shape[1], MAX_COLUMNS), height=2.4 if page is None else 1.7, page=page)
    for i, panel in enumerate(axes):
        histogram(panel, samples[:, i], None if data is None else data[:, i])
        panel.set_title(style.shortened(names[i]))
    if data is not None:
        made.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    _title(made, title + _suffix(samples.shape[1]))
    return made


def histogram(panel: Axes, samples: np.ndarray, data: np.ndarray | None) -> None:
    """One column of the samples, over that of the data where there are any."""
    bins = _bins(samples, data)
    if data is not None:
        panel.hist(data, bins=bins, density=True, color="#c9ced6", label="data")
    kind: Any = "step" if data is not None else "stepfilled"
    panel.hist(samples, bins=bins, density=True, histtype=kind, color=style.BLUE, lw=1.6, label="samples")
    panel.set_yticks([])
    panel.spines["left"].set_visible(False)


def _bins(samples: np.ndarray, data: np.ndarray | None) -> list[float]:
    """Bins for what most values do; where all are few integers, one bin for each."""
    both = samples if data is None else np.concatenate([samples, data])
    both = both[np.isfinite(both)]
    unique = np.unique(both)
    if len(unique) <= 25 and (unique == np.round(unique)).all():
        edges: list[float] = np.arange(unique[0] - 0.5, unique[-1] + 1).tolist()
        return edges
    reference = both if data is None else data[np.isfinite(data)]
    low, high = np.quantile(both, (0.005, 0.995))
    low, high = min(low, reference.min()), max(high, reference.max())
    result: list[float] = np.linspace(low, high if high > low else low + 1, 31).tolist()
    return result


def scatter(
    original: np.ndarray, other: np.ndarray, names: Sequence[str], title: str, page: float | None = None
) -> Figure:
    """One panel per column: reconstruction against original, with the diagonal and the correlation."""
    made, axes = style.panels(min(original.shape[1], MAX_COLUMNS), height=2.7, page=page)
    for i, panel in enumerate(axes):
        a, b = original[:, i], other[:, i]
        observed = np.isfinite(a) & np.isfinite(b)
        a, b = a[observed], b[observed]
        low, high = min(a.min(), b.min()), max(a.max(), b.max())
        margin = 0.05 * (high - low) or 1.0
        ends = (low - margin, high + margin)
        panel.plot(ends, ends, color=style.GREY, lw=1, zorder=0)
        panel.scatter(a, b, s=9, color=style.BLUE, alpha=0.55, linewidths=0, rasterized=True)
        panel.set(xlim=ends, ylim=ends, aspect="equal")
        correlation = np.corrcoef(a, b)[0, 1] if len(a) > 1 and a.std() > 0 and b.std() > 0 else np.nan
        label = style.shortened(names[i])
        panel.set_title(label if np.isnan(correlation) else f"{label}  (r = {correlation:.2f})", fontsize=9.5)
        few_ticks(panel)
    for panel in axes:
        style.label_outside(panel, "original", "reconstruction")
    _title(made, title + _suffix(original.shape[1]))
    return made


def lines(
    position: np.ndarray,
    values: np.ndarray,
    names: Sequence[str],
    panel_titles: Sequence[str],
    title: str,
    labels: tuple[str, str],
    page: float | None = None,
) -> Figure:
    """One panel per line in z; in each the columns that change most, one line each, the same colour in all panels.

    Args:
        position: place on the line, shape (S,).
        values: standardised columns, shape (panels, S, D).
        names: names of the columns.
        panel_titles: one for each panel.
        title: of the figure.
        labels: of the axes.
        page: width of a narrow page in inches, or None.
    """
    spread = np.ptp(values, axis=1).max(0)
    chosen = np.sort(np.argsort(-spread, kind="stable")[: min(8, len(names))])
    made, axes = style.panels(len(values), page=page)
    for panel, row, panel_title in zip(axes, values, panel_titles, strict=True):
        for colour, i in enumerate(chosen):
            panel.plot(position, row[:, i], color=style.LINES[colour], lw=1.5, label=style.shortened(names[i], 24))
        panel.set_title(panel_title)
        panel.grid(True, axis="y")
    shown = values[:, :, chosen]
    margin = 0.06 * float(np.ptp(shown)) or 1.0
    for panel in axes:
        panel.set_ylim(float(shown.min()) - margin, float(shown.max()) + margin)
    for panel in made.axes:
        style.label_outside(panel, *labels)
    ncols = 4 if len(axes) > 2 and page is None else 2
    made.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=ncols)
    more = f" (the {len(chosen)} of {len(names)} columns that change most)" if len(names) > len(chosen) else ""
    _title(made, title + more)
    return made


def maps(
    values: np.ndarray,
    names: Sequence[str],
    ticks: tuple[list[float], list[str]],
    title: str,
    page: float | None = None,
) -> Figure:
    """One map per column over a plane, shape (n, n, D): places in (0, 1) to the right and upwards, values as colour."""
    num_columns = values.shape[-1]
    made, axes = style.panels(min(num_columns, MAX_COLUMNS), height=2.6, page=page)
    for i, panel in enumerate(axes):
        image = panel.imshow(values[:, :, i], extent=(0, 1, 0, 1), cmap="viridis", interpolation="nearest")
        panel.set_xticks(*ticks)
        panel.set_yticks(*ticks)
        panel.set_title(style.shortened(names[i]))
        bar = made.colorbar(image, ax=panel, shrink=0.85)
        bar.outline.set_visible(False)
        bar.ax.locator_params(nbins=4)
        style.label_outside(panel, "z1", "z2")
    _title(made, title + _suffix(num_columns))
    return made


def _title(made: Figure, text: str) -> None:
    made.suptitle(style.wrapped(text, made.get_figwidth(), 12))


def few_ticks(axes: Axes) -> None:
    """At most four ticks on each axis, the same on both."""
    axes.locator_params(axis="both", nbins=4)
