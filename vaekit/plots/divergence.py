"""How much each latent dimension carries."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vaekit.plots import style

ACTIVE = 0.01  # nats: below this a latent tells next to nothing about x


def divergence(values: Any) -> Figure:
    """Bars of the mean KL of each latent dimension, the largest first, with the number of active ones in the title.

    Args:
        values: mean over the data of KL(q(z_i|x), p(z_i)), shape (D,), in nats.

    Returns:
        The figure.
    """
    values = np.asarray(values, dtype=float).ravel()
    order = np.argsort(-values, kind="stable")
    active = int((values > ACTIVE).sum())
    with style.style():
        made = style.figure(float(np.clip(0.34 * len(values) + 1.6, 4.2, 9.6)), 2.9)
        axes = made.subplots()
        colours = [style.BLUE if values[i] > ACTIVE else "#c9ced6" for i in order]
        axes.bar(range(len(values)), values[order], color=colours, width=0.8)
        step = max(1, -(-len(values) // 24))
        axes.set_xticks(range(0, len(values), step), [f"z{i + 1}" for i in order[::step]])
        axes.tick_params(axis="x", length=0, labelsize=8 if len(values) < 16 else 7)
        margin = max(0.7, (5 - len(values)) / 2)  # few bars stay slim, in the middle
        axes.set_xlim(-margin, len(values) - 1 + margin)
        axes.grid(True, axis="y")
        axes.set_ylabel("nats")
        axes.set_title(f"KL per latent dimension: {active} of {len(values)} above {ACTIVE} nats")
    return made
