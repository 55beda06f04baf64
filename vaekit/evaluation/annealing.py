r"""Annealed importance sampling of a block of points, forwards and in reverse: the weights behind `ais` and `bdmc`.

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
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from vaekit.bounds import LatentVariableModel
from vaekit.evaluation.chains import check_counts
from vaekit.evaluation.dynamics import adapted, evaluate, joint, prior_draws, temperatures, transition
from vaekit.evaluation.estimate import Estimate
from vaekit.evaluation.sums import WeightSums

_MOST_PILOTS = 4  # their mean acceptance is noisy, but the rule that follows it averages over some ten transitions
_SETTLING = 20  # transitions of the pilots close to the prior, before the annealing
_LEAST_TUNING = 100  # transitions of the pilots after that: a short schedule leaves the rule too little time otherwise


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

    def add(self, rows: slice, run: tuple[Tensor, Tensor]) -> None:
        """Add what a run of `AnnealedBlock` returned for some rows."""
        self.weights.add(rows, run[0])
        self.acceptance[rows] = run[1].cpu()

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
        )
