"""Pictures of how well classes are told apart: which are taken for which, and whether probabilities are right."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from vaekit.errors import DataError
from vaekit.models.rows import as_tensor
from vaekit.plots import style
from vaekit.queries.calibration import reliability
from vaekit.traits import Data

_MOST_COUNTS = 15  # classes up to which each cell of the matrix has its number
_ON_DARK, _ON_LIGHT = "#fefefe", "#0b2239"  # the cells keep their colours on a dark page, and so does their text


def confusion(
    classes: Data, predicted: Data, names: Sequence[str] | None = None, *, width: float | None = None
) -> Figure:
    """The confusion matrix: of the rows of each class the share that is taken for each, with counts.

    Args:
        classes: codes of the true classes, shape (N,).
        predicted: codes of the predicted ones, shape (N,).
        names: of the classes; None numbers them.
        width: of the page in inches, for a figure that is read on a narrow one.

    Returns:
        The figure.

    Raises:
        DataError: if there are no rows, or not a prediction for each.
    """
    true, said = (np.asarray(as_tensor(codes)).astype(int) for codes in (classes, predicted))
    if true.shape != said.shape:
        raise DataError(f"a confusion matrix has a predicted class for each row; got {len(said)} for {len(true)} rows")
    size = len(names) if names is not None else int(max(true.max(), said.max())) + 1
    counts = np.zeros((size, size), dtype=int)
    np.add.at(counts, (true, said), 1)
    shares = counts / counts.sum(1, keepdims=True).clip(min=1)
    labels = [style.shortened(str(name), 12) for name in (names if names is not None else range(size))]
    with style.style():
        across = min(1.6 + 0.42 * size, 7.0) if width is None else width
        made = style.figure(max(across, 3.0), max(across, 3.0) * 0.92)
        axes = made.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        turned = max(map(len, labels)) > 3
        axes.set_xticks(range(size), labels, rotation=90 if turned else 0)
        axes.set_yticks(range(size), labels)
        axes.tick_params(length=0)
        for row, column in np.argwhere(counts) if size <= _MOST_COUNTS else ():
            colour = _ON_DARK if shares[row, column] > 0.5 else _ON_LIGHT
            small = 8.5 if across / size > 0.35 else 6.5
            axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=colour, fontsize=small)
        axes.set_xlabel("taken for")
        axes.set_ylabel("class")
        wrong = int(len(true) - np.trace(counts))
        axes.set_title(style.wrapped(f"{wrong:,} of {len(true):,} rows are taken for another class", across))
    return made


def calibration(probabilities: Data, classes: Data, *, width: float | None = None) -> Figure:
    """The calibration curve: how often the most probable class is right, over the probability that it is given.

    Args:
        probabilities: p(y|x), shape (N, L).
        classes: codes of the true classes, shape (N,).
        width: see `confusion`.

    Returns:
        The figure, with the expected calibration error in its title and two standard errors.
    """
    found = reliability(probabilities, classes)
    some = found.counts > 0
    sure, right = found.confidence[some], found.accuracy[some]
    error = 2 * np.sqrt(right * (1 - right) / found.counts[some])
    with style.style():
        across = 3.9 if width is None else width
        made = style.figure(across, 3.3)
        axes = made.subplots()
        axes.plot([0, 1], [0, 1], color=style.GREY, linewidth=1, linestyle="--")
        axes.errorbar(sure, right, error, color=style.BLUE, marker="o", markersize=4.5, capsize=3, linewidth=1.6)
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.05)
        axes.grid(True)
        axes.set_xlabel("probability of the most probable class")
        axes.set_ylabel("share that is right")
        axes.set_title(style.wrapped(f"Expected calibration error {found.error:.3f}", across))
    return made
