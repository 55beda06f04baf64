"""How the bound on log p(x) rises with the number of samples."""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from vaekit import engine
from vaekit.bounds import LatentVariableModel, log_mean_exp
from vaekit.errors import ConfigError
from vaekit.evaluation.estimate import Estimate
from vaekit.evaluation.weights import Weights
from vaekit.models.draws import Sampling
from vaekit.models.view import View
from vaekit.traits import Data


def bias_trend(
    model: LatentVariableModel,
    x: Data,
    *,
    num_samples: Sequence[int] = (1, 10, 100, 1000),
    generator: torch.Generator | None = None,
    precision: engine.Precision = "float32",
    compile: engine.Compile = "auto",
    chunk_size: int | None = None,
    progress: bool = False,
) -> dict[int, Estimate]:
    r"""The IWAE bound for several K on the same draws: where it still rises, log p(x) is further up.

    The largest number of draws is split into groups of K, and the bounds of the groups are averaged, so that the bounds
    with few samples are the precise ones. The bias falls as \( -\mathrm{var}(w) / (2 K E[w]^2) \) once K is large
    (Burda et al. 2016; Nowozin 2018): a curve that is not flat at its end says that K is too small.

    References:
        Nowozin, "Debiasing evidence approximations", 2018, https://openreview.net/forum?id=HyZoi-WRb.

    Args:
        model: any object with `posterior`, `prior` and `likelihood`.
        x: data in their own units, shape (N, *X).
        num_samples: the values of K. Memory: 64 x the largest of them numbers, beside the decoder's.
        generator: source of the noise.
        precision: of matrix products inside the model's networks.
        compile: "on" compiles the decoder's pass.
        chunk_size: number of z per decoder pass; None keeps its output within 4 MiB.
        progress: show a bar on stderr where that is a terminal.

    Returns:
        K to the estimate of the bound per point, in ascending order; `ess`, `max_weight` are those of all draws.

    Raises:
        ConfigError: if there is no K, or one below 1.
        ShapeError, DataError, SupportError: if x does not fit the model.
    """
    counts = sorted(set(num_samples))
    if not counts or counts[0] < 1:
        raise ConfigError(f"num_samples is a sequence of counts of at least 1; got {tuple(num_samples)}")
    largest = counts[-1]
    view = View.of(model, x)
    values = {k: torch.zeros(len(view), dtype=torch.float64) for k in counts}
    errors = {k: torch.full((len(view),), math.nan, dtype=torch.float64) for k in counts}
    weights = Weights(len(view), largest)
    with engine.evaluating_in(model, precision):
        blocks = view.blocks(Sampling(largest, generator, compile, chunk_size, progress))
        for _, same_rows in groupby(blocks, key=lambda block: block.rows.start):
            parts = list(same_rows)
            rows = parts[0].rows
            log_weights = torch.cat([block.draws.log_weights.double().cpu() for block in parts])
            weights.add(rows, log_weights)
            for k in counts:
                values[k][rows], errors[k][rows] = _grouped(log_weights, k)
                values[k][rows] += parts[0].log_det.cpu()
    # One group tells nothing of its own error; the weights do.
    errors[largest] = weights.stderr()
    common: dict[str, Any] = {"quantity": view.quantity, "transform_noise": view.transform_noise()}
    common |= weights.summary()
    terms = {largest: weights.terms()}
    return {
        k: Estimate(value=values[k], stderr=errors[k], num_samples=k, method="iwae", terms=terms.get(k, {}), **common)
        for k in counts
    }


def _grouped(log_weights: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Mean of the bounds of disjoint groups of k draws, and its standard error, shape (B,) each."""
    num_groups = len(log_weights) // k
    groups = log_weights[: num_groups * k].unflatten(0, (num_groups, k)).transpose(0, 1)
    bounds = log_mean_exp(groups)
    return bounds.mean(0), bounds.std(0, correction=min(1, num_groups - 1)) / math.sqrt(num_groups)
