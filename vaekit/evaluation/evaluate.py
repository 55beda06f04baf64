"""Everything that this package says of a model on a data set, as rows for tables, JSON and reports.

To add a metric: write a function of (view, how) that returns a `Score`, an `Estimate` or rows, and enter it in
`METRICS`. It then is part of `evaluate`, of the command's table and files, and of reports.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vaekit import engine
from vaekit.bounds import LatentVariableModel
from vaekit.columns import RowsAbout
from vaekit.errors import ConfigError, DataError
from vaekit.evaluation.chains.ais import ais, bdmc
from vaekit.evaluation.chains.hmc import hmc_posterior
from vaekit.evaluation.estimate import Estimate, Score
from vaekit.evaluation.health.aggregate import posterior_moments
from vaekit.evaluation.health.diagnostics import diagnostics
from vaekit.evaluation.health.verdict import HEALTHY, UNLIKE, chains, of_finding
from vaekit.evaluation.likelihood.marginal import elbo_and_iwae, iwae
from vaekit.evaluation.likelihood.trend import bias_trend
from vaekit.evaluation.results import FINDINGS, Result, Results, missing, nested, of_estimate, of_score, result
from vaekit.evaluation.samples.two_sample import two_sample
from vaekit.models.view import View
from vaekit.traits import Data

_TREND_ROWS, _ANNEALED_ROWS, _POSTERIOR_ROWS = 256, 32, 16
_ANNEALING: dict[str, Any] = {"num_chains": 16, "num_steps": 300}


@dataclass(frozen=True)
class How:
    """How a metric is computed.

    Attributes:
        num_samples: K of the bounds.
        generator: source of the noise.
        progress: show bars on stderr where that is a terminal.
        described: the training rows, or None where they are not known.
    """

    num_samples: int = 100
    generator: torch.Generator | None = None
    progress: bool = False
    described: RowsAbout | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The keywords that most functions of this package take."""
        return {"generator": self.generator, "progress": self.progress}


Outcome = Score | Estimate | Iterable[Result]


@dataclass(frozen=True)
class Metric:
    """A part of an evaluation.

    Attributes:
        function: of a view and of how; returns a score, an estimate, or rows.
        full: whether it takes minutes on images, and is part of a full evaluation alone.
        prefix: whether the metric's name stands in front of the names of its rows.
    """

    function: Callable[[View, How], Outcome]
    full: bool = False
    prefix: bool = True


def evaluate(
    model: LatentVariableModel,
    x: Data,
    *,
    num_samples: int = 100,
    full: bool = False,
    max_rows: int | None = None,
    described: RowsAbout | None = None,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Results:
    """Bounds and diagnostics; with `full` also the trend over K, annealed importance sampling, HMC, two-sample checks.

    Args:
        model: any object with `posterior`, `prior` and `likelihood`.
        x: data in their own units, shape (N, *X).
        num_samples: K of the bounds.
        full: add what takes minutes on images.
        max_rows: look at most at so many rows, a fixed choice; None takes all for the bounds.
        described: the training rows, as `Run.training_rows` has them: where many rows of x are unlike them, that is
            the verdict, instead of one on the model.
        generator: source of the noise.
        progress: show bars on stderr where that is a terminal.

    Returns:
        Rows named as follows, means over the rows in nats with both errors unless the unit says otherwise. What a model
        cannot have (gradients in z, two-sample checks of a handful of rows) is a row with the reason.
        `elbo`, `log_likelihood`, `kl`, `iwae`; `bits_per_dimension`, minus the IWAE bound in bits per element, where
        it is a mass or bounds one; `num_points`, `num_samples`, `ess_median`, `unreliable_fraction`.
        `diagnostics.*`: see `Diagnostics.results`.
        With `full`: `trend.K` on 256 rows; `ais.*`: log p(x) of 32 rows from annealed importance sampling and, beside
        it, from importance sampling with K = 5,000, their paired difference, and the gap of the sandwich on simulated
        points (`bdmc`); `hmc.*`: for 16 rows the worst R-hat, the least ess, the mean acceptance, and how far E[z|x] of
        q lies from that of p(z|x), in standard deviations of the latter (root mean square); `two_sample.*`, and
        what else is known of them, as `two_sample.mmd.details.p_value`.
    """
    view, how = View.of(model, x, max_rows=max_rows), How(num_samples, generator, progress, described)
    rows: list[Result] = []
    for name, metric in METRICS.items():
        if full or not metric.full:
            rows += _rows(name, metric, view, how)
    return Results(tuple(_with_chains(rows)), view.quantity)


def _with_chains(rows: list[Result]) -> list[Result]:
    """The rows, with the finding that chains disagree where they do; the model then is not called healthy."""
    found = {row.name: row for row in rows}
    worst = found.get("hmc.r_hat_max")
    if worst is None or FINDINGS + UNLIKE.replace(" ", "_") in found:
        return rows
    said = chains(math.nan if worst.value is None else worst.value, f"p(z|x) over {_POSTERIOR_ROWS} rows")
    if said is None:
        return rows
    return [row for row in rows if row.name != f"{FINDINGS}{HEALTHY}"] + [of_finding(said, FINDINGS)]


def _rows(name: str, metric: Metric, view: View, how: How) -> list[Result]:
    try:
        outcome = metric.function(view, how)
    except (ConfigError, DataError) as error:
        if not metric.prefix:
            raise
        return [missing(name, str(error))]
    if isinstance(outcome, Score):
        return [of_score(name, name.replace("_", " "), outcome, unit="")]
    if isinstance(outcome, Estimate):
        return [of_estimate(name, name.replace("_", " "), outcome)]
    return nested(name, outcome) if metric.prefix else list(outcome)


def _bounds(view: View, how: How) -> list[Result]:
    k = how.num_samples
    lower, tighter = elbo_and_iwae(view.model, view, num_samples=k, **how.options)
    likelihood, kl = (Score.of_mean(lower.terms[name]) for name in ("log_likelihood", "kl"))
    rows = [
        of_estimate("elbo", f"ELBO ({view.quantity})", lower),
        of_score("log_likelihood", "log-likelihood, E[log p(x|z)]", likelihood),
        of_score("kl", "KL(q(z|x), p(z))", kl),
        of_estimate("iwae", f"IWAE, K = {k:,} ({view.quantity})", tighter),
    ]
    if "mass" in view.quantity:
        numbers = (-tighter.mean, tighter.mean_stderr, tighter.sampling_stderr)
        value, stderr, sampling_stderr = (n / math.log(2) / math.prod(view.event_shape) for n in numbers)
        label = "bits per dimension (IWAE)"
        rows.append(result("bits_per_dimension", label, value, stderr, sampling_stderr, "bits"))
    rows.append(result("num_points", "rows", len(view), unit="rows", detail=True))
    rows.append(result("num_samples", "draws of z per row, K", k, unit="draws"))
    ess, unreliable = float(tighter.ess.median()), float(tighter.unreliable.double().mean())
    rows.append(result("ess_median", f"median effective sample size of {k:,}", ess, unit="draws"))
    rows.append(result("unreliable_fraction", "share of rows with unreliable weights", unreliable, unit=""))
    return rows


def _health(view: View, how: How) -> list[Result]:
    return diagnostics(view.model, view, described=how.described, **how.options).results()


def _trend(view: View, how: How) -> list[Result]:
    some = view.some(_TREND_ROWS)
    found = bias_trend(view.model, some, **how.options).items()
    return [of_estimate(str(k), f"IWAE, K = {k}, {len(some)} rows", estimate) for k, estimate in found]


def _annealed(view: View, how: How) -> list[Result]:
    some = view.some(_ANNEALED_ROWS)
    annealed = ais(view.model, some, **_ANNEALING, **how.options)
    weighted = iwae(view.model, some, num_samples=5000, **how.options)
    gap = bdmc(view.model, _POSTERIOR_ROWS, **_ANNEALING, **how.options).gap
    rows = f"{len(some)} rows"
    return [
        of_estimate("annealed", f"AIS, {rows}", annealed),
        of_estimate("importance", f"importance sampling, K = 5,000, {rows}", weighted),
        of_score("difference", "AIS - importance sampling", Score.of_mean(annealed.value - weighted.value)),
        of_score("simulated_gap", f"upper - lower bound by AIS, {_POSTERIOR_ROWS} simulated rows", gap),
        result("acceptance", "acceptance of HMC in AIS", float(annealed.terms["acceptance"].mean()), unit=""),
        result("num_points", "rows of AIS", len(some), unit="rows", detail=True),
    ]


def _posterior(view: View, how: How) -> list[Result]:
    some = view.some(_POSTERIOR_ROWS)
    samples = hmc_posterior(view.model, some, **how.options)
    rows = f"{len(samples)} rows"
    distance = _distance(some, samples.z.double().flatten(0, 1))
    return [
        result("r_hat_max", f"R-hat of p(z|x) by HMC, worst of {rows}", float(samples.r_hat.max()), unit=""),
        result("ess_min", f"ess of p(z|x) by HMC, least of {rows}", float(samples.ess.min()), unit="draws"),
        result("acceptance", "acceptance of HMC", float(samples.acceptance.mean()), unit=""),
        result("mean_distance", "E[z|x] of q beside HMC, in standard deviations", distance, unit=""),
        result("num_points", "rows of HMC", len(samples), unit="rows", detail=True),
    ]


def _distance(view: View, draws: Tensor) -> float:
    """Root mean square over points and dimensions of (E_q[z] - E_p[z]) / std_p[z]."""
    with engine.evaluating(view.model), engine.seeded(0):
        means, _ = posterior_moments(view.model.posterior(view.batch(slice(0, len(view))).x), 64)
    shift = (means.cpu() - draws.mean(0).cpu()) / draws.std(0).cpu()
    return float(shift.square().mean().sqrt())


def _two_sample(view: View, how: How) -> list[Result]:
    rows = []
    for name, score in two_sample(view.model, view, generator=how.generator).items():
        label = name.replace("_", " ")
        if "p_value" in score.details:
            label += f" (p = {score.details['p_value']:.3g})"
        elif "baseline" in score.details:
            label += f" (data beside data: {score.details['baseline']:.3g})"
        rows.append(of_score(name, label, score, unit=""))
        details = {key: value for key, value in score.details.items() if isinstance(value, int | float)}
        for key, value in details.items():
            label = f"{name}, {key}".replace("_", " ")
            rows.append(result(f"{name}.details.{key}", label, value, unit="", detail=True))
    return rows


METRICS: dict[str, Metric] = {
    "bounds": Metric(_bounds, prefix=False),
    "diagnostics": Metric(_health),
    "trend": Metric(_trend, full=True),
    "ais": Metric(_annealed, full=True),
    "hmc": Metric(_posterior, full=True),
    "two_sample": Metric(_two_sample, full=True),
}
"""Name to metric, in the order in which they are computed and printed."""
