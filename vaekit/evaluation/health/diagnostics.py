"""Diagnostics of a model on some data, with the verdict that they support."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vaekit import bounds, engine
from vaekit.bounds import LatentVariableModel
from vaekit.columns import RowsAbout
from vaekit.errors import ConfigError, DataError
from vaekit.evaluation.estimate import Score
from vaekit.evaluation.health.aggregate import Aggregate, aggregate
from vaekit.evaluation.health.inference_gap import InferenceGap, inference_gap
from vaekit.evaluation.health.runaway import FEW, Runaway, runaway
from vaekit.evaluation.health.scale import Scale, learned_scale
from vaekit.evaluation.health.unlike import Unlike, unlike
from vaekit.evaluation.health.verdict import Finding, of_finding, of_other_rows, of_still_rows, verdict
from vaekit.evaluation.results import Result, nested, of_score, result
from vaekit.kl import kl_per_dimension
from vaekit.models.rows import Batch, given, slices
from vaekit.models.view import View
from vaekit.traits import Data


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
        runaway: columns on which the density runs away; None where there are none.
        unlike: which rows are unlike the training data; None where these are not described.
        findings: the verdict, the gravest first; a single one named "healthy" where nothing is wrong.
        num_points: N.
    """

    rate: Score
    distortion: Score
    kl_per_dimension: Tensor | None
    aggregate: Aggregate
    inference_gap: InferenceGap | None
    scale: Scale | None
    runaway: Runaway | None
    unlike: Unlike | None
    findings: tuple[Finding, ...]
    num_points: int

    def results(self) -> list[Result]:
        """The numbers and the verdict as rows; a finding is a row of value 1 with evidence and remedy as its label.

        Names: `rate`, `distortion`, `active_units`, `num_units`, `mutual_information` (and its `limit`),
        `aggregate_gap`, `inference_gap.*` (as the attributes of `InferenceGap`), `scale.*`, `kl_per_dimension.1`, ...,
        `num_points`, `unlike_rows` where the training data are described, `findings.*`.
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
        if self.unlike is not None:
            label = f"rows unlike the training data, of {len(self.unlike.rows):,}"
            rows.append(result("unlike_rows", label, self.unlike.count, unit="rows"))
        return rows + [of_finding(found, "findings.") for found in self.findings]


def diagnostics(
    model: LatentVariableModel,
    x: Data,
    *,
    max_rows: int = 2000,
    num_gap_rows: int = 64,
    described: RowsAbout | None = None,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Diagnostics:
    """Rate and distortion, active units, mutual information, the aggregate posterior, the inference gap, a verdict.

    Args:
        model: any object with `posterior`, `prior` and `likelihood`.
        x: data in their own units, shape (N, *X).
        max_rows: rows that are looked at, chosen at random where there are more: memory and time grow with its square.
        num_gap_rows: rows whose q is refined for the inference gap; 0 leaves it out.
        described: the training rows, as `Run.training_rows` has them. Rows that are unlike them are counted and left
            out of all numbers; where they are many, all rows are looked at, and that is the only finding. So it is
            where the rows hardly differ beside them.
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
    with engine.evaluating(model), engine.seeded(engine.draw_seed(generator)):
        if len(view) < 2:
            raise DataError(f"diagnostics compare rows with each other and need at least 2; got {len(view)}")
        order, others = torch.randperm(len(view)), None
        if described is not None:
            others = unlike(view.rows, described)
            order = order if others.are_many else order[~others.rows[order]]
        batch = view.batch(order[:max_rows], by_row=True)
        y = batch.x

        def under(num_rows: int | None) -> Any:  # the first rows' contexts alone, where there are any
            return given(view.model, None if batch.context is None else batch.context[:num_rows])

        model = under(None)
        code = aggregate(model, y)
        log_likelihood, rate = _terms(view.model, batch)
        first, gap = slice(num_gap_rows), None
        if num_gap_rows:
            offset = batch.log_det[first]
            gap = inference_gap(under(num_gap_rows), y[first], log_det=offset, progress=progress)
        names = described.names if described is not None else None
        found: dict[str, Any] = {
            "rate": Score.of_mean(rate),
            "distortion": Score.of_mean(-log_likelihood),
            "kl_per_dimension": _kl_per_dimension(model, y),
            "aggregate": code,
            "inference_gap": gap,
            "scale": learned_scale(under(FEW), y[:FEW]),
            "runaway": runaway(under(FEW), y, names) if view.quantity == "density" else None,
            "unlike": others,
            "num_points": len(y),
        }
    if others is not None and others.are_many:
        return Diagnostics(**found, findings=(of_other_rows(others),))
    if others is not None and others.hardly_differ:
        return Diagnostics(**found, findings=(of_still_rows(others),))
    findings = verdict(found["rate"], code, gap, found["scale"], found["runaway"], found["distortion"])
    return Diagnostics(**found, findings=_beside(findings, others))


def _beside(findings: tuple[Finding, ...], others: Unlike | None) -> tuple[Finding, ...]:
    """The findings, of which the first says which rows were left out."""
    if others is None or not others.count:
        return findings
    first, *rest = findings
    return (replace(first, evidence=f"{first.evidence} Left out: {others.evidence}"), *rest)


def _terms(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Both terms of the ELBO per row, with a few draws each, in batches."""
    some = [batch.part(rows) for rows in slices(len(batch), 256)]
    parts = [bounds.elbo_terms(given(model, part.context), part.x, 4) for part in some]
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def _kl_per_dimension(model: LatentVariableModel, y: Tensor) -> Tensor | None:
    try:
        return kl_per_dimension(model.posterior(y), model.prior()).double().mean(0).cpu()
    except ConfigError:
        return None
