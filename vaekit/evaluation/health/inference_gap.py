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
from torch.distributions import Distribution, Independent, Normal

from vaekit import bounds, engine
from vaekit.bounds import LatentVariableModel
from vaekit.conditional import Conditional
from vaekit.distributions import Product
from vaekit.evaluation.estimate import Score
from vaekit.evaluation.health.aggregate import posterior_moments
from vaekit.evaluation.results import Result, of_score, result
from vaekit.evaluation.weights import RunningMoments, WeightSums
from vaekit.progress import track
from vaekit.traits import ModelTraits, told

_BLOCK = 64  # draws per pass


@dataclass(frozen=True)
class InferenceGap:
    """The two gaps on some points, in nats, with standard errors over the points.

    Attributes:
        log_marginal: log p(x) by importance sampling from q or q*, for each point the one of the greater ess. It is low
            where the weights are poor, and the approximation gap with it.
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
        gaps = {"approximation": f"approximation gap, {rows}", "amortization": f"amortisation gap, {rows}"}
        parts = {
            "log_marginal": f"log p(x) for the gaps, {rows}",
            "elbo": f"ELBO of q, {rows}",
            "best_elbo": f"ELBO of the best q per point, {rows}",
            "rate": f"rate of q, {rows}",
            "best_rate": f"rate of the best q per point, {rows}",
        }
        found = [of_score(name, label, getattr(self, name)) for name, label in gaps.items()]
        found += [of_score(name, label, getattr(self, name), detail=True) for name, label in parts.items()]
        label = f"agreement of the means of q and the best q, {rows}"
        agreement = result("agreement", label, self.agreement, unit="", nan="the means do not vary over the rows")
        num_points = result("num_points", "rows of the gaps", self.num_points, unit="rows", detail=True)
        return [*found, agreement, num_points]


Local = tuple[Tensor, Callable[[Tensor], Distribution]]


def local_family(model: LatentVariableModel, y: Tensor) -> Local | None:
    """Parameters of q(z|x) per point, a tensor with rows of their own, and how they make a distribution.

    The family is that of the encoder's head where the model has one, else the Gaussian family of what `posterior`
    returns; None where neither is known.
    """
    encoder = told(ModelTraits, model).encoder
    if isinstance(encoder, Conditional):
        return encoder.params(y), encoder.head
    q = model.posterior(y)
    if isinstance(q, Product) and isinstance(q.base, Normal):
        base, ndims = q.base, q.event_ndims
    elif isinstance(q, Independent) and isinstance(q.base_dist, Normal):
        base, ndims = q.base_dist, q.reinterpreted_batch_ndims
    else:
        return None
    params = torch.stack([base.loc.expand(q.batch_shape + q.event_shape), base.scale.log().expand_as(base.loc)], 1)
    return params, lambda p: Product(Normal(p[:, 0], p[:, 1].exp(), validate_args=False), ndims)


def inference_gap(
    model: LatentVariableModel,
    y: Tensor,
    *,
    num_samples: int = 500,
    num_steps: int = 400,
    learning_rate: float = 0.02,
    progress: bool = False,
) -> InferenceGap | None:
    """Both gaps on the rows of y; call it in eval mode and with a seed.

    Args:
        model: any object with the three methods; its parameters stay as they are.
        y: data in model space, shape (N, *X); some dozens of rows are enough.
        num_samples: draws per point for each ELBO and for log p(x).
        num_steps: steps of Adam on the parameters of each q, whose rate falls to 0 along a cosine.
        learning_rate: of these steps, in units of the raw parameters.
        progress: show a bar on stderr where that is a terminal.

    Returns:
        None where the family of q is not known, or has no reparameterised draws.
    """
    family = local_family(model, y)
    if family is None or not family[1](family[0]).has_rsample:
        return None
    start, make = family
    best = _refined(model, y, start.detach(), make, num_steps, learning_rate, progress)
    q, q_best = make(start), make(best)
    elbo, rate, weights = _bounds(model, q, y, num_samples)
    best_elbo, best_rate, best_weights = _bounds(model, q_best, y, num_samples)
    # By the ess, not by the value: the greater of two noisy values is too great.
    estimates = best_weights.log_mean(num_samples), weights.log_mean(num_samples)
    log_marginal = torch.where(best_weights.ess > weights.ess, *estimates)
    return InferenceGap(
        log_marginal=Score.of_mean(log_marginal),
        elbo=Score.of_mean(elbo),
        best_elbo=Score.of_mean(best_elbo),
        approximation=Score.of_mean(log_marginal - best_elbo),
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
    """The parameters of q*, by Adam on the sum of the points' ELBOs: each point has parameters of its own."""
    params = nn.Parameter(start.clone())
    optimizer = engine.Adam([params], lr=learning_rate)
    steps = range(num_steps)
    with torch.enable_grad():
        for i in track(steps, "refining q") if progress else steps:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * i / num_steps))
            log_likelihood, kl = bounds.elbo_terms(model, y, 8, posterior=make(params))
            # Not backward(): the model's own parameters must not receive gradients.
            (params.grad,) = torch.autograd.grad((kl - log_likelihood).sum(), params)
            optimizer.step()
    return params.detach()


def _bounds(
    model: LatentVariableModel, q: Distribution, y: Tensor, num_samples: int
) -> tuple[Tensor, Tensor, WeightSums]:
    """ELBO with the sampled KL, and that KL, shape (N,) each, and the sums of the importance weights."""
    rows = slice(0, len(y))
    weights, values, rates = WeightSums(len(y)), RunningMoments(len(y)), RunningMoments(len(y))
    for start in range(0, num_samples, _BLOCK):
        draws = bounds.draw_from(model, q, y, min(_BLOCK, num_samples - start))
        weights.add(rows, draws.log_weights)
        values.add(rows, draws.log_weights)
        rates.add(rows, draws.log_posterior - draws.log_prior)
    return values.mean, rates.mean, weights


def _agreement(q: Distribution, best: Distribution) -> float:
    """Correlation of the means, pooled over dimensions after each is centred."""
    a, b = (posterior_moments(d, 64)[0].flatten(1) for d in (q, best))
    a, b = a - a.mean(0), b - b.mean(0)
    scale = (a.square().sum() * b.square().sum()).sqrt()
    return float((a * b).sum() / scale) if float(scale) > 0 else math.nan
