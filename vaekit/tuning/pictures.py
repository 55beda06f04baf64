"""A picture of the trials of a search."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vaekit.plots import style
from vaekit.tuning.ranges import Among, Range

if TYPE_CHECKING:
    from vaekit.tuning.trials import Trial

_MOST = 8  # settings that get a panel
_LABEL = "held-out log p (nats)"


def of_trials(trials: Sequence["Trial"], searched: Mapping[str, Range]) -> Figure:
    """log p of held-out rows by trial, with the best so far, and over each setting that was searched.

    Trials that were stopped early or failed are ticks at the lower edge, and trials far below the others lie there too.

    Args:
        trials: the trials, of which at least one is done.
        searched: key to range; the first eight have a panel.
    """
    keys = list(searched)[:_MOST]
    with style.style():
        made, axes = style.panels(1 + len(keys), width=2.95, height=2.5)
        span = _span([trial.log_p for trial in trials if trial.log_p is not None])
        best = np.maximum.accumulate([-np.inf if trial.log_p is None else trial.log_p for trial in trials])
        numbers = [float(trial.number) for trial in trials]
        axes[0].step(numbers, best, where="post", color=style.GREY, lw=1.2, label="best so far")
        _draw(axes[0], trials, numbers, span)
        axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
        style.label_outside(axes[0], "trial", _LABEL)
        axes[0].set_xlabel("trial")
        for panel, key in zip(axes[1:], keys, strict=True):
            _draw(panel, trials, _places(panel, trials, key, searched[key]), span)
            style.label_outside(panel, key, _LABEL)
            panel.set_xlabel(key)
        handles, labels = axes[0].get_legend_handles_labels()
        made.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return made


def _places(axes: Axes, trials: Sequence["Trial"], key: str, one: Range) -> list[float]:
    """Where the trials lie along a setting."""
    if isinstance(one, Among):
        axes.set_xticks(range(len(one.values)), [value[:12] for value in one.values])
        axes.set_xlim(-0.5, len(one.values) - 0.5)
        return [float(one.values.index(str(trial.settings[key]))) for trial in trials]
    if one.by_magnitude:
        axes.set_xscale("log")
        axes.set_xlim(one.low / 1.15, one.high * 1.15)
    elif one.whole:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return [float(trial.settings[key]) for trial in trials]


def _span(values: Sequence[float]) -> tuple[float, float]:
    """The ends of the axis: what is far below most trials would squash the rest."""
    best, middle = max(values), float(np.median(values))
    least = max(min(values), best - 5 * max(best - middle, 1e-6))
    room = max(best - least, 1e-3)
    return least - 0.12 * room, best + 0.08 * room


def _draw(axes: Axes, trials: Sequence["Trial"], places: Sequence[float], span: tuple[float, float]) -> None:
    done = [(place, trial.log_p) for place, trial in zip(places, trials, strict=True) if trial.log_p is not None]
    across, values = np.array(done, dtype=float).T
    axes.set_ylim(*span)
    axes.plot(across, values.clip(span[0]), "o", color=style.BLUE, ms=4, label="trial", clip_on=False)
    top = int(values.argmax())
    axes.plot(across[top], values[top], "o", color=style.ORANGE, ms=6, label="best")
    others = [place for place, trial in zip(places, trials, strict=True) if trial.log_p is None]
    if others:
        axes.plot(others, [span[0]] * len(others), "|", color=style.INK, ms=9, label="stopped early or failed")
