r"""Why the ELBO lies below log p(x): the family of q, or the encoder.

\[ \log p(x) - \mathrm{ELBO}(q) = \underbrace{\log p(x) - \mathrm{ELBO}(q^*)}_{\text{approximation gap}}
+ \underbrace{\mathrm{ELBO}(q^*) - \mathrm{ELBO}(q)}_{\text{amortisation gap}} \]
where q* is the best member of the family of q for this one point, found by gradient steps on its own parameters.

References:
    Cremer et al., "Inference suboptimality in variational autoencoders", 2018, https://arxiv.org/abs/1801.03558.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from vaekit import bounds, engine
from vaekit.bounds import LatentVariableModel
from vaekit.conditional import Conditional
from vaekit.distributions import Product
from vaekit.evaluation.estimate import Score
from vaekit.evaluation.health.aggregate import posterior_moments
from vaekit.evaluation.proposals import BLOCK, gathered, log_marginal
from vaekit.evaluation.results import Result, of_score, result
from vaekit.evaluation.weights import RunningMoments
from vaekit.kl import as_own
from vaekit.progress import track
from vaekit.traits import ModelTraits, told


@dataclass(frozen=True)
class InferenceGap:
    """The two gaps on some points, in nats, with standard errors over the points.

    Attributes:
        log_marginal: log p(x) by importance sampling from the mixture of q, q*, the prior and a wider proposal that is
            fitted to the slope of log p(x, z). It is low where none of them covers the posterior, and the approximation
            gap with it. Like the two bounds it is in the units of the data.
        elbo: ELBO(q) of the encoder.
        best_elbo: ELBO(q*).
        approximation: log p(x) - ELBO(q*).
        amortization: ELBO(q*) - ELBO(q).
        rate: KL(q, p(z)).
        best_rate: KL(q*, p(z)).
        agreement: correlation over the points of the means of q and of q*, weighted by the variance of the latter; NaN
            where those do not vary.
        num_points: N.
    """

    log_marginal: Score
    elbo: Score
    best_elbo: Score
    approximation: Score
    amortization: Score
    rate: Score
    best_rate: Score
    agreement: float
    num_points: int

    def results(self) -> list[Result]:
        """The numbers as rows, named as the attributes."""
        rows = f"{self.num_points} rows"
        found = [
            of_score("approximation", f"approximation gap, {rows}", self.approximation),
            of_score("amortization", f"amortisation gap, {rows}", self.amortization),
            of_score("log_marginal", f"log p(x) for the gaps, {rows}", self.log_marginal, detail=True),
            of_score("elbo", f"ELBO of q, {rows}", self.elbo, detail=True),
            of_score("best_elbo", f"ELBO of the best q per point, {rows}", self.best_elbo, detail=True),
            of_score("rate", f"rate of q, {rows}", self.rate, detail=True),
            of_score("best_rate", f"rate of the best q per point, {rows}", self.best_rate, detail=True),
        ]
        label = f"agreement of the means of q and the best q, {rows}"
        agreement = result("agreement", label, self.agreement, unit="", nan="the means do not vary over the rows")
        num_points = result("num_points", "rows of the gaps", self.num_points, unit="rows", detail=True)
        return [*found, agreement, num_points]


_DRAWS = 8  # per step and point; four times as many in the steps that are averaged

Local = tuple[Tensor, Callable[[Tensor], Distribution]]


def local_family(model: LatentVariableModel, y: Tensor) -> Local | None:
    """Parameters of q(z|x) per point, a tensor with rows of their own, and how they make a distribution.

    The family is that of the encoder's head where the model has one, else the Gaussian family of what `posterior`
    returns; None where neither is known.
    """
    encoder = told(ModelTraits, model).encoder
    if isinstance(encoder, Conditional):
        return encoder.params(y), encoder.head
    q = as_own(model.posterior(y))
    if not isinstance(q, Product) or not isinstance(q.base, Normal):
        return None
    base, ndims = q.base, q.event_ndims
    params = torch.stack([base.loc.expand(q.batch_shape + q.event_shape), base.scale.log().expand_as(base.loc)], 1)
    return params, lambda p: Product(Normal(p[:, 0], p[:, 1].exp(), validate_args=False), ndims)


def inference_gap(
    model: LatentVariableModel,
    y: Tensor,
    *,
    num_samples: int = 500,
    num_steps: int = 300,
    learning_rate: float = 0.05,
    log_det: Tensor | None = None,
    progress: bool = False,
) -> InferenceGap | None:
    """Both gaps on the rows of y; call it in eval mode and with a seed.

    Args:
        model: any object with the three methods; its parameters stay as they are.
        y: data in model space, shape (N, *X); some dozens of rows are enough.
        num_samples: draws per point for each ELBO, and of each proposal for log p(x).
        num_steps: steps of Adam on the parameters of each q, whose rate falls to a fifth along a cosine. q* is the mean
            of the last third of them, or q itself for a point where fresh draws find that mean no better.
        learning_rate: of the first step, in units of the raw parameters.
        log_det: log|det| of the transform at each row, shape (N,), which turns log p of y into that of x, as in
            `log_marginal`; None is 0. The gaps do not depend on it.
        progress: show a bar on stderr where that is a terminal.

    Returns:
        None where the family of q is not known, or has no reparameterised draws.
    """
    family = local_family(model, y)
    if family is None or not family[1](family[0]).has_rsample:
        return None
    start, make = family
    best = _refined(model, y, start.detach(), make, num_steps, learning_rate, progress)
    q, seeds = make(start), (engine.draw_seed(None), engine.draw_seed(None))
    found, own = (_bounds(model, one, y, 2 * BLOCK, seeds[0])[0] for one in (make(best), q))
    is_better = found > own.nan_to_num(nan=-math.inf)
    best = torch.where(is_better.to(best.device).reshape(-1, *[1] * (best.ndim - 1)), best, start)
    q_best = make(best)
    # Draws of their own: those that chose q* would flatter it.
    elbo, rate = _bounds(model, q, y, num_samples, seeds[1])
    best_elbo, best_rate = _bounds(model, q_best, y, num_samples, seeds[1])
    evidence = log_marginal(model, y, gathered(model, q, q_best, y), num_samples)
    offset = torch.zeros_like(evidence) if log_det is None else log_det.to(evidence)
    return InferenceGap(
        log_marginal=Score.of_mean(evidence + offset),
        elbo=Score.of_mean(elbo + offset),
        best_elbo=Score.of_mean(best_elbo + offset),
        approximation=Score.of_mean(evidence - best_elbo),
        amortization=Score.of_mean(best_elbo - elbo),
        rate=Score.of_mean(rate),
        best_rate=Score.of_mean(best_rate),
        agreement=_agreement(q, q_best),
        num_points=len(y),
    )


def _refined(
    model: LatentVariableModel,
    y: Tensor,
    start: Tensor,
    make: Callable[[Tensor], Distribution],
    num_steps: int,
    learning_rate: float,
    progress: bool,
) -> Tensor:
    """The parameters of q*, by Adam on the sum of the points' ELBOs: each point has parameters of its own.

    They are the mean over the last third of the steps. These take more draws and are not much smaller than the others:
    a rate that falls to 0 would keep the noise of the first two thirds.
    """
    params = nn.Parameter(start.clone())
    optimizer = engine.Adam([params], lr=learning_rate)
    steps, num_averaged = range(num_steps), -(-num_steps // 3)
    total = torch.zeros_like(start)
    with torch.enable_grad():
        for i in track(steps, "refining q") if progress else steps:
            is_averaged = i >= num_steps - num_averaged
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * (0.6 + 0.4 * math.cos(math.pi * i / num_steps))
            draws = 4 * _DRAWS if is_averaged else _DRAWS
            log_likelihood, kl = bounds.elbo_terms(model, y, draws, posterior=make(params))
            # Not backward(): the model's own parameters must not receive gradients.
            (params.grad,) = torch.autograd.grad((kl - log_likelihood).sum(), params)
            optimizer.step()
            if is_averaged:
                total += params.detach()
    return total / num_averaged if num_averaged else start


def _bounds(
    model: LatentVariableModel, q: Distribution, y: Tensor, num_samples: int, seed: int
) -> tuple[Tensor, Tensor]:
    """ELBO with the sampled KL, and that KL, shape (N,) each; the noise of two q with one seed is the same."""
    rows = slice(0, len(y))
    values, rates = RunningMoments(len(y)), RunningMoments(len(y))
    with engine.seeded(seed):
        for start in range(0, num_samples, BLOCK):
            draws = bounds.draw_from(model, q, y, min(BLOCK, num_samples - start))
            values.add(rows, draws.log_weights)
            rates.add(rows, draws.log_posterior - draws.log_prior)
    return values.mean, rates.mean


def _agreement(q: Distribution, best: Distribution) -> float:
    """Correlation of the means, pooled over dimensions after each is centred."""
    a, b = (posterior_moments(d, 64)[0].flatten(1) for d in (q, best))
    a, b = a - a.mean(0), b - b.mean(0)
    scale = (a.square().sum() * b.square().sum()).sqrt()
    return float((a * b).sum() / scale) if float(scale) > 0 else math.nan
