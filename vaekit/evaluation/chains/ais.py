r"""Annealed importance sampling, from q(z|x) or the prior to p(z|x), and back again.

The path \( f_t(z) = p(z) p(x|z)^{\beta_t} \), \( 0 = \beta_0 < \dots < \beta_T = 1 \), leads from the prior, whose
constant is 1, to the joint, whose constant is p(x). With \( z_0 \sim p(z) \) and \( z_t \) from a kernel that leaves
\( f_t \) invariant,
\[ w = \prod_{t=1}^T f_t(z_{t-1}) / f_{t-1}(z_{t-1}) = \prod_t p(x|z_{t-1})^{\beta_t - \beta_{t-1}}, E[w] = p(x). \]
Run backwards from an exact \( z_{T-1} \sim p(z|x) \) the same product has \( E[1/w] = 1/p(x) \), for kernels that are
reversible, as HMC is. Neither proof allows a kernel that depends on the past of the chain which it moves, and a step
size adapted to the chain's own acceptance does. Here step sizes come from pilot chains, whose start and noise are their
own; the chains that carry weights find them fixed, so that both identities hold exactly.

References:
    Neal, "Annealed importance sampling", 2001, https://arxiv.org/abs/physics/9803008, sections 2 and 3.
    Grosse et al., "Sandwiching the marginal likelihood using bidirectional Monte Carlo", 2015,
    https://arxiv.org/abs/1511.02543.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from vaekit import engine
from vaekit.bounds import LatentVariableModel
from vaekit.errors import ConfigError, DataError, ShapeError
from vaekit.evaluation.chains.dynamics import (
    NEEDS,
    adapted,
    block_rows,
    check_counts,
    check_latents,
    evaluate,
    joint,
    prior_draws,
    temperatures,
    ticking,
    transition,
)
from vaekit.evaluation.estimate import HOLES, Estimate, Score
from vaekit.evaluation.weights import WeightSums
from vaekit.models.rows import as_tensor, given, slices
from vaekit.models.view import View
from vaekit.traits import Data

_MOST_PILOTS = 4  # their mean acceptance is noisy, but the rule that follows it averages over some ten transitions
_SETTLING = 20  # transitions of the pilots close to the prior, before the annealing
_LEAST_TUNING = 100  # transitions of the pilots after that: a short schedule leaves the rule too little time otherwise
_LOOKED_AT = 64  # draws from the prior at which p(x|z) is to have a number


@dataclass(frozen=True)
class Plan:
    """How much is computed: C chains, T steps of the schedule, L leapfrog steps of each transition.

    Raises:
        ConfigError: if one of them is below 1.
    """

    num_chains: int
    num_steps: int
    num_leapfrog: int

    def __post_init__(self) -> None:
        check_counts(num_chains=self.num_chains, num_steps=self.num_steps, num_leapfrog=self.num_leapfrog)

    @property
    def num_transitions(self) -> int:
        """T - 1: the weight is complete before a transition at beta = 1 would come."""
        return self.num_steps - 1


class AnnealedBlock:
    """The schedule of a block of points, tuned for each of them by pilot chains.

    Args:
        model: the model, in eval mode.
        y: data in model space, shape (B, *X).
        plan: how much is computed.
        tick: called once per transition.
    """

    def __init__(self, model: LatentVariableModel, y: Tensor, plan: Plan, tick: Callable[[], object]) -> None:
        self.prior, self.parts, self.num_rows = model.prior(), joint(model, y), len(y)
        self.plan, self.tick = plan, tick
        self.betas = temperatures(plan.num_steps)
        self.step_sizes = self._tuned() if plan.num_transitions else []

    def _tuned(self) -> list[Tensor]:
        """A step size per point, shape (B,), for each of beta_1 ... beta_{T-1}."""
        num_pilots = min(_MOST_PILOTS, math.ceil(self.plan.num_chains / 4))
        z, step_size = prior_draws(self.prior, num_pilots, self.num_rows)
        point, tuned = evaluate(self.parts, z), []
        repeats = math.ceil(_LEAST_TUNING / self.plan.num_transitions)
        for i, beta in enumerate(self.betas[1:-1]):
            for _ in range(repeats if i else repeats + _SETTLING):
                point, accepted = transition(self.parts, point, step_size, beta, self.plan.num_leapfrog)
                step_size = adapted(step_size, accepted)
            tuned.append(step_size)
            self.tick()
        return tuned

    def forward(self) -> tuple[Tensor, Tensor]:
        """log w of chains from prior draws, shape (C, B) in float64, and their mean acceptance, shape (B,)."""
        z, _ = prior_draws(self.prior, self.plan.num_chains, self.num_rows)
        return self._run(z, self.betas, self.step_sizes)

    def reverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """log 1/w of chains that all start at the exact draws z, shape (B, *Z), and their mean acceptance."""
        start = z.expand(self.plan.num_chains, *z.shape).clone()
        return self._run(start, self.betas[::-1], self.step_sizes[::-1])

    def has_holes(self) -> Tensor:
        """Where log p(x|z) is NaN at one of 64 draws from the prior, shape (B,), bool."""
        found, size = torch.zeros(self.num_rows, dtype=torch.bool), min(_LOOKED_AT, self.plan.num_chains)
        with torch.no_grad(), engine.seeded(0):
            for _ in range(math.ceil(_LOOKED_AT / size)):
                z, _ = prior_draws(self.prior, size, self.num_rows)
                found |= self.parts(z)[1].isnan().any(0).cpu()
        return found

    def _run(self, z: Tensor, betas: list[float], step_sizes: list[Tensor]) -> tuple[Tensor, Tensor]:
        r"""\( \sum_t (\beta_t - \beta_{t-1}) \log p(x|z_{t-1}) \), a move at beta_t after each term but the last."""
        point = evaluate(self.parts, z)
        log_weights = torch.zeros(z.shape[:2], dtype=torch.float64, device=z.device)
        acceptance = torch.zeros_like(log_weights[0])
        for t, (before, after) in enumerate(pairwise(betas)):
            log_weights += (after - before) * point.log_likelihood.double()
            if t < len(step_sizes):
                point, accepted = transition(self.parts, point, step_sizes[t], after, self.plan.num_leapfrog)
                acceptance += accepted.mean(0)
                self.tick()
        return log_weights, acceptance / (len(step_sizes) or math.nan)


class AnnealedSums:
    """What is kept of the chains of N points.

    Args:
        num_rows: N.
    """

    def __init__(self, num_rows: int) -> None:
        self.weights = WeightSums(num_rows)
        self.acceptance = torch.zeros(num_rows, dtype=torch.float64)
        self.offset = torch.zeros_like(self.acceptance)
        self.has_holes = torch.zeros(num_rows, dtype=torch.bool)

    def add(self, rows: slice, run: tuple[Tensor, Tensor], has_holes: Tensor) -> None:
        """Add what a run of `AnnealedBlock` returned for some rows, and whether those have holes."""
        self.weights.add(rows, run[0])
        self.acceptance[rows] = run[1].cpu()
        self.has_holes[rows] = has_holes

    def estimate(self, num_chains: int, quantity: str, *, reverse: bool) -> Estimate:
        """log of the mean of w, or in reverse minus log of the mean of 1/w."""
        log_mean = self.weights.log_mean(num_chains)
        return Estimate(
            value=(-log_mean if reverse else log_mean) + self.offset,
            stderr=self.weights.log_mean_stderr(num_chains),
            ess=self.weights.ess,
            max_weight=self.weights.max_weight,
            num_samples=num_chains,
            method="reverse ais" if reverse else "ais",
            quantity=quantity,
            terms={"acceptance": self.acceptance},
            doubts={HOLES: self.has_holes},
        )


@dataclass(frozen=True)
class Sandwich:
    """log p(x) of simulated points from both sides, in model space.

    Attributes:
        lower: annealed importance sampling, at most log p(x) in expectation.
        upper: the same in reverse from the z that made x, at least log p(x) in expectation.
        x: the simulated data in model space, shape (N, *X).
        z: the latents that made them, shape (N, *Z).
    """

    lower: Estimate
    upper: Estimate
    x: Tensor
    z: Tensor

    def __len__(self) -> int:
        return len(self.x)

    @property
    def gap(self) -> Score:
        """Mean of upper - lower in nats, which bounds the mean error of either, with its standard error.

        The standard error is that over the points, which are independent: it counts the noise of chains and of z.
        """
        gaps = self.upper.value - self.lower.value
        stderr = float(gaps.std() / math.sqrt(len(gaps))) if len(gaps) > 1 else math.nan
        return Score(float(gaps.mean()), stderr, {"lower": self.lower.mean, "upper": self.upper.mean})

    def __repr__(self) -> str:
        gap = self.gap
        return (
            f"Sandwich({self.lower.mean:.4f} <= log p(x) <= {self.upper.mean:.4f} nats in the mean, "
            f"gap {gap.value:.4f} +- {gap.stderr:.4f}, N={len(self)})"
        )


def ais(
    model: LatentVariableModel,
    x: Data,
    *,
    num_chains: int = 16,
    num_steps: int = 500,
    num_leapfrog: int = 10,
    z: Any = None,
    generator: torch.Generator | None = None,
    precision: engine.Precision = "float32",
    progress: bool = False,
) -> Estimate:
    r"""log p(x) of each row by annealed importance sampling with HMC, without q(z|x), in the units of x.

    \( \log \frac1C \sum_c w_c \): at most log p(x) in expectation, and exact as num_steps or num_chains grows. Use it
    where q is too narrow or misses modes, so that `log_marginal` stays too low without showing it, or to compare models
    that have no common q. It costs (num_chains + pilots) x num_steps x num_leapfrog gradients of the decoder per row,
    with a quarter as many pilots as chains, at most 4; more num_steps do more good than more chains.

    With `z`, a draw from p(z|x) per row (the z that simulated x is one), the chains run in reverse and the result,
    \( -\log \frac1C \sum_c 1/w_c \), is at least log p(x) in expectation over x and z. All chains of a row start at its
    one z: each of the 1/w is unbiased for 1/p(x), so is their mean, and Jensen's inequality does the rest. Its `stderr`
    is the error at that z; only the scatter over rows tells how much z itself adds. `bdmc` gives both sides at once.

    References:
        Neal, "Annealed importance sampling", 2001, https://arxiv.org/abs/physics/9803008.
        Wu et al., "On the quantitative analysis of decoder-based generative models", 2017,
        https://arxiv.org/abs/1611.04273.

    Args:
        model: any object with `prior` and `likelihood`, differentiable in z; its `transform` is applied.
        x: data in their own units, shape (N, *X).
        num_chains: C.
        num_steps: T, steps of the sigmoidal schedule. T = 1 is plain importance sampling from the prior.
        num_leapfrog: L, gradients per transition.
        z: exact posterior draws, shape (N, *Z), for the bound from above.
        generator: source of the noise; with one the result repeats bit for bit.
        precision: of matrix products inside the model's networks.
        progress: show a bar on stderr where that is a terminal.

    Returns:
        Per point, in nats; see `Estimate`. stderr, ess and max_weight are those of the C weights (in reverse of 1/w);
        few chains with uneven weights make stderr too small. `terms["acceptance"]`, shape (N,), is the mean acceptance
        of the HMC moves, NaN where there were none; far from 0.65 asks for more steps. Rows whose log p(x|z) is NaN at
        draws from the prior, which count as draws without mass, are `unreliable`.

    Raises:
        ShapeError, DataError, SupportError: if x or z does not fit the model.
        ConfigError: if a count is below 1, z is discrete or confined, the joint has no gradient in z, or z is given for
            data that are dequantised at random.

    Example:
        >>> import torch, vaekit as vk
        >>> with vk.engine.seeded(0):
        ...     model, _ = vk.presets.vae((3,), latent_dim=2, hidden=(8,), likelihood="normal")
        >>> x, noise = torch.zeros(1, 3), torch.Generator().manual_seed(0)
        >>> annealed = ais(model, x, num_steps=50, num_leapfrog=3, generator=noise)
        >>> weighted = vk.evaluation.log_marginal(model, x, num_samples=10_000, generator=noise)
        >>> abs(annealed.mean - weighted.mean) < 0.1
        True
    """
    plan = Plan(num_chains, num_steps, num_leapfrog)
    view = View.of(model, x, requires=NEEDS)
    check_latents(view.as_one)
    exact = None if z is None else _exact_draws(view.as_one, z, len(view), view.quantity)
    seed, device = engine.draw_seed(generator), view.device
    blocks = slices(len(view), block_rows(view, num_chains))
    tick = ticking(len(blocks) * 2 * plan.num_transitions, "annealing", progress)
    with torch.inference_mode(False), engine.evaluating_in(model, precision):
        sums = AnnealedSums(len(view))
        for i, rows in enumerate(blocks):
            with engine.seeded(engine.block_seed(seed, i)):
                batch = view.batch(rows, by_row=True)
                block = AnnealedBlock(given(view.model, batch.context), batch.x, plan, tick)
                run = block.forward() if exact is None else block.reverse(exact[rows].to(device))
                sums.add(rows, run, block.has_holes())
            sums.offset[rows] = batch.log_det.cpu()
    tick()
    estimate = sums.estimate(num_chains, view.quantity, reverse=exact is not None)
    return replace(estimate, transform_noise=view.transform_noise())


def _exact_draws(model: LatentVariableModel, z: Any, num_rows: int, quantity: str) -> Tensor:
    """The z given by the caller, checked, in the dtype of the prior."""
    if quantity == "bound on a mass":
        raise ConfigError(
            "the bound from above starts at draws from p(z|y); these data are dequantised into y by noise of "
            "which no z handed in can know. Use bdmc, which simulates y and z together."
        )
    with engine.evaluating(model), engine.seeded(0):
        like = model.prior().sample(torch.Size((1,)))
    z, expected = as_tensor(z).to(like), (num_rows, *model.prior().event_shape)
    if tuple(z.shape) != expected:
        raise ShapeError(f"expected z of shape {expected}, one exact posterior draw per row of x; got {tuple(z.shape)}")
    if not bool(z.isfinite().all()):
        raise DataError("z has values that are NaN or infinite; it holds one exact posterior draw per row of x.")
    result: Tensor = z
    return result


def bdmc(
    model: LatentVariableModel,
    num_points: int,
    *,
    num_chains: int = 16,
    num_steps: int = 500,
    num_leapfrog: int = 10,
    generator: torch.Generator | None = None,
    precision: engine.Precision = "float32",
    progress: bool = False,
) -> Sandwich:
    """Bidirectional Monte Carlo: simulate (x, z) from the model and enclose log p(x) from both sides.

    The gap bounds the mean error of `ais` with the same settings on the model's own samples, from 0 upwards: where it
    is some hundredths of a nat, those settings can be trusted. On real data, which the model may not resemble, it is
    an indication. It costs 2 x num_chains + pilots runs of the schedule per point.

    References:
        Grosse et al., "Sandwiching the marginal likelihood using bidirectional Monte Carlo", 2015,
        https://arxiv.org/abs/1511.02543.

    Args:
        model: any object with `prior` and `likelihood`, differentiable in z.
        num_points: N, points to simulate.
        num_chains: C, in each direction.
        num_steps: T, steps of the schedule in each direction.
        num_leapfrog: L, gradients per transition.
        generator: source of the noise; with one the result repeats bit for bit.
        precision: of matrix products inside the model's networks.
        progress: show a bar on stderr where that is a terminal.

    Returns:
        Both bounds with x and z; see `Sandwich`. x and log p(x) are in model space, in front of the model's transform,
        which need not have an inverse.

    Raises:
        ConfigError: if a count is below 1, z is discrete or confined, or the joint has no gradient in z.

    Example:
        >>> import torch, vaekit as vk
        >>> with vk.engine.seeded(0):
        ...     model, _ = vk.presets.vae((3,), latent_dim=2, hidden=(8,), likelihood="normal")
        >>> noise = torch.Generator().manual_seed(0)
        >>> sandwich = bdmc(model, 20, num_steps=30, num_leapfrog=3, generator=noise)
        >>> sandwich.lower.mean < sandwich.upper.mean + 0.1, sandwich.gap.value < 0.2
        (True, True)
    """
    plan = Plan(num_chains, num_steps, num_leapfrog)
    check_counts(num_points=num_points)
    check_latents(model)
    seed = engine.draw_seed(generator)
    without_transform: Any = SimpleNamespace(prior=model.prior, likelihood=model.likelihood)
    view = View.of(without_transform, requires=NEEDS)
    blocks = slices(num_points, block_rows(view, num_chains))
    tick = ticking(len(blocks) * 3 * plan.num_transitions, "annealing", progress)
    with torch.inference_mode(False), engine.evaluating_in(model, precision):
        lower, upper, points = AnnealedSums(num_points), AnnealedSums(num_points), []
        for i, rows in enumerate(blocks):
            with engine.seeded(engine.block_seed(seed, i)):
                z = prior_draws(model.prior(), 1, rows.stop - rows.start)[0].squeeze(0)
                x = model.likelihood(z).sample()
                block = AnnealedBlock(model, x, plan, tick)
                forward, reverse, has_holes = block.forward(), block.reverse(z), block.has_holes()
                lower.add(rows, forward, has_holes)
                upper.add(rows, reverse, has_holes)
            points.append((x.cpu(), z.cpu()))
    tick()
    return Sandwich(
        lower.estimate(num_chains, view.quantity, reverse=False),
        upper.estimate(num_chains, view.quantity, reverse=True),
        *(torch.cat(part) for part in zip(*points, strict=True)),
    )
