r"""log p(x) of a few rows from several proposals at once, none of which is chosen by what it found.

Draws of J proposals count as draws of their mixture (the balance heuristic of Veach & Guibas):
\[ p(x) \approx \frac1{JK} \sum_{j, k} \frac{p(x, z_{jk})}{\frac1J \sum_i q_i(z_{jk})}, \quad z_{jk} \sim q_j, \]
which is unbiased, and no weight exceeds J times what it would be under any single q_i. An estimate that is picked among
several by its effective sample size is biased downwards: the greater ess is that of the proposal that missed its large
weights. A q that is narrower than the posterior has weights without variance, and its best fit by the ELBO is of that
kind. So a wider proposal, fitted to the slope of log p(x, z), stands beside it, and the prior, which keeps the weights
bounded where p(x|z) is, and finds a second mode of a small z.

References:
    Veach & Guibas, "Optimally combining sampling techniques for Monte Carlo rendering", 1995,
    https://doi.org/10.1145/218380.218498.
    Owen & Zhou, "Safe and effective importance sampling", 2000, https://doi.org/10.1080/01621459.2000.10473909.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Size, Tensor
from torch.distributions import Distribution

from vaekit import bounds
from vaekit.bounds import LatentVariableModel, log_likelihood_at
from vaekit.distributions.support import is_real
from vaekit.errors import OwnDrawsOnlyError
from vaekit.evaluation.weights import WeightSums

BLOCK = 64
"""Draws per pass."""
_MAX_DIMS = 128  # a covariance for each row above this costs more than the draws
_CURVATURE = (1e-4, 1e4)  # in units of q's own variances
DEGREES = 10
"""Of freedom: tails above those of a normal posterior, at a small loss of draws in its middle."""


class Proposal(Protocol):
    """What importance sampling asks of a distribution: draws and their density."""

    def sample(self, sample_shape: Size, /) -> Tensor:
        """Draws, shape (*sample_shape, N, *Z)."""
        ...

    def log_prob(self, value: Tensor, /) -> Tensor:
        """log q(z) in nats, shape (K, N)."""
        ...


@dataclass(frozen=True)
class StudentT:
    r"""A multivariate Student t for each row, \( z = m + \sigma V \Lambda^{-1/2} \epsilon \sqrt{\nu / \chi^2_\nu} \).

    Attributes:
        loc: m, shape (N, *Z).
        scale: sigma, the unit of each dimension, shape (N, D).
        axes: V, orthonormal columns, shape (N, D, D), or None for the identity.
        curvature: the diagonal of Lambda, positive, shape (N, D).
    """

    loc: Tensor
    scale: Tensor
    axes: Tensor | None
    curvature: Tensor

    def sample(self, sample_shape: Size, /) -> Tensor:
        """Draws, shape (*sample_shape, N, *Z)."""
        shape = Size(sample_shape) + self.scale.shape
        noise = (*shape[:-1], shape[-1] + DEGREES)
        return self.from_noise(torch.randn(noise, dtype=self.scale.dtype, device=self.scale.device))

    def from_noise(self, noise: Tensor) -> Tensor:
        """Draws made of standard normal noise of shape (*sample, N, D + 10), whose last 10 make the tails."""
        size = self.scale.shape[-1]
        stretched = noise[..., :size] * (DEGREES / noise[..., size:].square().sum(-1, keepdim=True)).sqrt()
        z = self.loc.flatten(1) + self.scale * self.turned(stretched / self.curvature.sqrt())
        return z.to(self.loc.dtype).reshape(noise.shape[:-1] + self.loc.shape[1:])

    def turned(self, u: Tensor) -> Tensor:
        """V u for u of shape (..., N, D)."""
        return u if self.axes is None else (self.axes @ u.unsqueeze(-1)).squeeze(-1)

    def turned_back(self, u: Tensor) -> Tensor:
        """The inverse of `turned`."""
        return u if self.axes is None else (self.axes.mT @ u.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, value: Tensor, /) -> Tensor:
        """log q(z) in nats, shape (K, N), in float64."""
        u = (value.flatten(2).double() - self.loc.flatten(1).double()) / self.scale
        squares = (self.turned_back(u).square() * self.curvature).sum(-1)
        half, total = DEGREES / 2, (DEGREES + u.shape[-1]) / 2
        constant = math.lgamma(total) - math.lgamma(half) - u.shape[-1] / 2 * math.log(DEGREES * math.pi)
        log_det = (0.5 * self.curvature.log() - self.scale.log()).sum(-1)
        return constant + log_det - total * torch.log1p(squares / DEGREES)


class Controlled:
    r"""The mean of the weights w of a mixture's draws, with the share of one of its parts as a control variate.

    \( r_k = p(z_k) / \sum_i \alpha_i q_i(z_k) \) has the mean 1, whatever p(x, z) is. Weights and r depend on each
    other: draws of a prior far from the posterior have no weight, those of one near it less than the others. So
    \( \bar w - b (\bar r - 1) \) with b by least squares has the error of what r leaves unexplained (Owen & Zhou).

    Args:
        num_rows: N.
    """

    def __init__(self, num_rows: int) -> None:
        self._largest = torch.full((num_rows,), -torch.inf, dtype=torch.float64)
        # Of 1, r, r^2, then w, w r, then w^2, of w relative to the largest so far.
        self._plain, self._once, self._twice = (torch.zeros(n, num_rows, dtype=torch.float64) for n in (3, 2, 1))

    def add(self, log_weights: Tensor, log_ratio: Tensor) -> None:
        """Add draws: log w and log r, shape (K', N) each."""
        log_weights, r = log_weights.double().cpu(), log_ratio.double().cpu().exp()
        largest = torch.maximum(self._largest, log_weights.amax(0))
        origin = torch.where(largest == -torch.inf, 0.0, largest)
        decay, w = torch.exp(self._largest - origin), torch.exp(log_weights - origin)
        self._plain += torch.stack([torch.ones_like(r), r, r.square()]).sum(1)
        self._once = self._once * decay + torch.stack([w, w * r]).sum(1)
        self._twice = self._twice * decay.square() + w.square().sum(0)
        self._largest = largest

    def found(self) -> tuple[Tensor, Tensor]:
        """The log of the controlled mean over the plain one, and the former's relative variance, shape (N,) each.

        Both are NaN where r does not vary, and where the control takes more than half of the mean.
        """
        n, r, rr = self._plain
        w, wr, ww = *self._once, *self._twice
        of_r, of_w, of_both = rr - r.square() / n, ww - w.square() / n, wr - w * r / n
        slope, away = of_both / of_r, r / n - 1
        mean, rest = w / n - slope * away, (of_w - slope * of_both).clamp(min=0) / (n - 2)
        variance = rest * (1 / n + away.square() / of_r) / mean.square()
        known = (of_r > 0) & (mean > 0.5 * w / n) & variance.isfinite()
        return torch.where(known, (mean / (w / n)).log(), math.nan), torch.where(known, variance, math.nan)


@dataclass(frozen=True)
class Prior:
    """p(z) with draws of its own for each of N rows.

    Attributes:
        prior: batch shape () or (N,).
        num_rows: N.
    """

    prior: Distribution
    num_rows: int

    def sample(self, sample_shape: Size, /) -> Tensor:
        """Draws, shape (*sample_shape, N, *Z)."""
        rows = () if self.prior.batch_shape else (self.num_rows,)
        return self.prior.sample(Size((*sample_shape, *rows)))

    def log_prob(self, value: Tensor, /) -> Tensor:
        """log p(z) in nats, shape (K, N)."""
        result: Tensor = self.prior.log_prob(value)
        return result


def fitted(model: LatentVariableModel, q: Distribution, y: Tensor) -> StudentT | None:
    r"""A proposal with the curvature of the posterior, one for each row, from draws of q near it.

    The slope \( \nabla_z \log p(x, z) \) at the draws is regressed on z. Where the posterior is normal the slope is a
    linear function, which the regression finds without error: its matrix is minus the precision, and its zero the mean.

    Args:
        model: any object with the three methods, differentiable in z.
        q: a distribution with gradients along its draws, batch shape (N,).
        y: data in model space, shape (N, *X).

    Returns:
        None where z does not live in a real space, or has more than 128 dimensions.
    """
    num_dims = math.prod(q.event_shape)
    if not is_real(q) or not 0 < num_dims <= _MAX_DIMS:
        return None
    z, slope = _slopes(model, q, y, max(2 * BLOCK, 4 * num_dims))
    centre = z.mean(1)
    # Draws of a q that is narrower than its numbers can tell apart do not differ.
    scale = torch.maximum(z.std(1), torch.finfo(q.sample().dtype).eps * centre.abs().clamp(min=1e-6))
    axes, curvature, at_centre = curved(z, slope, centre, scale)
    around = StudentT(centre, scale, axes, curvature)
    loc = (centre + scale * newton_step(around, at_centre)).to(q.sample().dtype)
    return StudentT(loc.reshape(-1, *q.event_shape), scale, axes, curvature)


def curved(
    z: Tensor, slope: Tensor, centre: Tensor, scale: Tensor, *, along_axes: bool = False
) -> tuple[Tensor | None, Tensor, Tensor]:
    """How the slope of log p(x, z) falls with z, around a centre, in units of a scale, by least squares.

    Args:
        z: points, shape (N, K, D).
        slope: the gradient there, shape (N, K, D).
        centre: shape (N, D).
        scale: shape (N, D).
        along_axes: leave out how one dimension's slope depends on another.

    Returns:
        Axes V and curvature of `StudentT`, and the slope at the centre, shape (N, D).
    """
    u, slope = (z - centre.unsqueeze(1)) / scale.unsqueeze(1), slope * scale.unsqueeze(1)
    if along_axes:
        spread = u - u.mean(1, keepdim=True)
        curvature = -(spread * slope).sum(1) / spread.square().sum(1)
        at_centre = slope.mean(1) + curvature * u.mean(1)
        known = (curvature.isfinite() & at_centre.isfinite()).all(-1, keepdim=True)
        curvature, at_centre = torch.where(known, curvature, 1.0), torch.where(known, at_centre, 0.0)
        return None, curvature.abs().clamp(*_CURVATURE), at_centre
    precision, at_centre = _line(u, slope)
    curvature, axes = torch.linalg.eigh(precision)
    return axes, curvature.abs().clamp(*_CURVATURE), at_centre


def newton_step(around: StudentT, at_centre: Tensor) -> Tensor:
    """From the centre to the zero of the slope, in units of the scale, shape (N, D)."""
    return around.turned(around.turned_back(at_centre) / around.curvature)


def _line(u: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """The symmetric P and the b of slope = b - P u by least squares, shapes (N, D, D) and (N, D).

    I and 0 stand for a row whose slope is not finite.
    """
    num_dims = u.shape[-1]
    inputs = torch.cat([u, torch.ones_like(u[..., :1])], -1)
    # A little of the identity keeps a dimension that does not vary from making the system singular.
    ridge = 1e-9 * u.shape[1] * torch.eye(num_dims + 1, dtype=u.dtype, device=u.device)
    found = torch.linalg.solve(inputs.mT @ inputs + ridge, inputs.mT @ slope)
    matrix, at_centre = -0.5 * (found[:, :-1] + found[:, :-1].mT), found[:, -1]
    known = found.isfinite().flatten(1).all(1)
    unit = torch.eye(num_dims, dtype=u.dtype, device=u.device)
    return torch.where(known[:, None, None], matrix, unit), torch.where(known[:, None], at_centre, 0.0)


def _slopes(model: LatentVariableModel, q: Distribution, y: Tensor, num_samples: int) -> tuple[Tensor, Tensor]:
    """Draws of q and the gradients of log p(x, z) there, shape (N, K, D) each, in float64."""
    draws, slopes = [], []
    for start in range(0, num_samples, BLOCK):
        with torch.enable_grad():
            _, draw = bounds.draw_at_leaf(model, q, y, min(BLOCK, num_samples - start))
            (slope,) = torch.autograd.grad((draw.log_likelihood + draw.log_prior).sum(), draw.z)
        draws.append(draw.z.detach().flatten(2).double())
        slopes.append(slope.flatten(2).double())
    return torch.cat(draws).transpose(0, 1), torch.cat(slopes).transpose(0, 1)


def log_marginal(model: LatentVariableModel, y: Tensor, proposals: Sequence[Proposal], num_samples: int) -> Tensor:
    """log p(x) of each row from draws of all proposals, weighed as draws of their mixture.

    Args:
        model: any object with the three methods.
        y: data in model space, shape (N, *X).
        proposals: one or more; of several, each tells its density at the draws of the others.
        num_samples: K, draws of each proposal per row.

    Returns:
        Nats, float64, shape (N,).
    """
    prior, sums = model.prior(), WeightSums(len(y))
    for proposal in proposals:
        for start in range(0, num_samples, BLOCK):
            z = proposal.sample(Size((min(BLOCK, num_samples - start),)))
            joint = (log_likelihood_at(model, z, y) + prior.log_prob(z)).double()
            mixture = torch.stack([one.log_prob(z).double() for one in proposals])
            weights = joint - torch.logsumexp(mixture, 0) + math.log(len(proposals))
            # Far out a decoder may overflow: where the model has no density a draw counts as one without weight.
            sums.add(slice(0, len(y)), torch.where(weights.isnan(), -torch.inf, weights))
    return sums.log_mean(num_samples * len(proposals))


def gathered(model: LatentVariableModel, q: Distribution, best: Distribution, y: Tensor) -> list[Proposal]:
    """The proposals for the rows of y: the prior, the fitted one where there is one, q and the best q of its family.

    A family whose density is known only at its own draws (planar flows) cannot be pooled: the first two then stand
    without it, or the best q alone.
    """
    wide, prior = fitted(model, best, y), Prior(model.prior(), len(y))
    others: list[Proposal] = [prior] if wide is None else [prior, wide]
    try:
        best.log_prob(best.sample(Size((1,))).clone())
    except OwnDrawsOnlyError:
        return [best] if wide is None else others
    return [*others, q, best]
