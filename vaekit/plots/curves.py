"""Pictures of numbers over something: losses over epochs, the KL of each latent, bounds over K."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vaekit.errors import DataError
from vaekit.plots import style
from vaekit.traits import Data

_PANELS = (
    ("Bound on log p(x)", ("elbo", "iwae")),
    ("Log-likelihood term", ("log_likelihood",)),
    ("KL(q(z|x), p(z))", ("kl",)),
)
_NAMES = {"elbo": "ELBO", "iwae": "IWAE bound", "log_likelihood": "", "kl": ""}
_PARTS = {"train": "training", "valid": "validation"}


def losses(records: list[dict[str, float]], best_epoch: int | None = None, *, width: float | None = None) -> Figure:
    """Bounds, log-likelihood and KL per epoch.

    One panel each for ELBO (and IWAE bound), log-likelihood and KL, on training and validation data, in nats per datum.

    Epochs lie on a logarithmic axis where there are more than 15, so that the first ones have room. Values far from
    those of the epochs after the first tenth do not squash the rest: a triangle at the edge marks each, and the axis
    says how many there are.

    Args:
        records: one dict per epoch, as in `History.records` or a line of `metrics.jsonl`.
        best_epoch: the epoch whose weights were kept; None takes the one of the highest validation bound.
        width: of the page in inches, for a figure that is read on a narrow one; None takes what the figure needs.

    Returns:
        The figure.

    Raises:
        DataError: if no epoch was recorded, or none of the terms.
    """
    shown = [(title, keys) for title, keys in _PANELS if any(_curves(records, keys))]
    if not shown:
        raise DataError("there are no curves to draw: no epoch has a term such as train_elbo. Was the model trained?")
    if best_epoch is None:
        best_epoch = _best_epoch(records)
    with style.style():
        made, axes = style.panels(len(shown), width=2.95, height=2.6, page=width)
        for panel, (title, keys) in zip(axes, shown, strict=True):
            _draw(panel, title, records, keys, best_epoch)
        handles, labels = _legend(axes)
        made.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5 if width is None else 2))
    return made


def _curves(records: list[dict[str, float]], keys: tuple[str, ...]) -> list[tuple[str, str, np.ndarray, np.ndarray]]:
    """(part, key, epochs, values) of each curve that has at least one finite value."""
    found = []
    for key in keys:
        for part in _PARTS:
            pairs = [(r.get("epoch", i + 1), r.get(f"{part}_{key}")) for i, r in enumerate(records)]
            finite = [(e, v) for e, v in pairs if isinstance(v, int | float) and math.isfinite(v)]
            if finite:
                epochs, values = np.array(finite, dtype=float).T
                found.append((part, key, epochs, values))
    return found


def _best_epoch(records: list[dict[str, float]]) -> int | None:
    for key in ("iwae", "elbo"):
        for part, _, epochs, values in _curves(records, (key,)):
            if part == "valid":
                return int(epochs[values.argmax()])
    return None


def _draw(axes: Axes, title: str, records: list[dict[str, float]], keys: tuple[str, ...], best: int | None) -> None:
    curves = _curves(records, keys)
    for part, key, epochs, values in curves:
        label = " ".join(filter(None, (_NAMES[key], _PARTS[part])))
        axes.plot(
            epochs,
            values,
            color=style.ORANGE if part == "valid" else style.BLUE,
            linestyle="--" if key == "iwae" else "-",
            linewidth=1.7,
            marker="o" if len(epochs) < 15 else None,
            markersize=3.5,
            label=label,
        )
    low, high = _limits([(epochs, values) for _, _, epochs, values in curves])
    axes.set_ylim(low, high)
    outside = _mark_outside(axes, curves, low, high)
    if best is not None:
        axes.axvline(best, color=style.GREY, linewidth=1, linestyle=":", label=f"best epoch ({best})", zorder=0)
    axes.set_title(title)
    axes.set_xlabel(f"epoch ({outside} outside)" if outside else "epoch")
    axes.set_ylabel("nats per datum")
    axes.grid(True, axis="y")
    _epoch_axis(axes, max(float(epochs[-1]) for _, _, epochs, _ in curves))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))


_MANY_EPOCHS = 15
_FAR = 30  # spreads of the later epochs: what lies farther away than that is only marked


def _epoch_axis(axes: Axes, last: float) -> None:
    """Whole epochs, on a logarithmic axis where there are many: 1, 3, 10, 30, ..."""
    if last <= _MANY_EPOCHS:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        return
    axes.set_xscale("log")
    axes.set_xlim(0.93, last * 1.07)
    ticks = [t * 10**k for k in range(math.ceil(math.log10(last)) + 1) for t in (1, 3) if t * 10**k <= last]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()


def _limits(curves: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Limits of y that hold every value which is not far from those after the first tenth of the epochs."""
    num_epochs = max(len(values) for _, values in curves)
    skipped = 0 if num_epochs < 4 else max(1, num_epochs // 10)
    kept = np.concatenate([values[min(skipped, len(values) - 1) :] for _, values in curves])
    everything = np.concatenate([values for _, values in curves])
    low, high = float(kept.min()), float(kept.max())
    far = _FAR * (high - low or max(abs(high) * 0.05, 1e-3))
    near = everything[(everything >= low - far) & (everything <= high + far)]
    low, high = float(near.min()), float(near.max())
    margin = 0.07 * (high - low or max(abs(high) * 0.05, 1e-3))
    return low - margin, high + margin


def _mark_outside(axes: Axes, curves: list[tuple[str, str, np.ndarray, np.ndarray]], low: float, high: float) -> int:
    """Triangles at the edge for values outside the limits; how many epochs have one."""
    found: set[float] = set()
    for part, _, epochs, values in curves:
        for outside, edge, marker in ((values < low, low, "v"), (values > high, high, "^")):
            if outside.any():
                colour = style.ORANGE if part == "valid" else style.BLUE
                places = np.full(int(outside.sum()), edge)
                axes.plot(epochs[outside], places, marker, color=colour, markersize=6, clip_on=False)
                found |= set(epochs[outside].tolist())
    return len(found)


def _legend(axes: list[Axes]) -> tuple[list[Any], list[str]]:
    """Handles of the panel with the most curves: the other panels use the same colours."""
    by_label = [panel.get_legend_handles_labels() for panel in axes]
    handles, labels = max(by_label, key=lambda pair: len(pair[1]))
    if len(axes) > 1 and sum(label.startswith("IWAE") for label in labels) == 0:
        labels = [label.removeprefix("ELBO ") for label in labels]
    return list(handles), list(labels)


ACTIVE = 0.01  # nats: below this a latent tells next to nothing about x


def divergence(values: Data, *, width: float | None = None) -> Figure:
    """Bars of the mean KL of each latent dimension, the largest first, with the number of active ones in the title.

    Args:
        values: mean over the data of KL(q(z_i|x), p(z_i)), shape (D,), in nats.
        width: of the page in inches, for a figure that is read on a narrow one; None takes what the figure needs.

    Returns:
        The figure.
    """
    values = np.asarray(values, dtype=float).ravel()
    order = np.argsort(-values, kind="stable")
    active = int((values > ACTIVE).sum())
    with style.style():
        across = float(np.clip(0.34 * len(values) + 1.6, 4.2, 9.6)) if width is None else width
        made = style.figure(across, 2.9)
        axes = made.subplots()
        colours = [style.BLUE if values[i] > ACTIVE else "#c9ced6" for i in order]
        axes.bar(range(len(values)), values[order], color=colours, width=0.8)
        step = max(1, -(-len(values) // (24 if width is None else int(2.6 * width))))
        axes.set_xticks(range(0, len(values), step), [f"z{i + 1}" for i in order[::step]])
        axes.tick_params(axis="x", length=0, labelsize=8.5 if len(values) < 16 else 8)
        margin = max(0.7, (5 - len(values)) / 2)  # few bars stay slim, in the middle
        axes.set_xlim(-margin, len(values) - 1 + margin)
        axes.grid(True, axis="y")
        axes.set_ylabel("nats")
        title = f"KL per latent dimension: {active} of {len(values)} above {ACTIVE} nats"
        axes.set_title(style.wrapped(title, across))
    return made


def trend(estimates: Mapping[int, Any]) -> Figure:
    """IWAE bound on log p(x) over the number of samples: flat where it has converged.

    The mean over rows, on a logarithmic axis of K, with two Monte Carlo standard errors.

    Args:
        estimates: K to an `Estimate`, or to its `summary()`, as `evaluation.bias_trend` returns them.

    Returns:
        The figure.

    Raises:
        DataError: if there are fewer than two K.
    """
    if len(estimates) < 2:
        raise DataError(f"a trend has at least two numbers of samples; got {len(estimates)}")
    summaries = {k: e if isinstance(e, dict) else e.summary() for k, e in sorted(estimates.items())}
    counts, means = list(summaries), np.array([s["mean"] for s in summaries.values()])
    errors = 2 * np.nan_to_num(np.array([s["mean_stderr"] for s in summaries.values()], dtype=float))
    with style.style():
        made = style.figure(4.6, 3.0)
        axes = made.subplots()
        axes.errorbar(counts, means, errors, color=style.BLUE, marker="o", markersize=4.5, capsize=3, linewidth=1.6)
        axes.set_xscale("log")
        axes.set_xticks(counts, [f"{k:,}" for k in counts])
        axes.minorticks_off()
        axes.grid(True, axis="y")
        axes.margins(y=0.12)
        axes.set_xlabel("number of samples K")
        axes.set_ylabel("nats per row")
        rise = means[-1] - means[-2]
        axes.set_title(f"IWAE bound on log p(x): {rise:+.2f} nats at the last step".replace("-", "−"))
    return made
