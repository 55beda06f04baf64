r"""Hamiltonian dynamics on p(x, z), and the chains that follow them.

The target is \( p(z) p(x|z)^\beta \), the tempered joint; \( \beta = 1 \) is the posterior up to its constant, and
annealing walks \( \beta \) from 0 to 1. The two parts of the log-density and their gradients are kept apart, so that
a new temperature costs no new pass of the decoder: a transition of L leapfrog steps costs exactly L gradients.

Shapes: z is (C, B, *Z) for C chains of each of B points, log-densities are (C, B), step sizes (B,).

References:
    Neal, "MCMC using Hamiltonian dynamics", 2011, https://arxiv.org/abs/1206.1901.
    Wu et al., "On the quantitative analysis of decoder-based generative models", 2017,
    https://arxiv.org/abs/1611.04273.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit import engine
from vaekit.bounds import LatentVariableModel, log_likelihood_at
from vaekit.errors import ConfigError
from vaekit.models.draws import chunk_size
from vaekit.models.view import View
from vaekit.progress import track
from vaekit.shapes import check_count

TARGET_ACCEPTANCE = 0.65  # optimal for HMC in many dimensions (Neal 2011; Beskos et al. 2013), as in Wu et al. 2017
_GAIN = 0.2  # of the step-size rule: an e-fold takes 8 rejections or 15 acceptances; the noise it leaves is some 6%
_JITTER = 0.2

Parts = Callable[[Tensor], tuple[Tensor, Tensor]]
"""z of shape (C, B, *Z) to log p(z) and log p(x|z), each of shape (C, B)."""


class Point(NamedTuple):
    """Where the chains stand, with all that a transition at any temperature needs to know there."""

    z: Tensor
    log_prior: Tensor
    log_likelihood: Tensor
    prior_gradient: Tensor
    likelihood_gradient: Tensor

    def log_density(self, beta: float) -> Tensor:
        """log p(z) + beta log p(x|z), shape (C, B), in float64; beta > 0."""
        return self.log_prior.double() + beta * self.log_likelihood.double()

    def gradient(self, beta: float) -> Tensor:
        """Its gradient in z, shape (C, B, *Z)."""
        return self.prior_gradient + beta * self.likelihood_gradient


def joint(model: LatentVariableModel, y: Tensor) -> Parts:
    """The two parts of log p(y, z) as a function of z, for rows y in model space, shape (B, *X)."""
    prior = model.prior()
    y = y.clone() if y.is_inference() else y  # autograd refuses tensors that were made in inference mode

    def parts(z: Tensor) -> tuple[Tensor, Tensor]:
        return prior.log_prob(z), log_likelihood_at(model, z, y)

    return parts


def evaluate(parts: Parts, z: Tensor) -> Point:
    """Both parts and their gradients at z; parameters get no gradients, whatever the caller's gradient mode.

    A density that is NaN counts as 0. A gradient that is not finite counts as 0, too: leapfrog is reversible and keeps
    volumes with any function of z in the place of the gradient, so that the kernel stays exact.

    Raises:
        ConfigError: if a part has no gradient in z.
    """
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        log_prior, log_likelihood = parts(leaf)
        gradients = [
            _gradient(name, value, leaf)
            for name, value in (("prior's log p(z)", log_prior), ("likelihood's log p(x|z)", log_likelihood))
        ]
    densities = (torch.where(v.isnan(), -torch.inf, v.detach()) for v in (log_prior, log_likelihood))
    return Point(leaf.detach(), *densities, *gradients)


def _gradient(name: str, value: Tensor, leaf: Tensor) -> Tensor:
    gradient = None
    if value.requires_grad:
        # Each value depends on its own z only, so that the gradient of the sum is the gradient of each.
        (gradient,) = torch.autograd.grad(value.sum(), leaf, retain_graph=True, allow_unused=True)
    if gradient is None:
        raise ConfigError(
            f"Hamiltonian Monte Carlo needs the gradient in z of the {name}; it has none (it does not depend on z, or "
            "is computed without gradients). Make it differentiable in z, or use log_marginal (importance sampling)."
        )
    return gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def leapfrog(
    parts: Parts, start: Point, momentum: Tensor, step_size: Tensor, beta: float, num_leapfrog: int
) -> tuple[Point, Tensor, Tensor]:
    r"""L steps of \( p \gets p + \frac\epsilon2 g(z), z \gets z + \epsilon p, p \gets p + \frac\epsilon2 g(z) \).

    Args:
        parts: the target.
        start: where the trajectories begin.
        momentum: shape (C, B, *Z); masses are 1.
        step_size: broadcastable to (C, B, *Z).
        beta: inverse temperature.
        num_leapfrog: L.

    Returns:
        The end, its momentum, and whether z stayed finite, shape (C, B); a trajectory that did not ends anywhere.
    """
    finite = torch.ones(start.z.shape[:2], dtype=torch.bool, device=start.z.device)
    point, momentum = start, momentum + step_size / 2 * start.gradient(beta)
    for i in range(num_leapfrog):
        z = point.z + step_size * momentum
        finite = finite & _flat(z).isfinite().all(-1)
        # Models that check their arguments refuse NaN: what has left the numbers goes on from the start.
        point = evaluate(parts, torch.where(_unflat(finite, z), z, start.z))
        kick = step_size if i < num_leapfrog - 1 else step_size / 2
        momentum = momentum + kick * point.gradient(beta)
    return point, momentum, finite


def transition(parts: Parts, start: Point, step_size: Tensor, beta: float, num_leapfrog: int) -> tuple[Point, Tensor]:
    r"""One HMC move of every chain, reversible with respect to \( p(z) p(x|z)^\beta \) (Neal 2011).

    Momenta are drawn afresh; each chain's step size is jittered by 20%, so that no trajectory closes on itself.

    Args:
        parts: the target.
        start: where the chains stand.
        step_size: per point, shape (B,); it must not depend on where these chains are.
        beta: inverse temperature.
        num_leapfrog: L.

    Returns:
        Where the chains stand now, and the probabilities with which they accepted, shape (C, B).
    """
    momentum = torch.randn_like(start.z)
    jitter = 1 + _JITTER * (2 * torch.rand_like(start.log_prior) - 1)
    step = _unflat((jitter * step_size).to(start.z), start.z)
    end, last, finite = leapfrog(parts, start, momentum, step, beta, num_leapfrog)
    after = end.log_density(beta) - _kinetic(last)
    change = after - (start.log_density(beta) - _kinetic(momentum))
    log_ratio = torch.where(finite & after.isfinite(), change, -torch.inf)  # energies that are not finite: rejected
    accepted = torch.rand_like(log_ratio).log() < log_ratio
    moved = (torch.where(_unflat(accepted, new), new, old) for new, old in zip(end, start, strict=True))
    return Point(*moved), log_ratio.clamp(max=0).exp()


def adapted(step_size: Tensor, acceptance: Tensor) -> Tensor:
    r"""The step sizes of the next transition: \( \log \epsilon \mathrel{+}= 0.2 (a - 0.65) \) (Robbins & Monro 1951).

    The gain is constant, because the target moves while beta does.

    Args:
        step_size: shape (B,).
        acceptance: probabilities of the last transition, shape (C, B).
    """
    return step_size * torch.exp(_GAIN * (acceptance.mean(0).to(step_size) - TARGET_ACCEPTANCE))


def temperatures(num_steps: int) -> list[float]:
    r"""Sigmoidal schedule \( 0 = \beta_0 < \dots < \beta_T = 1 \), slow at both ends (Wu et al. 2017, appendix).

    \( \beta_t \propto \sigma(\delta (2t/T - 1)) - \sigma(-\delta) \) with \( \delta = 4 \).
    """
    rising = torch.sigmoid(4 * torch.linspace(-1, 1, num_steps + 1, dtype=torch.float64))
    return ((rising - rising[0]) / (rising[-1] - rising[0])).tolist()


def prior_draws(prior: Distribution, num_chains: int, num_rows: int) -> tuple[Tensor, Tensor]:
    """Draws from p(z), shape (C, B, *Z), and step sizes of half their spread, shape (B,), to begin with."""
    shape = (num_chains,) if len(prior.batch_shape) else (num_chains, num_rows)
    z = prior.sample(torch.Size(shape))
    spread = float(_flat(z).flatten(0, 1).double().std(0, correction=0).mean()) or 1.0
    return z, torch.full((num_rows,), spread / 2, dtype=z.dtype, device=z.device)


def _flat(z: Tensor) -> Tensor:
    """(C, B, *Z) to (C, B, size of Z)."""
    return z.reshape(*z.shape[:2], -1)


def _unflat(values: Tensor, like: Tensor) -> Tensor:
    """(C, B) to a shape that broadcasts to (C, B, *Z) or to (C, B)."""
    return values.reshape(*values.shape, *[1] * (like.ndim - 2))


def _kinetic(momentum: Tensor) -> Tensor:
    return _flat(momentum).double().square().sum(-1) / 2


NEEDS = ("prior", "likelihood")
"""The methods of a model that chains ask for: they owe nothing to q(z|x)."""


def check_latents(model: LatentVariableModel) -> None:
    """Raise a `ConfigError` unless p(z) lives on all of R^n, where HMC can move."""
    mend = "Use log_marginal (importance sampling), or latents that are real numbers."
    with engine.evaluating(model), engine.seeded(0):
        prior = model.prior()
        z = prior.sample(torch.Size((1,)))
    try:
        support: Any = prior.support
        discrete = support.is_discrete
        inside = discrete or all(bool(support.check(z + shift).all()) for shift in (-1e6, 1e6))
    except NotImplementedError:  # a distribution that does not say
        discrete, inside = not z.is_floating_point(), True
    if discrete:
        raise ConfigError(f"Hamiltonian Monte Carlo moves along gradients; the latents of {prior} are discrete. {mend}")
    if not inside:
        raise ConfigError(
            f"Hamiltonian Monte Carlo moves in all of R^n; the latents of {prior} are confined to a part. {mend}"
        )


def check_counts(**counts: int) -> None:
    """Raise a `ConfigError` that names the first one that is no count of at least 1."""
    for name, value in counts.items():
        check_count(value, name)


def block_rows(view: View, num_chains: int) -> int:
    """How many points are worked on at once: all chains of a block fit one decoder pass of 4 MiB, or one point does."""
    return max(1, chunk_size(view.num_values) // num_chains)


def ticking(num_ticks: int, label: str, progress: bool) -> Callable[[], object]:
    """A function to call once per transition, and once more at the end, which moves a bar."""
    steps = range(num_ticks)
    return partial(next, iter(track(steps, label) if progress else steps), None)
