"""log p(x) by annealed importance sampling: a bound from below, one from above, and both of simulated data."""

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from vaekit import engine
from vaekit.bounds import LatentVariableModel
from vaekit.errors import ConfigError, DataError, ShapeError
from vaekit.evaluation.annealing import AnnealedBlock, AnnealedSums, Plan
from vaekit.evaluation.chains import NEEDS, block_rows, check_counts, check_latents, ticking
from vaekit.evaluation.dynamics import prior_draws
from vaekit.evaluation.estimate import Estimate, Score
from vaekit.models.rows import as_tensor, slices
from vaekit.models.view import View


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
    x: Any,
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
        of the HMC moves, NaN where there were none; far from 0.65 asks for more steps.

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
    check_latents(model)
    exact = None if z is None else _exact_draws(model, z, len(view), view.quantity)
    seed, device = engine.draw_seed(generator), view.device
    blocks = slices(len(view), block_rows(view, num_chains))
    tick = ticking(len(blocks) * 2 * plan.num_transitions, "annealing", progress)
    with torch.inference_mode(False), engine.evaluating_in(model, precision):
        sums = AnnealedSums(len(view))
        for i, rows in enumerate(blocks):
            with engine.seeded(engine.block_seed(seed, i)):
                batch = view.batch(rows)
                block = AnnealedBlock(model, batch.x, plan, tick)
                sums.add(rows, block.forward() if exact is None else block.reverse(exact[rows].to(device)))
            sums.offset[rows] = batch.log_det.cpu()
    tick()
    return sums.estimate(num_chains, view.quantity, reverse=exact is not None)


def _exact_draws(model: LatentVariableModel, z: Any, num_rows: int, quantity: str) -> Tensor:
    """The z given by the caller, checked, in the dtype of the prior."""
    if quantity == "bound on a mass":
        raise ConfigError(
            "the bound from above starts at draws from p(z|y); these data are dequantised into y by fresh noise, of "
            "which no z handed in can know. Use bdmc, which simulates y and z together."
        )
    with engine.evaluating(model), engine.seeded(0):
        like = model.prior().sample(torch.Size((1,)))
    z, expected = as_tensor(z).to(like), (num_rows, *model.prior().event_shape)
    if tuple(z.shape) != expected:
        raise ShapeError(f"expected z of shape {expected}, one exact posterior draw per row of x; got {tuple(z.shape)}")
    if not bool(z.isfinite().all()):
        raise DataError("z has values that are NaN or infinite; it holds one exact posterior draw per row of x.")
    return z


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
                lower.add(rows, block.forward())
                upper.add(rows, block.reverse(z))
            points.append((x.cpu(), z.cpu()))
    tick()
    return Sandwich(
        lower.estimate(num_chains, view.quantity, reverse=False),
        upper.estimate(num_chains, view.quantity, reverse=True),
        *(torch.cat(part) for part in zip(*points, strict=True)),
    )
