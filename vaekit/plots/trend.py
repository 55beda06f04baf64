"""How the bound on log p(x) rises with the number of samples."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vaekit.errors import DataError
from vaekit.plots import style


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
