"""How all pictures look: one figure factory, one palette, one way to files."""

import io
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaekit.saving.files import check_suffix, write_atomically

BLUE, ORANGE, GREEN, GREY, INK = "#2166ac", "#d95f02", "#1b7837", "#8a8f98", "#1f2328"
LINES = (BLUE, ORANGE, GREEN, "#9a3fa0", "#b8860b", "#00838f", "#c2185b", "#5d6d7e", "#7a5230")
FORMATS = (".png", ".svg", ".pdf")
DPI = 150

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "regular",
    "axes.labelsize": 9.5,
    "axes.edgecolor": "#b4b9c1",
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": "#e6e8eb",
    "grid.linewidth": 0.8,
    "xtick.color": "#57606a",
    "ytick.color": "#57606a",
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "figure.titlesize": 12,
    "text.color": INK,
    "svg.hashsalt": "vaekit",
    "path.simplify": True,
}


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib's defaults and our own style while the body runs, whatever the caller has set."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)  # type: ignore[arg-type]
        yield


def figure(width: float, height: float) -> Figure:
    """A figure of that size in inches that keeps its labels apart."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def panels(
    num_panels: int, width: float = 2.9, height: float = 2.4, ncols: int = 3, page: float | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure of equal panels in rows of at most `ncols`; a single row is as wide as it has panels.

    A page of that many inches takes as many panels beside each other as keep two thirds of their width.
    """
    ncols = 2 if num_panels == 4 else min(ncols, num_panels)
    if page is not None:
        ncols = max(1, min(ncols, int(page / (width * 2 / 3))))
    nrows = -(-num_panels // ncols)
    across = max(width * ncols, 4.2)
    made = figure(across if page is None else min(across, page), height * nrows + 0.5)
    axes = made.subplots(nrows, ncols, squeeze=False).ravel().tolist()
    for extra in axes[num_panels:]:
        extra.remove()
    return made, axes[:num_panels]


def label_outside(axes: Axes, x: str, y: str) -> None:
    """Label a panel of a grid below where no panel follows, and on the left where it is the first of its row."""
    place = axes.get_subplotspec()
    assert place is not None
    nrows = place.get_gridspec().nrows
    row, column = place.rowspan.start, place.colspan.start
    others = {(s.rowspan.start, s.colspan.start) for a in axes.figure.axes if (s := a.get_subplotspec()) is not None}
    if row == nrows - 1 or (row + 1, column) not in others:
        axes.set_xlabel(x)
    if column == 0:
        axes.set_ylabel(y)


def wrapped(text: str, inches: float, size: float = 10.5) -> str:
    """A text of that size in points, in lines that fit a width."""
    return textwrap.fill(text, max(12, int(inches * 72 / (0.6 * size))))


def shortened(name: str, length: int = 28) -> str:
    """A name that fits above a panel; dollar signs are text, not mathematics."""
    name = name if len(name) <= length else name[: length - 1] + "…"
    return name.replace("$", r"\$")


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure; the suffix picks the format. The file is replaced as a whole, and repeats byte for byte.

    Args:
        figure: what a function of this package returned.
        path: ends in .png, .svg or .pdf.

    Raises:
        ConfigError: for another suffix.
        ArtifactError: if the file cannot be written.
    """
    suffix = check_suffix(path, FORMATS)
    write_atomically(path, to_bytes(figure, suffix[1:]))


def to_bytes(figure: Figure, format: str = "png") -> bytes:
    """The figure as a file's content, without a date, with nothing clipped at its edges."""
    metadata: dict[str, Any] = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format=format, dpi=DPI, metadata=metadata[format], bbox_inches="tight", pad_inches=0.12)
    return buffer.getvalue()
