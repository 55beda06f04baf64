"""Everything that this package says of a model on a data set, as rows for tables, JSON and reports.

To add a metric: write a function of (view, how) that returns a `Score`, an `Estimate` or rows, and enter it in
`METRICS`. It then is part of `evaluate`, of the command's table and files, and of reports.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
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
from vaekit.evaluation.health.overfitting import OVERFITTING, overfitting
from vaekit.evaluation.health.verdict import HEALTHY, STILL, UNLIKE, Finding, chains, of_finding, too_low
from vaekit.evaluation.likelihood.marginal import elbo_and_iwae, iwae
from vaekit.evaluation.likelihood.trend import bias_trend
from vaekit.evaluation.results import (
    FINDINGS,
    GAP,
    TRAINING,
    Result,
    Results,
    in_bits,
    missing,
    nested,
    of_estimate,
    of_score,
    of_training,
    of_values,
    result,
)
from vaekit.evaluation.samples.two_sample import two_sample
from vaekit.models.rows import as_rows, contexts_beside
from vaekit.models.view import View
from vaekit.traits import Data

_TREND_ROWS, _ANNEALED_ROWS, _POSTERIOR_ROWS = 256, 32, 16
_TRAINING_ROWS = 1000  # that stand beside held-out rows at most, unless more are held out
_OF_DRAWS = ("num_samples", "ess_median", "unreliable_fraction")  # once is enough for a table
_ANNEALING: dict[str, Any] = {"num_chains": 16, "num_steps": 300}


@dataclass(frozen=True)
class How:
    """How a metric is computed.

    Attributes:
        num_samples: K of the bounds.
        generator: source of the noise.
        progress: show bars on stderr where that is a terminal.
        transform_draws: T, draws of a random transform's noise for each row that the bounds are averaged over.
        part: what the rows are called.
        train: rows that were trained on, to stand beside those of the view, and what they are called; or None.
        described: the training rows, or None where they are not known.
    """

    num_samples: int = 100
    generator: torch.Generator | None = None
    progress: bool = False
    transform_draws: int = 1
    part: str = "rows"
    train: tuple[View, str] | None = None
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
    train: Data = None,
    num_samples: int = 100,
    full: bool = False,
    max_rows: int | None = None,
    part: str = "rows",
    described: RowsAbout | None = None,
    generator: torch.Generator | None = None,
    progress: bool = False,
    transform_draws: int = 1,
    transform_seed: int | None = None,
) -> Results:
    """Bounds and diagnostics; with `full` also the trend over K, annealed importance sampling, HMC, two-sample checks.

    Args:
        model: any object with `posterior`, `prior` and `likelihood`.
        x: data in their own units, shape (N, *X), which the model was not trained on.
        train: rows that it was trained on, shape (M, *X): a fixed choice of at most as many as there are of x, or of
            1,000 where those are fewer, is put beside them; None leaves that out.
        num_samples: K of the bounds.
        full: add what takes minutes on images.
        max_rows: look at most at so many rows, a fixed choice; None takes all for the bounds.
        part: what the rows of x are called: "test rows", "validation rows", "rows".
        described: the training rows, as `Run.training_rows` has them: where many rows of x are unlike them, that is
            the verdict, instead of one on the model.
        generator: source of the noise.
        progress: show bars on stderr where that is a terminal.
        transform_draws: T, draws of the noise of a random transform for each row, over which `elbo`, `log_likelihood`,
            `kl`, `iwae` and `bits_per_dimension` are means; see `log_marginal`. All else is of the first draw.
        transform_seed: the first transform seed; None is that of a view, and 0 for rows. All quantities meet a row with
            the same bits. `Results.transform_noise` says which.

    Returns:
        Rows named as follows, means over the rows in nats with both errors unless the unit says otherwise. What a model
        cannot have (gradients in z, two-sample checks of a handful of rows) is a row with the reason.
        `elbo`, `log_likelihood`, `kl`, `iwae`; `bits_per_dimension`, minus the IWAE bound in bits per element, where
        it is a mass or bounds one; `without_number`, how many rows have no IWAE bound, where there are some: the means
        leave those out and say so; `num_points`, `num_samples`, `ess_median`, `unreliable_fraction`; behind a random
        transform `transform_draws`, which says in words what was drawn, and `transform_seed`.
        With `train`: `train.elbo` and so on, the same of training rows, and `generalization_gap`, the IWAE bound of x
        minus theirs; where that is no accident and matters, `diagnostics.findings.overfitting`.
        `diagnostics.*`: see `Diagnostics.results`.
        With `full`: `trend.K` on 256 rows; `ais.*`: log p(x) of 32 rows from annealed importance sampling and, beside
        it, from importance sampling with K = 5,000, their paired difference, and the gap of the sandwich on simulated
        points (`bdmc`); `hmc.*`: for 16 rows the worst R-hat, the least ess, the mean acceptance, and how far E[z|x] of
        q lies from that of p(z|x), in standard deviations of the latter (root mean square); `two_sample.*`, and
        what else is known of them, as `two_sample.mmd.details.p_value`.
    """
    view, called = _met(model, x, max_rows, part)
    view = view.under(transform_seed)
    how = How(num_samples, generator, progress, transform_draws, called, described=described)
    if train is not None:
        limit = max(_TRAINING_ROWS, len(view))
        most = limit if max_rows is None else min(limit, max_rows)
        beside, name = _met(model, train, most, TRAINING)
        how = replace(how, train=(beside.under(view.transform_seed), name))
    rows: list[Result] = []
    for name, metric in METRICS.items():
        if full or not metric.full:
            rows += _rows(name, metric, view, how)
    return Results(tuple(_with_others(rows)), view.quantity, _about_noise(view, transform_draws))


def _about_noise(view: View, num_draws: int) -> str | None:
    words = view.transform_noise(num_draws)
    beyond = f". What is no bound is of transform seed {view.transform_seed} alone"
    return words if words is None or num_draws == 1 else words + beyond


def _met(model: LatentVariableModel, x: Data, max_rows: int | None, part: str) -> tuple[View, str]:
    """A view of at most so many rows, and what they are called."""
    rows = x if isinstance(x, View) else as_rows(x)
    where, beside = "train" if part == TRAINING else "x", contexts_beside(model, x)
    view = View.of(model, rows, where=where, max_rows=max_rows, context=beside)
    return view, part if len(view) == len(rows) else f"of {len(rows):,} {part}"


def _with_others(rows: list[Result]) -> list[Result]:
    """The rows, with what others than the diagnostics find; the model then is not called healthy."""
    found = {row.name: row for row in rows}
    worst, gap = found.get("hmc.r_hat_max"), found.get("diagnostics.inference_gap.log_marginal")
    no_verdict = any(FINDINGS + name.replace(" ", "_") in found for name in (UNLIKE, STILL))
    said: list[Finding | None] = []
    if worst is not None and not no_verdict:
        r_hat = math.nan if worst.value is None else worst.value
        said.append(chains(r_hat, f"p(z|x) over {_POSTERIOR_ROWS} rows"))
    if gap is not None and not no_verdict:
        said.append(too_low(gap, [found[name] for name in ("iwae", "ais.annealed") if name in found]))
    others = [of_finding(one, FINDINGS) for one in said if one is not None]
    if others or OVERFITTING in found:
        rows = [row for row in rows if row.name != f"{FINDINGS}{HEALTHY}"]
    return [*rows, *others]


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
    again = None if how.generator is None else torch.Generator(how.generator.device)
    if again is not None and how.generator is not None:
        again.set_state(how.generator.get_state())  # whatever stands beside them, the rows get the same noise
    rows, values = _bounds_of(view, how)
    if how.train is None:
        return rows
    beside, part = how.train
    theirs, their_values = _bounds_of(beside, replace(how, generator=again, part=part))
    theirs = [replace(row, detail=row.detail or row.name in _OF_DRAWS) for row in theirs]
    rows += of_training(theirs)
    if not len(values) or not len(their_values):
        return [*rows, missing(GAP, "one side has no row with a number")]
    return [*rows, *overfitting(values, their_values).results()]


def _bounds_of(view: View, how: How) -> tuple[list[Result], Tensor]:
    """The rows of the bounds, and the IWAE bound of each row of the data."""
    k = how.num_samples
    t = how.transform_draws
    lower, tighter = elbo_and_iwae(view.model, view, num_samples=k, transform_draws=t, **how.options)
    # The means of both parts are over the rows of the ELBO, of which they are the difference.
    parts = {name: torch.where(lower.value.isfinite(), term, torch.nan) for name, term in lower.terms.items()}
    rows = [
        of_estimate("elbo", f"ELBO ({view.quantity})", lower),
        of_values("log_likelihood", "log-likelihood, E[log p(x|z)]", parts["log_likelihood"]),
        of_values("kl", "KL(q(z|x), p(z))", parts["kl"]),
        of_estimate("iwae", f"IWAE, K = {k:,} ({view.quantity})", tighter),
    ]
    numbered = tighter.numbered()
    if view.quantity in ("mass", "bound on a mass") and len(numbered):
        numbers = (numbered.mean, numbered.mean_stderr, numbered.sampling_stderr)
        rows.append(in_bits(*numbers, math.prod(view.event_shape)))
    rows.append(result("num_points", how.part, len(view), unit="rows", detail=True))
    rows.append(result("num_samples", "draws of z per row, K", k, unit="draws"))
    if tighter.transform_noise is not None:
        rows.append(result("transform_draws", tighter.transform_noise, t, unit="draws", detail=True))
        seed = view.transform_seed
        rows.append(result("transform_seed", "first seed of the transform's noise", seed, unit="", detail=True))
    lost = len(view) - len(numbered)
    if lost:
        rows.append(result("without_number", "rows without a number (IWAE)", lost, unit="rows"))
    ess, unreliable = float(tighter.ess.nanmedian()), float(tighter.unreliable.double().mean())
    rows.append(result("ess_median", f"median effective sample size of {k:,}", ess, unit="draws"))
    rows.append(result("unreliable_fraction", "share of rows with unreliable weights", unreliable, unit=""))
    return rows, numbered.value


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
        means, _ = posterior_moments(view.model.posterior(view.batch(slice(0, len(view)), by_row=True).x), 64)
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
