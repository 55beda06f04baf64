"""The codes of data (figure 13.6a of "Neural Networks and Deep Learning")."""

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaekit.bounds import LatentVariableModel
from vaekit.errors import ShapeError
from vaekit.plots import access, style
from vaekit.traits import Data, RowTraits, told

_MAX_POINTS = 20_000
_MAX_CLASSES = 20


def latent(model: LatentVariableModel, x: Data, labels: Data = None, *, width: float | None = None) -> Figure:
    """E[z|x] coloured by label; principal components beyond two dimensions.

    Args:
        model: any latent-variable model.
        x: data in their own units, shape (N, *X); of more than 20,000 rows a fixed choice is drawn.
        labels: one per row, shape (N,): up to 20 classes get a legend, more numbers a colour bar; None takes
            those of x.
        width: of the page in inches, for a figure that is read on a narrow one; None takes what the figure needs.

    Returns:
        The figure.

    Raises:
        ShapeError: if there are not as many labels as rows.
    """
    view = access.view_of(model, x)
    known = told(RowTraits, x)
    labels = (known.labels if known.shown_labels is None else known.shown_labels) if labels is None else labels
    labels = None if labels is None else np.asarray(labels)
    if labels is not None and labels.shape != (len(view),):
        raise ShapeError(f"labels has one label per row, shape ({len(view)},); got {labels.shape}")
    # A fixed order of drawing, so that the class that comes last in the file does not cover the others.
    order = np.random.default_rng(0).permutation(len(view))[:_MAX_POINTS]
    codes = access.encode(view.take(torch.from_numpy(order))).double().numpy()
    labels = None if labels is None else labels[order]
    with style.style():
        across = (6.2 if labels is None else 7.0) if width is None else width
        made = style.figure(across, 5.6 if width is None else width + (0 if labels is None else 0.6))
        axes = made.subplots()
        beside: dict[str, Any] = {"loc": "outside right upper"}
        if width is not None:
            beside = {"loc": "outside lower center", "ncols": 5, "columnspacing": 0.9, "handletextpad": 0.2}
        if codes.shape[1] == 1:
            _histogram(axes, codes[:, 0], labels, beside)
        else:
            _points(made, axes, _plane(axes, codes, across), labels, beside)
        axes.set_title(f"E[z|x] of {len(codes):,} points" + (f" of {len(view):,}" if len(codes) < len(view) else ""))
    return made


def _plane(axes: Axes, codes: np.ndarray, across: float) -> np.ndarray:
    """Two coordinates of each code; says on the axes what they are."""
    if codes.shape[1] == 2:
        axes.set(xlabel="z1", ylabel="z2")
        return codes
    from sklearn.decomposition import PCA

    if len(codes) < 2:
        axes.set(xlabel="z1", ylabel="z2")
        return codes[:, :2]
    with np.errstate(invalid="ignore", divide="ignore"):
        pca = PCA(2, svd_solver="full").fit(codes)
        explained = np.nan_to_num(pca.explained_variance_ratio_)
    for axis, name, share in zip((axes.xaxis, axes.yaxis), ("first", "second"), explained, strict=True):
        label = f"{name} principal component of {codes.shape[1]} dimensions ({share:.0%} of the variance)"
        axis.set_label_text(style.wrapped(label, across - 0.6, 9.5))
    result: np.ndarray = pca.transform(codes)
    return result


def _classes(labels: np.ndarray) -> list[tuple[str, np.ndarray]] | None:
    """(name, mask) of each class; None where labels are many numbers, for a colour bar."""
    values, counts = np.unique(labels, return_counts=True)
    if len(values) <= _MAX_CLASSES:
        return [(str(value), labels == value) for value in values]
    if labels.dtype.kind in "iufb":
        return None
    kept = values[np.sort(np.argsort(-counts, kind="stable")[: _MAX_CLASSES - 1])]
    return [*((str(value), labels == value) for value in kept), ("other", ~np.isin(labels, kept))]


def _colours(num_classes: int) -> list[Any]:
    from matplotlib import colormaps

    return list(colormaps["tab10" if num_classes <= 10 else "tab20"].colors)  # type: ignore[attr-defined]


def _points(made: Figure, axes: Axes, places: np.ndarray, labels: np.ndarray | None, beside: dict[str, Any]) -> None:
    size = float(np.clip(9000 / len(places), 2.5, 22))
    options: dict[str, Any] = {"s": size, "alpha": 0.75 if len(places) < 5000 else 0.55, "linewidths": 0}
    options["rasterized"] = True
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(True)
    if labels is None:
        axes.scatter(places[:, 0], places[:, 1], color=style.BLUE, **options)
        return
    classes = _classes(labels)
    if classes is None:
        drawn = axes.scatter(places[:, 0], places[:, 1], c=labels.astype(float), cmap="viridis", **options)
        bar = made.colorbar(drawn, ax=axes, label="label", shrink=0.85)
        bar.solids.set_alpha(1)  # type: ignore[union-attr]
        bar.outline.set_visible(False)
        return
    palette = _colours(len(classes))
    colours = np.zeros((len(places), 3))
    for colour, (name, mask) in zip(palette, classes, strict=False):
        colours[mask] = colour
        axes.scatter([], [], s=36, color=[colour], linewidths=0, label=style.shortened(name, 24))
    axes.scatter(places[:, 0], places[:, 1], c=colours, **options)
    made.legend(*axes.get_legend_handles_labels(), title="label", **beside)


def _histogram(axes: Axes, codes: np.ndarray, labels: np.ndarray | None, beside: dict[str, Any]) -> None:
    bins = np.linspace(codes.min(), codes.max() if np.ptp(codes) else codes.min() + 1, 51).tolist()
    classes = None if labels is None else _classes(labels)
    if classes is None:
        axes.hist(codes, bins=bins, color=style.BLUE)
    else:
        for colour, (name, mask) in zip(_colours(len(classes)), classes, strict=False):
            axes.hist(codes[mask], bins=bins, histtype="step", lw=1.6, color=colour, label=style.shortened(name, 24))
        axes.figure.legend(*axes.get_legend_handles_labels(), title="label", **beside)
    axes.set(xlabel="z1", ylabel="points")
