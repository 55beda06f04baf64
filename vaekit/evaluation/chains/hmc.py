"""Hamiltonian Monte Carlo of p(z|x), and whether its chains have converged.

Each chain is cut into halves, so that a drift within a chain shows like a difference between chains.

References:
    Gelman et al., "Bayesian data analysis", third edition, 2013, sections 11.4 and 11.5.
    Vehtari et al., "Rank-normalization, folding, and localization: an improved R-hat", 2021,
    https://arxiv.org/abs/1903.08008, section 3 (without the rank normalisation: the draws are taken as they are).
    Geyer, "Practical Markov chain Monte Carlo", 1992, https://doi.org/10.1214/ss/1177011137.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vaekit import engine
from vaekit.bounds import LatentVariableModel
from vaekit.errors import ConfigError
from vaekit.evaluation.chains.dynamics import (
    NEEDS,
    Parts,
    Point,
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
from vaekit.models.rows import given, slices
from vaekit.models.view import View
from vaekit.shapes import check_count
from vaekit.traits import Data


def _halves(draws: Tensor) -> Tensor:
    """(S, C, ...) to (S // 2, 2C, ...) in float64; of an odd S the middle draw is left out."""
    n = len(draws) // 2
    return torch.cat([draws[:n], draws[len(draws) - n :]], 1).double()


def _variances(halves: Tensor) -> tuple[Tensor, Tensor]:
    """W, the mean variance within chains, and the pooled estimate var+ = (n-1)/n W + B/n."""
    n = len(halves)
    within = halves.var(0).mean(0)
    return within, (n - 1) / n * within + halves.mean(0).var(0)


def split_r_hat(draws: Tensor) -> Tensor:
    r"""Potential scale reduction \( \hat R = \sqrt{\mathrm{var}^+ / W} \) of split chains, per element.

    Near 1 where the chains agree; above some 1.01 they have not mixed and their draws should not be used.

    Args:
        draws: S draws of C chains, shape (S, C, ...), S >= 4.

    Returns:
        Shape (...), float64. Infinite where chains stand still apart, NaN where all draws are the same.

    Example:
        >>> import torch
        >>> draws = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
        >>> round(float(split_r_hat(draws)), 2), round(float(split_r_hat(draws + torch.arange(4.0))), 1)
        (1.0, 1.6)
    """
    within, pooled = _variances(_halves(draws))
    return (pooled / within).sqrt()


def effective_sample_size(draws: Tensor) -> Tensor:
    r"""\( M n / \hat\tau \) of the mean over all chains, \( \hat\tau = -1 + 2 \sum_k \hat P_k \) (Vehtari et al. 2021).

    \( \hat P_k = \hat\rho_{2k} + \hat\rho_{2k+1} \) are sums of neighbouring autocorrelations, combined over the M
    halves of length n, cut at the first that is negative and made monotone (Geyer 1992).

    Args:
        draws: S draws of C chains, shape (S, C, ...), S >= 4.

    Returns:
        Shape (...), float64; at most \( M n \log_{10}(M n) \), which antithetic chains reach. NaN where all draws are
        the same.

    Example:
        >>> import torch
        >>> draws = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
        >>> 3500 < float(effective_sample_size(draws)) < 4500
        True
    """
    halves = _halves(draws)
    n, total = len(halves), halves.shape[0] * halves.shape[1]
    within, pooled = _variances(halves)
    spectrum = torch.fft.rfft(halves - halves.mean(0), n=2 * n, dim=0)  # padded, so that lags do not wrap around
    covariance = torch.fft.irfft(spectrum.abs().square(), n=2 * n, dim=0)[:n].mean(1) / (n - 1)
    rho = 1 - (within - covariance) / pooled
    pairs = rho[0 : n - n % 2 : 2] + rho[1::2]
    positive = (pairs > 0).cumprod(0)
    monotone = pairs.cummin(0).values
    tau = (2 * (positive * monotone).sum(0) - 1).clamp(min=1 / math.log10(total))
    result: Tensor = total / tau
    return result


@dataclass(frozen=True)
class PosteriorSamples:
    """Draws from p(z|x) for each of N points.

    Attributes:
        z: the draws, shape (num_samples, num_chains, N, *Z).
        r_hat: split R-hat per element of z, shape (N, *Z), float64; use the draws of a point only where it is near 1.
        ess: effective sample size of the mean of z over all draws, shape (N, *Z), float64.
        acceptance: mean probability of acceptance after the warm-up, shape (N,), float64.
        step_size: of the leapfrog steps after the warm-up, before their jitter, shape (N,), float64.
    """

    z: Tensor
    r_hat: Tensor
    ess: Tensor
    acceptance: Tensor
    step_size: Tensor

    def __len__(self) -> int:
        return self.z.shape[2]

    def __repr__(self) -> str:
        num_samples, num_chains = self.z.shape[:2]
        return (
            f"PosteriorSamples(num_samples={num_samples}, num_chains={num_chains}, N={len(self)}, largest R-hat "
            f"{float(self.r_hat.max()):.3f}, least ess {float(self.ess.min()):.0f}, mean acceptance "
            f"{float(self.acceptance.mean()):.2f})"
        )


def hmc_posterior(
    model: LatentVariableModel,
    x: Data,
    *,
    num_samples: int = 500,
    num_warmup: int = 300,
    num_chains: int = 4,
    num_leapfrog: int = 10,
    generator: torch.Generator | None = None,
    precision: engine.Precision = "float32",
    progress: bool = False,
) -> PosteriorSamples:
    r"""Draws from the exact posterior \( p(z|x) \propto p(x|z) p(z) \) of each row, which owe nothing to q(z|x).

    Use it to judge a fitted q, or where a mean over p(z|x) is wanted itself. It costs
    (num_warmup + num_samples) x num_chains x num_leapfrog gradients of the decoder per row. Chains do not travel
    between modes that are far apart; `r_hat` then is far from 1.

    Each chain starts at a draw from p(z), overdispersed with respect to p(z|x). The first third of the warm-up leads it
    from the prior to the posterior by annealing, so that no chain begins with the huge gradients of a code that
    explains nothing. All through the warm-up the step size of a point follows the mean acceptance of its chains
    towards 0.65; then it is fixed, at the geometric mean over the second half of the warm-up.

    References:
        Neal, "MCMC using Hamiltonian dynamics", 2011, https://arxiv.org/abs/1206.1901.
        Vehtari et al., "Rank-normalization, folding, and localization: an improved R-hat", 2021,
        https://arxiv.org/abs/1903.08008.

    Args:
        model: any object with `prior` and `likelihood`, differentiable in z; its `transform` is applied.
        x: data in their own units, shape (N, *X).
        num_samples: draws that each chain keeps, at least 4.
        num_warmup: transitions before them.
        num_chains: C; two or more, or R-hat compares only the halves of one chain.
        num_leapfrog: L, gradients per transition.
        generator: source of the noise; with one the result repeats bit for bit.
        precision: of matrix products inside the model's networks.
        progress: show a bar on stderr where that is a terminal.

    Returns:
        The draws and their diagnostics; see `PosteriorSamples`. On the CPU, in the dtype of the prior.

    Raises:
        ShapeError, DataError, SupportError: if x does not fit the model.
        ConfigError: if a count is too small, if z is discrete or confined, or if the joint has no gradient in z.

    Example:
        >>> import torch, vaekit as vk
        >>> with vk.engine.seeded(0):
        ...     model, _ = vk.presets.vae((3,), latent_dim=2, hidden=(8,), likelihood="normal")
        >>> noise = torch.Generator().manual_seed(0)
        >>> samples = hmc_posterior(model, torch.zeros(2, 3), num_samples=20, num_warmup=20, generator=noise)
        >>> samples.z.shape, samples.r_hat.shape
        (torch.Size([20, 4, 2, 2]), torch.Size([2, 2]))
    """
    check_counts(num_warmup=num_warmup, num_chains=num_chains, num_leapfrog=num_leapfrog)
    check_count(num_samples, "num_samples")
    if num_samples < 4:
        raise ConfigError(f"num_samples is at least 4, two for each half of a chain; got {num_samples}")
    view = View.of(model, x, requires=NEEDS)
    check_latents(view.as_one)
    seed = engine.draw_seed(generator)
    blocks = slices(len(view), block_rows(view, num_chains))
    tick = ticking(len(blocks) * (num_warmup + num_samples), "sampling", progress)
    num_rows = len(view)
    with torch.inference_mode(False), engine.evaluating_in(model, precision):
        acceptance, step_size = (torch.empty(num_rows, dtype=torch.float64) for _ in range(2))
        for i, rows in enumerate(blocks):
            with engine.seeded(engine.block_seed(seed, i)):
                batch = view.batch(rows, by_row=True)
                one = given(view.model, batch.context)
                parts = joint(one, batch.x)
                z, step = prior_draws(one.prior(), num_chains, rows.stop - rows.start)
                if i == 0:
                    draws = torch.empty(num_samples, num_chains, num_rows, *z.shape[2:], dtype=z.dtype)
                    r_hat, ess = (torch.empty(draws.shape[2:], dtype=torch.float64) for _ in range(2))
                point, step = _warmed_up(parts, z, step, num_warmup, num_leapfrog, tick)
                acceptance[rows] = _record(parts, point, step, num_leapfrog, draws[:, :, rows], tick)
            step_size[rows] = step.double().cpu()
            r_hat[rows], ess[rows] = split_r_hat(draws[:, :, rows]), effective_sample_size(draws[:, :, rows])
    tick()
    return PosteriorSamples(draws, r_hat, ess, acceptance, step_size)


def _warmed_up(
    parts: Parts, z: Tensor, step_size: Tensor, num_warmup: int, num_leapfrog: int, tick: Callable[[], object]
) -> tuple[Point, Tensor]:
    """Where the chains stand after the warm-up, and the step sizes that it found, shape (B,)."""
    point, log_step = evaluate(parts, z), torch.zeros_like(step_size)
    num_averaged = (num_warmup + 1) // 2
    annealing = temperatures(num_warmup // 3)[1:]
    for t in range(num_warmup):
        point, accepted = transition(parts, point, step_size, annealing[t] if t < len(annealing) else 1.0, num_leapfrog)
        step_size = adapted(step_size, accepted)
        if t >= num_warmup - num_averaged:
            log_step += step_size.log() / num_averaged
        tick()
    return point, log_step.exp()  # Polyak & Juditsky 1992: the average is less noisy than the last


def _record(
    parts: Parts, point: Point, step_size: Tensor, num_leapfrog: int, draws: Tensor, tick: Callable[[], object]
) -> Tensor:
    """Fill draws, shape (S, C, B, *Z), with one kernel throughout; return its mean acceptance, shape (B,)."""
    total = torch.zeros(draws.shape[2], dtype=torch.float64)
    for place in draws:
        point, accepted = transition(parts, point, step_size, 1.0, num_leapfrog)
        place.copy_(point.z)
        total += accepted.mean(0).cpu()
        tick()
    return total / len(draws)
