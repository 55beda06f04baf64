"""Everything that this package says of a model on a data set, as plain values for tables, JSON and reports."""

from typing import Any

import torch
from torch import Tensor

from vaekit import engine
from vaekit.bounds import LatentVariableModel
from vaekit.errors import ConfigError, DataError
from vaekit.evaluation.aggregate import posterior_moments
from vaekit.evaluation.ais import ais, bdmc
from vaekit.evaluation.diagnostics import diagnostics
from vaekit.evaluation.estimate import Score
from vaekit.evaluation.hmc import hmc_posterior
from vaekit.evaluation.likelihood import iwae
from vaekit.evaluation.summary import summarize
from vaekit.evaluation.trend import bias_trend
from vaekit.evaluation.two_sample import two_sample
from vaekit.models.view import View

_TREND_ROWS, _ANNEALED_ROWS, _POSTERIOR_ROWS = 256, 32, 16
_ANNEALING: dict[str, Any] = {"num_chains": 16, "num_steps": 300}


def evaluate(
    model: LatentVariableModel,
    x: Any,
    *,
    num_samples: int = 100,
    full: bool = False,
    max_rows: int | None = None,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Bounds and diagnostics; with `full` also the trend over K, annealed importance sampling, HMC, two-sample checks.

    Args:
        model: any object with `posterior`, `prior` and `likelihood`.
        x: data in their own units, shape (N, *X).
        num_samples: K of the bounds.
        full: add what takes minutes on images.
        max_rows: look at most at so many rows, a fixed choice; None takes all for the bounds.
        generator: source of the noise.
        progress: show bars on stderr where that is a terminal.

    Returns:
        The keys of `summarize`, `diagnostics` (see `Diagnostics.summary`), and with `full`:
        `trend`: K to mean, mean_stderr, sampling_stderr on 256 rows.
        `ais`: log p(x) of 32 rows from annealed importance sampling and, beside it, from importance sampling with
        K = 5,000; their paired difference; and the gap of the sandwich on simulated points (`bdmc`).
        `hmc`: for 16 rows the worst R-hat, the least ess, the mean acceptance, and how far E[z|x] of q lies from that
        of p(z|x), in standard deviations of the latter (root mean square).
        `two_sample`: name to value, standard error and details.
        What a model cannot have (gradients in z, two-sample checks of a handful of rows) is a string that says why.
    """
    view = View.of(model, x, max_rows=max_rows)
    options: dict[str, Any] = {"generator": generator, "progress": progress}
    result = summarize(model, view, num_samples=num_samples, **options)
    result["diagnostics"] = _or_reason(lambda: diagnostics(model, view, **options).summary())
    if full:
        result["trend"] = _trend(model, view.some(_TREND_ROWS), options)
        result["ais"] = _or_reason(lambda: _annealed(model, view.some(_ANNEALED_ROWS), options))
        result["hmc"] = _or_reason(lambda: _posterior(model, view.some(_POSTERIOR_ROWS), options))
        result["two_sample"] = _or_reason(
            lambda: {name: vars(score).copy() for name, score in two_sample(model, view, generator=generator).items()}
        )
    return result


def _or_reason(compute: Any) -> Any:
    try:
        return compute()
    except (ConfigError, DataError) as error:
        return str(error)


def _trend(model: LatentVariableModel, x: View, options: dict[str, Any]) -> dict[str, Any]:
    names = ("mean", "mean_stderr", "sampling_stderr", "num_points")
    summaries = {k: estimate.summary() for k, estimate in bias_trend(model, x, **options).items()}
    return {str(k): {name: summary[name] for name in names} for k, summary in summaries.items()}


def _annealed(model: LatentVariableModel, x: View, options: dict[str, Any]) -> dict[str, Any]:
    annealed = ais(model, x, **_ANNEALING, **options)
    weighted = iwae(model, x, num_samples=5000, **options)
    difference = Score.of_mean(annealed.value - weighted.value)
    gap = bdmc(model, _POSTERIOR_ROWS, **_ANNEALING, **options).gap
    return {
        "annealed": annealed.summary(),
        "importance": weighted.summary(),
        "difference": {"mean": difference.value, "sampling_stderr": difference.stderr},
        "acceptance": float(annealed.terms["acceptance"].mean()),
        "simulated_gap": {"mean": gap.value, "sampling_stderr": gap.stderr, "num_points": _POSTERIOR_ROWS},
    }


def _posterior(model: LatentVariableModel, x: View, options: dict[str, Any]) -> dict[str, Any]:
    samples = hmc_posterior(model, x, **options)
    draws = samples.z.double().flatten(0, 1)
    return {
        "r_hat_max": float(samples.r_hat.max()),
        "ess_min": float(samples.ess.min()),
        "acceptance": float(samples.acceptance.mean()),
        "mean_distance": _distance(model, x, draws),
        "num_points": len(samples),
    }


def _distance(model: LatentVariableModel, x: View, draws: Tensor) -> float:
    """Root mean square over points and dimensions of (E_q[z] - E_p[z]) / std_p[z]."""
    with engine.evaluating(model), engine.seeded(0):
        means, _ = posterior_moments(model.posterior(x.batch(slice(0, len(x))).x), 64)
    shift = (means.cpu() - draws.mean(0).cpu()) / draws.std(0).cpu()
    return float(shift.square().mean().sqrt())
