"""The verdict on a model: what is wrong, by which evidence, and what mends it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vaekit.evaluation.estimate import Score
from vaekit.evaluation.health.aggregate import ACTIVE, Aggregate
from vaekit.evaluation.health.inference_gap import InferenceGap
from vaekit.evaluation.health.runaway import Runaway
from vaekit.evaluation.health.scale import Scale
from vaekit.evaluation.health.unlike import Unlike
from vaekit.evaluation.results import FINDINGS, Result, Results, nats

HEALTHY, COLLAPSE, AUTOENCODER = "healthy", "posterior collapse", "decay to an autoencoder"
UNLIKE = "rows unlike the training data"
STILL, UNKNOWN = "rows that hardly differ", "training rows that are not described"
_EMPTY_RATE = 0.05  # nats: a code that carries less says nothing about x
_LITTLE_INFORMATION = 0.25  # nats: the codes tell apart fewer than exp(0.25) = 1.3 rows
_LARGE_GAP = 1.0  # nats: an amortisation gap that is worth a finding
_TIGHTENING = 1.2  # ratio of rates, KL(q*) / KL(q): q is held nearer to the prior than log p(x) wants
_AGREEMENT = 0.9  # correlation of the means of q and q* above which the encoder points to the right place
_WIDE, _NARROW = 1.5, 0.67  # standard deviation of q(z) beside the 1 of the prior
_POINT = 0.1  # standard deviation of q(z|x) below which a code is next to a point
_UNRESOLVED = 16.0  # nats a unit, log(1 / eps) of float32: a rate that tells apart more than numbers of z have digits
_BELIEVABLE, _PER_UNIT = 1e6, 1e3  # nats, and nats per unit: neighbouring float32 numbers of that size are 0.06 apart
_NO_DISTORTION = 1e12  # nats, whatever the number of elements of x
R_HAT = 1.1
"""Gelman & Rubin's limit for chains that agree. Vehtari et al. 2021 ask for 1.01 of draws that are to be used; this is
the worst of hundreds of numbers from short chains, of which some exceed that by chance."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or "healthy".

    Attributes:
        name: "rows unlike the training data", "rows that hardly differ", "training rows that are not described",
            "numbers beyond arithmetic", "posterior collapse", "next to no information", "lagging inference",
            "over-regularisation", "decay to an autoencoder", "runaway density", "amortisation gap",
            "scale at its floor", "chains that disagree", "log p that is too low" or "healthy".
        evidence: the numbers that say so.
        remedy: what to try.
    """

    name: str
    evidence: str
    remedy: str


def of_finding(finding: Finding, prefix: str) -> Result:
    """A finding as a row of value 1, with evidence and remedy as its label."""
    name = f"{prefix}{finding.name.replace(' ', '_')}"
    return Result(name, f"{finding.evidence} {finding.remedy}", 1.0, unit="")


def verdict(
    rate: Score,
    code: Aggregate,
    gap: InferenceGap | None = None,
    scale: Scale | None = None,
    runaway: Runaway | None = None,
    distortion: Score | None = None,
) -> tuple[Finding, ...]:
    """The findings, the gravest first; see the thresholds at the top of this file.

    Numbers that arithmetic does not support are the only finding where there are some: no other follows from them.

    Args:
        rate: E KL(q(z|x), p(z)).
        code: the aggregate posterior.
        gap: the inference gap, or None where it is not known: then three of the findings cannot be made.
        scale: the learned scale of p(x|z), or None.
        runaway: columns on which the density runs away, or None.
        distortion: -E log p(x|z), or None.
    """
    points, absurd = _points(rate, code), _absurd(rate, code, gap, distortion)
    if absurd is not None:
        return (points if points is not None and _are_finite(rate, code, gap, distortion) else absurd,)
    decay = _autoencoder(rate, code) or points
    rules: list[Finding | None] = [_collapse(rate, code) or _uninformative(rate, code), decay]
    if decay is None:  # of codes that are points any q per point is better, wherever its mean is
        rules += [_lagging(gap), _over_regularised(gap)]
        if not any(rules[1:]):
            rules.append(_amortisation(gap))
    rules.append(_floor(scale) if runaway is None else _runaway(runaway))
    found = tuple(finding for finding in rules if finding is not None)
    if found:
        return found
    units = f"{code.active_units} of {code.unit_variance.numel()} units are active, the rate is {nats(rate.value)} nats"
    loss = "" if gap is None else f", the encoder loses {nats(gap.amortization.value)} nats beside the best q per point"
    return (Finding(HEALTHY, units + loss + ".", "Nothing to mend by these signs."),)


def _absurd(rate: Score, code: Aggregate, gap: InferenceGap | None, distortion: Score | None) -> Finding | None:
    limit = max(_BELIEVABLE, _PER_UNIT * code.unit_variance.numel())
    numbers = [("the rate", rate, limit), ("I(x; z)", code.mutual_information, limit)]
    if distortion is not None:
        numbers.append(("the distortion", distortion, _NO_DISTORTION))
    if gap is not None:
        numbers.append(("the amortisation gap", gap.amortization, limit))
        numbers.append(("the approximation gap", gap.approximation, limit))
        numbers.append(("the rate of the best q", gap.best_rate, limit))
    bad = [f"{name} is {nats(score.value)} nats" for name, score, most in numbers if not abs(score.value) < most]
    if not bad:
        return None
    return Finding(
        "numbers beyond arithmetic",
        f"{', '.join(bad)}: floating-point numbers do not bear that, and no verdict on the model follows.",
        "Look at the rows: their units, and values far outside the training data. If they are in order, standardise "
        "the data (transform=standardize) and fit anew.",
    )


def _uninformative(rate: Score, code: Aggregate) -> Finding | None:
    information = code.mutual_information
    error = 0.0 if math.isnan(information.stderr) else information.stderr
    if code.limit < 2 * _LITTLE_INFORMATION or not information.value + error < _LITTLE_INFORMATION:
        return None
    return Finding(
        "next to no information",
        f"I(x; z) is {nats(information.value)} +- {nats(error)} nats, although the means of {code.active_units} of "
        f"{code.unit_variance.numel()} units vary over the data by more than {ACTIVE} (the rate is {nats(rate.value)} "
        "nats): the codes hardly tell one row from another.",
        "As against a collapse: warm up beta from 0 (schedules.Linear), keep free bits (ELBO(free_bits=0.1)), train "
        "longer, or learn the scale of p(x|z). If the columns of x are independent, there is nothing to tell.",
    )


def _collapse(rate: Score, code: Aggregate) -> Finding | None:
    if code.active_units and rate.value > _EMPTY_RATE:
        return None
    return Finding(
        COLLAPSE,
        f"{code.active_units} of {code.unit_variance.numel()} units are active (variance of E[z|x] above {ACTIVE}); "
        f"the rate is {rate.value:.3f} nats: q(z|x) is the prior whatever x is, and the decoder ignores z.",
        "Warm up beta from 0 (schedules.Linear), keep free bits (ELBO(free_bits=0.1)), take more encoder steps "
        "(Trainer(em_steps=(5, 1)), or em_steps=5,1 on the command line), or weaken the decoder. A scale of p(x|z) "
        "that is fixed too large does it as well: learn the scale.",
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
        f"Refining q for each point gains {nats(gap.amortization.value)} +- {nats(gap.amortization.stderr)} nats and "
        f"moves its mean elsewhere (correlation {gap.agreement:.2f} over {gap.num_points} points): the encoder does "
        "not follow the decoder, or does not generalise to these data.",
        "Take more encoder steps per decoder step (Trainer(em_steps=(5, 1)), or em_steps=5,1 on the command line; He "
        "et al. 2019), train longer, or enlarge the encoder. If it happens on new data only, the encoder overfits: "
        "stop early (patience=), add data.",
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
    least, most = _interval(std, round(math.exp(code.limit)))
    if width > _POINT or (most > _NARROW and least < _WIDE):
        return None
    return Finding(
        AUTOENCODER,
        f"The codes are next to points (median standard deviation of q(z|x) {width:.3f}), and together they do not "
        f"look like the prior (median standard deviation of q(z) {std:.2f} instead of 1; rate {rate.value:.1f} nats): "
        "the prior draws codes that the decoder has never seen.",
        "Raise beta to 1: without the KL a VAE is an autoencoder. If beta is 1, the scale of p(x|z) is too small: "
        "learn it, or raise it.",
    )


def _points(rate: Score, code: Aggregate) -> Finding | None:
    """Decay of another look: together the codes may look like the prior, but each is a point to the last digit."""
    active = code.unit_variance > ACTIVE
    num_active = int(active.sum())
    if not num_active or not rate.value > _UNRESOLVED * num_active:
        return None
    std, width = float(code.std[active].median()), float(code.posterior_std[active].median())
    if width > _POINT or _interval(std, round(math.exp(code.limit)))[0] >= _WIDE:
        return None
    return Finding(
        AUTOENCODER,
        f"The codes are points: the rate is {nats(rate.value)} nats, {nats(rate.value / num_active)} for each of "
        f"{num_active} active units, where numbers of the prior's size (standard deviation of q(z) {std:.2f}) tell "
        f"apart {_UNRESOLVED:.0f} in float32. Nothing held q(z|x) wide, and the prior draws codes between those "
        "that the decoder has seen.",
        "Raise beta to 1: without the KL a VAE is an autoencoder. If beta is 1, the scale of p(x|z) is too small: "
        "learn it, or raise it.",
    )


def _are_finite(rate: Score, code: Aggregate, gap: InferenceGap | None, distortion: Score | None) -> bool:
    """Whether all numbers are within what float32 bears at a loss of digits, though not more."""
    scores = [rate, code.mutual_information, *([] if distortion is None else [distortion])]
    scores += [] if gap is None else [gap.amortization, gap.approximation, gap.best_rate]
    return all(abs(score.value) < _NO_DISTORTION for score in scores)


def _interval(std: float, num_rows: int) -> tuple[float, float]:
    """The standard deviations of normal rows, so many, that may have shown this one: 99%, by the chi-squared law."""
    from scipy.special import chdtri  # type: ignore[import-untyped]

    if num_rows < 2:
        return 0.0, math.inf
    freedom = num_rows - 1
    least, most = (std * math.sqrt(freedom / chdtri(freedom, share)) for share in (0.005, 0.995))
    return float(least), float(most)


def _amortisation(gap: InferenceGap | None) -> Finding | None:
    if gap is None or not _is_significant(gap):
        return None
    return Finding(
        "amortisation gap",
        f"The best q per point has a bound that is {nats(gap.amortization.value)} +- {nats(gap.amortization.stderr)} "
        f"nats higher than the encoder's over {gap.num_points} points, with its mean in the same place (correlation "
        f"{gap.agreement:.2f}) and a rate of {nats(gap.best_rate.value)} instead of {nats(gap.rate.value)} nats.",
        "Train longer, enlarge the encoder, or refine q (preset semi-amortized). Bounds of few draws understate "
        "log p(x) by as much; log_marginal with many draws does not.",
    )


def _runaway(runaway: Runaway) -> Finding:
    named, more = "; ".join(runaway.columns[:5]), len(runaway.columns) - 5
    return Finding(
        "runaway density",
        f"{named}{f'; and {more} more' if more > 0 else ''}. A density has no bound on such columns: log p rises with "
        f"-log(scale), and p(x|z) has become ten times narrower than they are, or more. Some {runaway.nats:.1f} "
        "nats of log p(x|z) come from that alone, and say nothing of how well the model predicts.",
        "Drop these columns, dequantise whole numbers (add uniform noise; transform=dequantize where all columns are "
        "whole), or raise the floor (likelihood=normal:min_scale=0.1). Compare such densities with none of another "
        "model.",
    )


def chains(r_hat: float, where: str) -> Finding | None:
    """The finding that Markov chains of p(z|x) have not mixed, or None.

    Args:
        r_hat: the worst potential scale reduction; NaN or infinite where chains did not move.
        where: over what it is the worst.

    References:
        Vehtari et al., "Rank-normalization, folding, and localization: an improved R-hat", 2021,
        https://arxiv.org/abs/1903.08008.
    """
    if r_hat <= R_HAT:
        return None
    return Finding(
        "chains that disagree",
        f"The worst R-hat of {where} is {r_hat:.2f}, above {R_HAT}: the chains of HMC have not mixed, so p(z|x) has "
        "several modes or a shape that they do not follow. What the evaluation says of p(z|x), and AIS beside "
        "importance sampling, is not settled.",
        "Run longer chains (hmc_posterior(num_warmup=2000, num_samples=2000)), and look at the modes of their draws.",
    )


def too_low(gap: Result, others: Sequence[Result]) -> Finding | None:
    """The finding that log p(x) of the inference gap lies below another lower bound on it, or None.

    Both are bounds from below, of rows of the same kind: the lower one then misses the posterior, by a nat and by three
    standard errors over the rows at least.

    Args:
        gap: `log_marginal` of the inference gap.
        others: bounds of importance sampling or of annealing, each with its error over the rows.
    """
    found = []
    for other in others:
        if gap.value is None or other.value is None:
            continue
        excess = other.value - gap.value
        if excess > 1 + 3 * math.hypot(gap.sampling_stderr or 0.0, other.sampling_stderr or 0.0):
            found.append(f"{excess:.1f} nats below {nats(other.value)} ({other.label})")
    if not found:
        return None
    return Finding(
        "log p that is too low",
        f"{gap.label} is {nats(gap.value or 0.0)} nats, {' and '.join(found)}: no proposal covers p(z|x), and the "
        "approximation gap is too small by as much.",
        "Believe the higher bound; enclose log p(x) by evaluation.bdmc.",
    )


def of_other_rows(unlike: Unlike) -> Finding:
    """The finding that takes the place of a verdict on the model where many rows are unlike the training data."""
    return Finding(
        UNLIKE,
        f"{unlike.evidence} A verdict on the model needs rows like those that it was fitted to.",
        "Check units, columns and sensors; to detect such rows, `vaekit score` gives log p of each. If they are what "
        "the model is for, fit it to rows like them.",
    )


def of_still_rows(unlike: Unlike) -> Finding:
    """The finding that takes the place of a verdict where the rows hardly differ: so do their codes."""
    return Finding(
        STILL,
        f"The {len(unlike.rows):,} rows hardly differ: no column varies by more than {100 * unlike.spread:.2g}% of "
        "what it does over the training data. How their codes vary says nothing about the model.",
        "Look for a sensor that is stuck, or for one row many times; evaluate rows that vary as training rows do.",
    )


def of_unknown_rows() -> Finding:
    """The finding that takes the place of a verdict where nothing tells whether rows are like the training data."""
    return Finding(
        UNKNOWN,
        "The run has no description of the rows that it was fitted to, and those are not at hand, so nothing tells "
        "whether these rows are like them. A verdict on the model needs that.",
        "Fit anew, which keeps a description, or evaluate what the run was fitted to; look at log p of each row "
        "(vaekit score).",
    )


def held_back(results: Results) -> Results:
    """The results with `of_unknown_rows` in the place of all that they find; the numbers stay."""
    kept = tuple(row for row in results.rows if FINDINGS not in row.name)
    return replace(results, rows=(*kept, of_finding(of_unknown_rows(), FINDINGS)))


def _floor(scale: Scale | None) -> Finding | None:
    if scale is None or not scale.at_floor > 0.05:
        return None
    return Finding(
        "scale at its floor",
        f"{100 * scale.at_floor:.0f}% of the elements of x have a scale at the floor of the likelihood "
        f"({scale.smallest:.2g}): the density would grow without bound if it could.",
        "Drop constant columns, dequantise integers, or raise min_scale; compare such densities with care.",
    )
