"""Diagnostics of a model on some data, and the verdict: what is wrong, by which evidence, and what mends it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vaekit import bounds, engine
from vaekit.bounds import LatentVariableModel
from vaekit.conditional import Conditional
from vaekit.distributions.support import elements
from vaekit.errors import ConfigError, DataError
from vaekit.evaluation.estimate import Score
from vaekit.evaluation.health.aggregate import ACTIVE, Aggregate, aggregate
from vaekit.evaluation.health.inference_gap import InferenceGap, inference_gap
from vaekit.evaluation.results import Result, nested, of_score, result
from vaekit.kl import kl_per_dimension
from vaekit.models.checks import refuse_context
from vaekit.models.rows import slices
from vaekit.models.view import View
from vaekit.traits import Data, ModelTraits, told

HEALTHY = "healthy"
_EMPTY_RATE = 0.05  # nats: a code that carries less says nothing about x
_LARGE_GAP = 1.0  # nats: an amortisation gap that is worth a finding
_TIGHTENING = 1.2  # ratio of rates, KL(q*) / KL(q): q is held nearer to the prior than log p(x) wants
_AGREEMENT = 0.9  # correlation of the means of q and q* above which the encoder points to the right place
_WIDE, _NARROW = 1.5, 0.67  # standard deviation of q(z) beside the 1 of the prior
_POINT = 0.1  # standard deviation of q(z|x) below which a code is next to a point


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or "healthy".

    Attributes:
        name: "posterior collapse", "lagging inference", "over-regularisation", "decay to an autoencoder",
            "scale at its floor" or "healthy".
        evidence: the numbers that say so.
        remedy: what to try.
    """

    name: str
    evidence: str
    remedy: str


def verdict(
    rate: Score, code: Aggregate, gap: InferenceGap | None = None, scale: "Scale | None" = None
) -> tuple[Finding, ...]:
    """The findings, the gravest first; see the thresholds at the top of this file.

    Args:
        rate: E KL(q(z|x), p(z)).
        code: the aggregate posterior.
        gap: the inference gap, or None where it is not known: then two of the findings cannot be made.
        scale: the learned scale of p(x|z), or None.
    """
    rules: list[Any] = [
        _collapse(rate, code),
        _lagging(gap),
        _over_regularised(gap),
        _autoencoder(rate, code),
        _floor(scale),
    ]
    found = tuple(finding for finding in rules if finding is not None)
    if found:
        return found
    units = f"{code.active_units} of {code.unit_variance.numel()} units are active, the rate is {rate.value:.2f} nats"
    loss = "" if gap is None else f", the encoder loses {gap.amortization.value:.2f} nats beside the best q per point"
    return (Finding(HEALTHY, units + loss + ".", "Nothing to mend by these signs."),)


def _collapse(rate: Score, code: Aggregate) -> Finding | None:
    if code.active_units and rate.value > _EMPTY_RATE:
        return None
    return Finding(
        "posterior collapse",
        f"{code.active_units} of {code.unit_variance.numel()} units are active (variance of E[z|x] above {ACTIVE}); "
        f"the rate is {rate.value:.3f} nats: q(z|x) is the prior whatever x is, and the decoder ignores z.",
        "Warm up beta from 0 (schedules.Linear), keep free bits (ELBO(free_bits=0.1)), take more encoder steps "
        "(Trainer(em_steps=(5, 1))), or weaken the decoder. A scale of p(x|z) that is fixed too large does it as well: "
        "learn the scale.",
    )


def _is_significant(gap: InferenceGap | None) -> bool:
    if gap is None:
        return False
    score = gap.amortization
    return score.value > _LARGE_GAP and not score.value < 3 * score.stderr


def _points_elsewhere(gap: InferenceGap) -> bool:
    return not gap.agreement > _AGREEMENT


def _lagging(gap: InferenceGap | None) -> Finding | None:
    if gap is None or not _is_significant(gap) or not _points_elsewhere(gap):
        return None
    return Finding(
        "lagging inference",
        f"Refining q for each point gains {gap.amortization.value:.2f} +- {gap.amortization.stderr:.2f} nats and moves "
        f"its mean elsewhere (correlation {gap.agreement:.2f} over {gap.num_points} points): the encoder does not "
        "follow the decoder, or does not generalise to these data.",
        "Take more encoder steps per decoder step (Trainer(em_steps=(5, 1)); He et al. 2019), train longer, or enlarge "
        "the encoder. If it happens on new data only, the encoder overfits: stop early (patience=), add data.",
    )


def _over_regularised(gap: InferenceGap | None) -> Finding | None:
    if gap is None or not _is_significant(gap) or _points_elsewhere(gap):
        return None
    if not gap.best_rate.value > _TIGHTENING * gap.rate.value:
        return None
    return Finding(
        "over-regularisation",
        f"q is held near the prior: at beta = 1 the best q per point has a rate of {gap.best_rate.value:.2f} nats "
        f"instead of {gap.rate.value:.2f}, and a bound that is {gap.amortization.value:.2f} +- "
        f"{gap.amortization.stderr:.2f} nats higher, with its mean in the same place.",
        "Lower beta towards 1, or end its schedule at 1.",
    )


def _autoencoder(rate: Score, code: Aggregate) -> Finding | None:
    active = code.unit_variance > ACTIVE
    if not bool(active.any()):
        return None
    std, width = float(code.std[active].median()), float(code.posterior_std[active].median())
    if width > _POINT or _NARROW < std < _WIDE:
        return None
    return Finding(
        "decay to an autoencoder",
        f"The codes are next to points (median standard deviation of q(z|x) {width:.3f}), and together they do not "
        f"look like the prior (median standard deviation of q(z) {std:.2f} instead of 1; rate {rate.value:.1f} nats): "
        "the prior draws codes that the decoder has never seen.",
        "Raise beta to 1: without the KL a VAE is an autoencoder. If beta is 1, the scale of p(x|z) is too small: "
        "learn it, or raise it.",
    )


def _floor(scale: "Scale | None") -> Finding | None:
    if scale is None or not scale.at_floor > 0.05:
        return None
    return Finding(
        "scale at its floor",
        f"{100 * scale.at_floor:.0f}% of the elements of x have a scale at the floor of the likelihood "
        f"({scale.smallest:.2g}): the density would grow without bound if it could.",
        "Drop constant columns, dequantise integers, or raise min_scale; compare such densities with care.",
    )


@dataclass(frozen=True)
class Scale:
    """The scale parameter of p(x|z) on some data, in model space.

    Attributes:
        smallest: over points and elements of x.
        median: likewise.
        largest: likewise.
        at_floor: share of the elements whose scale is within 1% of the floor that the likelihood sets; NaN without one.
    """

    smallest: float
    median: float
    largest: float
    at_floor: float


@dataclass(frozen=True)
class Diagnostics:
    """What `diagnostics` found. Nats; model space.

    Attributes:
        rate: E KL(q(z|x), p(z)), the R of the rate-distortion plane (Alemi et al. 2018).
        distortion: -E log p(x|z), its D; rate + distortion = -ELBO.
        kl_per_dimension: mean over x, shape Z; None unless q and p(z) factorise with a closed form.
        aggregate: active units, mutual information, and q(z) beside p(z).
        inference_gap: approximation and amortisation gap; None where the family of q is not known, or not asked for.
        scale: the learned scale of p(x|z); None where it has none.
        findings: the verdict, the gravest first; a single one named "healthy" where nothing is wrong.
        num_points: N.
    """

    rate: Score
    distortion: Score
    kl_per_dimension: Tensor | None
    aggregate: Aggregate
    inference_gap: InferenceGap | None
    scale: Scale | None
    findings: tuple[Finding, ...]
    num_points: int

    def results(self) -> list[Result]:
        """The numbers and the verdict as rows; a finding is a row of value 1 with evidence and remedy as its label.

        Names: `rate`, `distortion`, `active_units`, `num_units`, `mutual_information` (and its `limit`),
        `aggregate_gap`, `inference_gap.*` (as the attributes of `InferenceGap`), `scale.*`, `kl_per_dimension.1`, ...,
        `num_points`, `findings.*`.
        """
        code = self.aggregate
        limit, units = f"at most log {self.num_points} = {code.limit:.2f}", code.unit_variance.numel()
        rows = [
            of_score("rate", "rate, E KL(q(z|x), p(z))", self.rate),
            of_score("distortion", "distortion, -E log p(x|z), in model space", self.distortion),
            result("active_units", f"active units of {units}", code.active_units, unit="units"),
            result("num_units", "units", units, unit="units", detail=True),
            of_score("mutual_information", f"I(x; z), {limit}", code.mutual_information),
            result("mutual_information.limit", "limit of I(x; z), log N", code.limit, detail=True),
            of_score("aggregate_gap", "KL(q(z), p(z))", code.gap),
            *([] if self.inference_gap is None else nested("inference_gap", self.inference_gap.results())),
        ]
        if self.scale is not None:
            scales = {"smallest": self.scale.smallest, "median": self.scale.median, "largest": self.scale.largest}
            rows += [result(f"scale.{n}", f"scale of p(x|z), {n}", value, unit="") for n, value in scales.items()]
            label, no_floor = "share of scales of p(x|z) at the floor", "the likelihood sets no floor"
            rows.append(result("scale.at_floor", label, self.scale.at_floor, unit="", nan=no_floor))
        if self.kl_per_dimension is not None:
            values = self.kl_per_dimension.flatten().tolist()
            numbered = enumerate(values, 1)
            rows += [result(f"kl_per_dimension.{i}", f"KL of z{i}", value, detail=True) for i, value in numbered]
        rows.append(result("num_points", "rows of the diagnostics", self.num_points, unit="rows", detail=True))
        return rows + [
            Result(f"findings.{found.name.replace(' ', '_')}", f"{found.evidence} {found.remedy}", 1.0, unit="")
            for found in self.findings
        ]


def diagnostics(
    model: LatentVariableModel,
    x: Data,
    *,
    max_rows: int = 2000,
    num_gap_rows: int = 64,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Diagnostics:
    """Rate and distortion, active units, mutual information, the aggregate posterior, the inference gap, a verdict.

    Args:
        model: any object with `posterior`, `prior` and `likelihood`.
        x: data in their own units, shape (N, *X).
        max_rows: rows that are looked at, chosen at random where there are more: memory and time grow with its square.
        num_gap_rows: rows whose q is refined for the inference gap; 0 leaves it out.
        generator: source of the noise and of the choice of rows.
        progress: show a bar on stderr where that is a terminal.

    Returns:
        See `Diagnostics`.

    Raises:
        ShapeError, DataError, SupportError: if x does not fit the model, or has fewer than 2 rows.
        ConfigError: if `max_rows` is below 2.

    References:
        Alemi et al., "Fixing a broken ELBO", 2018, https://arxiv.org/abs/1711.00464; see also `evaluation.aggregate`
        and `evaluation.inference_gap`.
    """
    if max_rows < 2 or num_gap_rows < 0:
        raise ConfigError(f"max_rows is at least 2, num_gap_rows at least 0; got {max_rows} and {num_gap_rows}")
    view = View.of(model, x)
    refuse_context(view.context, "diagnostics")
    with engine.evaluating(model), engine.seeded(engine.draw_seed(generator)):
        if len(view) < 2:
            raise DataError(f"diagnostics compare rows with each other and need at least 2; got {len(view)}")
        y = view.batch(torch.randperm(len(view))[:max_rows], by_row=True).x
        code = aggregate(model, y)
        log_likelihood, rate = _terms(model, y)
        gap = inference_gap(model, y[:num_gap_rows], progress=progress) if num_gap_rows else None
        found: dict[str, Any] = {
            "rate": Score.of_mean(rate),
            "distortion": Score.of_mean(-log_likelihood),
            "kl_per_dimension": _kl_per_dimension(model, y),
            "aggregate": code,
            "inference_gap": gap,
            "scale": _scale(model, y[:256]),
            "num_points": len(y),
        }
    findings = verdict(found["rate"], code, gap, found["scale"])
    return Diagnostics(**found, findings=findings)


def _terms(model: LatentVariableModel, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both terms of the ELBO per row, with a few draws each, in batches."""
    parts = [bounds.elbo_terms(model, y[rows], 4) for rows in slices(len(y), 256)]
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def _kl_per_dimension(model: LatentVariableModel, y: Tensor) -> Tensor | None:
    try:
        return kl_per_dimension(model.posterior(y), model.prior()).double().mean(0).cpu()
    except ConfigError:
        return None


def _scale(model: LatentVariableModel, y: Tensor) -> Scale | None:
    """The `scale` of the elements of p(x|z) at draws from q, where the family has one that is learned."""
    p = model.likelihood(model.posterior(y).sample())
    scale = vars(elements(p)).get("scale")
    decoder = told(ModelTraits, model).decoder
    head = decoder.head if isinstance(decoder, Conditional) else None
    if not isinstance(scale, Tensor) or (head is not None and head.scale_is_fixed):
        return None
    values = scale.double().flatten()
    floor = None if head is None else head.min_scale
    at_floor = float((values < 1.01 * floor).double().mean()) if floor else float("nan")
    return Scale(float(values.min()), float(values.median()), float(values.max()), at_floor)
