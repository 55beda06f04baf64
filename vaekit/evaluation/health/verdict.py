"""The verdict on a model: what is wrong, by which evidence, and what mends it."""

from dataclasses import dataclass
from typing import Any

from vaekit.evaluation.estimate import Score
from vaekit.evaluation.health.aggregate import ACTIVE, Aggregate
from vaekit.evaluation.health.inference_gap import InferenceGap
from vaekit.evaluation.health.scale import Scale

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
    rate: Score, code: Aggregate, gap: InferenceGap | None = None, scale: Scale | None = None
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


def _floor(scale: Scale | None) -> Finding | None:
    if scale is None or not scale.at_floor > 0.05:
        return None
    return Finding(
        "scale at its floor",
        f"{100 * scale.at_floor:.0f}% of the elements of x have a scale at the floor of the likelihood "
        f"({scale.smallest:.2g}): the density would grow without bound if it could.",
        "Drop constant columns, dequantise integers, or raise min_scale; compare such densities with care.",
    )
