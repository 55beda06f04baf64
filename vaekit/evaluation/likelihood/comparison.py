"""Is one model better than another on this test set? Paired differences of log p(x)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch

from vaekit import engine
from vaekit.bounds import LatentVariableModel
from vaekit.errors import ConfigError
from vaekit.evaluation.estimate import Estimate, Score
from vaekit.evaluation.likelihood.marginal import log_marginal
from vaekit.models.view import View
from vaekit.traits import Data


@dataclass(frozen=True)
class Difference:
    """log p of the first model minus log p of the second, on the same points.

    Attributes:
        first: name of the first model.
        second: name of the second one.
        value: mean of the differences per point, nats.
        stderr: its standard error over the points. The scatter over the points contains the Monte Carlo error, which
            therefore is in here already.
        mean_stderr: the Monte Carlo error alone, as if the draws of the two were independent: what more samples of z
            would reduce.
        p_value: two-sided, of the hypothesis that both means are equal (normal approximation); NaN for one point.
        better: name of the better model where the p-value, multiplied by the number of pairs (Bonferroni), is below
            0.05; else None.
    """

    first: str
    second: str
    value: float
    stderr: float
    mean_stderr: float
    p_value: float
    better: str | None


@dataclass(frozen=True)
class Comparison:
    """Models on one test set, the best first, and the differences of all pairs.

    Attributes:
        estimates: name to `Estimate`, the highest mean first.
        differences: one per pair, in the order of `estimates`.
    """

    estimates: dict[str, Estimate]
    differences: tuple[Difference, ...]

    def summary(self) -> dict[str, object]:
        """The numbers as plain Python values."""
        models = {name: estimate.summary() for name, estimate in self.estimates.items()}
        return {"models": models, "differences": [vars(difference).copy() for difference in self.differences]}


def compare(
    models: Mapping[str, LatentVariableModel] | Sequence[LatentVariableModel],
    x: Data,
    *,
    num_samples: int = 1000,
    generator: torch.Generator | None = None,
    **options: Any,
) -> Comparison:
    r"""Paired differences of log p(x) between models, with standard errors.

    Points that are hard for one model are hard for the other, so that the standard error of the mean difference
    \( \sqrt{\mathrm{var}_n(\log p_A(x_n) - \log p_B(x_n)) / N} \) is much smaller than those of the two means. All
    models see the same draws of a random transform (bits, dequantisation): those of the rows. The estimates bound
    log p(x) from below, a model with poor importance weights by more: its `Estimate.unreliable` tells.

    Args:
        models: name to model, or models (named "0", "1", ...), at least two. Their transforms may differ; what their
            log p is (density, mass, ...) must not.
        x: data in their own units, shape (N, *X).
        num_samples: K of the importance-sampling estimate.
        generator: source of the noise.
        **options: `precision`, `compile`, `chunk_size`, `progress`, `transform_draws`, `transform_seed` of
            `log_marginal`.

    Returns:
        See `Comparison`.

    Raises:
        ConfigError: for fewer than two models, or models whose log p are different quantities.
        ShapeError, DataError, SupportError: if x does not fit one of them.
    """
    named = dict(models) if isinstance(models, Mapping) else {str(i): model for i, model in enumerate(models)}
    if len(named) < 2:
        raise ConfigError(f"compare takes at least two models; got {len(named)}")
    views = {name: View.of(model, x) for name, model in named.items()}
    quantities = {name: view.quantity for name, view in views.items()}
    if len(set(quantities.values())) > 1:
        raise ConfigError(f"log p of these models are different things and cannot be compared: {quantities}")
    # One seed for all: equal models get equal draws of z. The noise of transforms is that of the rows.
    seed = engine.draw_seed(generator)
    estimates = {
        name: log_marginal(
            model, views[name], num_samples=num_samples, generator=torch.Generator().manual_seed(seed), **options
        )
        for name, model in named.items()
    }
    ranked = dict(sorted(estimates.items(), key=lambda item: -item[1].mean))
    pairs = list(combinations(ranked, 2))
    return Comparison(ranked, tuple(_difference(a, b, ranked[a], ranked[b], len(pairs)) for a, b in pairs))


def _difference(first: str, second: str, a: Estimate, b: Estimate, num_pairs: int) -> Difference:
    score = Score.of_mean(a.value - b.value)
    monte_carlo = math.hypot(a.mean_stderr, b.mean_stderr)
    p_value = math.erfc(abs(score.value) / score.stderr / math.sqrt(2)) if score.stderr > 0 else math.nan
    better = first if p_value * num_pairs < 0.05 else None  # the first of a pair has the higher mean
    return Difference(first, second, score.value, score.stderr, monte_carlo, p_value, better)
