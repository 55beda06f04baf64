"""Densities that run away: columns on which log p(x|z) has no bound, and whether it has risen there."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vaekit.bounds import LatentVariableModel
from vaekit.columns import described
from vaekit.distributions.support import elements
from vaekit.evaluation.health.scale import has_fixed_scale

_NORMAL = 0.5 * math.log(2 * math.pi * math.e)  # nats: E log p of a normal column of standard deviation 1 is minus this
_GAIN = math.log(10) - _NORMAL  # nats: p(x|z) is some ten times narrower than the column
FEW = 256
"""Rows at which the model is asked."""


@dataclass(frozen=True)
class Runaway:
    """Columns of repeated values on which p(x|z) is more than some ten times narrower than the column is wide.

    Attributes:
        columns: each column, and what is the matter with it, in words.
        nats: how much higher log p(x|z) is than if these columns were normal and not explained by z at all.
    """

    columns: tuple[str, ...]
    nats: float


def runaway(model: LatentVariableModel, y: Tensor, names: Sequence[str] | None = None) -> Runaway | None:
    """Look for columns of y that are constant, discrete or copies, and for a density that is spent on them.

    Call it in eval mode and with a seed, and for a likelihood that is a density.

    Args:
        model: any object with the three methods; it is asked at the first 256 rows.
        y: data in model space, shape (N, *X).
        names: names of the elements of x; None calls them x0, x1, ...

    Returns:
        None where there are no such columns, their density is in keeping with their spread, or the scale of p(x|z) is
        fixed, so that log p is bounded.
    """
    if has_fixed_scale(model):
        return None
    rows = y.detach().cpu().double()
    repeated = described([rows.numpy()], len(rows), rows.shape[1:], names=names)
    if not repeated.repeated:
        return None
    y = y[:FEW]
    base = elements(model.likelihood(model.posterior(y).sample()))
    try:
        log_prob = base.log_prob(torch.nan_to_num(y)).double().cpu()
    except (NotImplementedError, ValueError):
        return None
    if log_prob.shape != y.shape:  # elements that depend on each other have no density of their own
        return None
    typical = torch.where(y.isnan().cpu(), torch.nan, log_prob).flatten(1).nanmedian(0).values
    spread = rows.flatten(1)
    gains = {}
    for place in repeated.repeated:
        values = spread[:, place][~spread[:, place].isnan()]
        std = float(values.std(correction=0))
        gains[place] = float(typical[place]) + (math.log(std) if std > 0 else 0.0)
    found = {place: gain for place, gain in gains.items() if gain > _GAIN}
    words = tuple(f"{repeated.columns[place].name} {repeated.repeated[place]}" for place in found)
    return Runaway(words, sum(found.values()) + _NORMAL * len(found)) if found else None
