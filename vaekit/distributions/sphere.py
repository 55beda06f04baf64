"""Distributions on the unit sphere: uniform, and von Mises-Fisher around a direction."""

import math
from collections.abc import Sequence
from functools import cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Beta, Distribution, constraints

from vaekit.distributions.base import Base
from vaekit.distributions.special import normalizer
from vaekit.distributions.support import unit_sphere
from vaekit.traits import Kept


def log_area(dimension: int) -> float:
    r"""\( \log |S^{D-1}| = \log 2 + \tfrac D2 \log \pi - \log \Gamma(D/2) \)."""
    return math.log(2) + 0.5 * dimension * math.log(math.pi) - math.lgamma(0.5 * dimension)


class UniformSphere(Base):
    r"""\( p(z) = 1/|S^{D-1}| \) on the unit sphere of \( R^D \), with respect to its area.

    Args:
        zeros: zeros of shape (*batch, D), which give dtype and device.

    Example:
        >>> import torch
        >>> UniformSphere(torch.zeros(2)).log_prob(torch.tensor([0.0, 1.0]))  # -log 2 pi
        tensor(-1.8379)
    """

    parameters = ("zeros",)
    support: constraints.Constraint = unit_sphere
    has_rsample = False

    def __init__(self, zeros: Tensor) -> None:
        self.zeros = zeros
        super().__init__(zeros.shape[:-1], zeros.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """0, the centre of the sphere, shape (*batch, D)."""
        return self.zeros

    @property
    def variance(self) -> Tensor:
        """1/D, shape (*batch, D)."""
        return torch.full_like(self.zeros, 1 / self.zeros.shape[-1])

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws, shape (*sample_shape, *batch, D)."""
        shape = self._extended_shape(torch.Size(sample_shape))
        z = torch.randn(shape, dtype=self.zeros.dtype, device=self.zeros.device)
        return torch.nn.functional.normalize(z, dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(z) in nats, shape (*batch)."""
        # A sum of zeros times z: the gradient in z is there, and 0.
        return (value * self.zeros).sum(-1) - log_area(self.zeros.shape[-1])


_NODES = 40
_REACH = 12.0  # in widths of the density of the angle; beyond, e^-72 of it is left


class VonMisesFisher(Base):
    r"""\( p(z) = C_D(\kappa) e^{\kappa \mu^T z} \) on the sphere \( S^{D-1} = \{ z \in R^D : |z| = 1 \} \).

    \( C_D(\kappa) = \kappa^{\nu} (2\pi)^{-D/2} / I_\nu(\kappa) \) with \( \nu = D/2 - 1 \): the density is one with
    respect to the sphere's own area. In all of the code \( \mu^T z - 1 = -|z - \mu|^2/2 \), which loses nothing where
    both are close; the inside works in float64, so that float32 serves up to a concentration of 1e5.

    The angle between z and \( \mu \) is drawn by rejection. Its derivative is that of the inverse of its distribution
    function, \( d\theta/d\kappa = -\partial_\kappa F(\theta) / f(\theta) \), by Gaussian quadrature: it is exact for
    whatever way of drawing, so that no correction for the rejections is due.

    References:
        Davidson et al., "Hyperspherical variational auto-encoders", 2018, https://arxiv.org/abs/1804.00891.
        Wood, "Simulation of the von Mises Fisher distribution", 1994, https://doi.org/10.1080/03610919408813161.
        Figurnov et al., "Implicit reparameterization gradients", 2018, https://arxiv.org/abs/1805.08498.

    Args:
        loc: mean direction \( \mu \), shape (*batch, D), of any length above 0.
        concentration: \( \kappa > 0 \), shape (*batch).

    Example:
        >>> import torch
        >>> pole = torch.tensor([0.0, 0.0, 1.0])
        >>> VonMisesFisher(pole, torch.tensor(2.0)).log_prob(pole)
        tensor(-1.1262)
    """

    parameters = ("loc", "concentration", "_loc", "_kappa", "_log_scaled", "_length")
    arg_constraints: dict[str, constraints.Constraint] = {  # noqa: RUF012  (the name torch prescribes)
        "loc": constraints.real_vector,
        "concentration": constraints.positive,
    }
    support: constraints.Constraint = unit_sphere
    has_rsample = True

    def __init__(self, loc: Tensor, concentration: Tensor) -> None:
        self.loc, self.concentration = loc, concentration
        self._loc = torch.nn.functional.normalize(loc.double(), dim=-1)
        self._kappa = concentration.double()
        self._log_scaled, self._length = normalizer(self._kappa, loc.shape[-1])
        super().__init__(concentration.shape, loc.shape[-1:], validate_args=False)

    @property
    def dimension(self) -> int:
        """D, that of the space around the sphere."""
        return self.loc.shape[-1]

    @property
    def mean(self) -> Tensor:
        r"""\( A_D(\kappa) \mu \), inside the sphere, shape (*batch, D)."""
        return (self._length.unsqueeze(-1) * self._loc).to(self.loc)

    @property
    def centre(self) -> Tensor:
        r"""\( \mu \), shape (*batch, D)."""
        return self._loc.to(self.loc)

    @property
    def mode(self) -> Tensor:
        r"""\( \mu \), shape (*batch, D)."""
        return self.centre

    @property
    def variance(self) -> Tensor:
        """Var[z] per coordinate, shape (*batch, D)."""
        across = self._length / self._kappa
        along = 1 - self._length**2 - (self.dimension - 1) * across
        squared = self._loc**2
        return (along.unsqueeze(-1) * squared + across.unsqueeze(-1) * (1 - squared)).to(self.loc)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(z) in nats, shape (*batch)."""
        distance = (value.double() - self._loc).square().sum(-1)
        log_constant = -self._log_scaled - 0.5 * self.dimension * math.log(2 * math.pi)
        return (log_constant - 0.5 * self._kappa * distance).to(self.loc.dtype)

    def kl_to(self, p: Distribution) -> Tensor | None:
        """KL(q, p) in nats, shape (*batch), for the uniform distribution on the sphere; else None."""
        return self.kl_to_uniform() if isinstance(p, UniformSphere) else None

    def kl_to_uniform(self) -> Tensor:
        r"""\( \kappa A_D(\kappa) + \log C_D(\kappa) + \log |S^{D-1}| \) in nats, shape (*batch)."""
        log_constant = -self._log_scaled - 0.5 * self.dimension * math.log(2 * math.pi)
        return (self._kappa * (self._length - 1) + log_constant + log_area(self.dimension)).to(self.loc.dtype)

    def entropy(self) -> Tensor:
        """Entropy in nats, shape (*batch)."""
        return log_area(self.dimension) - self.kl_to_uniform()

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws with gradients, shape (*sample_shape, *batch, D)."""
        shape = torch.Size(sample_shape) + self.batch_shape
        kappa, length = self._kappa.expand(shape), self._length.detach().expand(shape)
        angle = draw_angle(kappa.detach(), self.dimension)
        angle = _ImplicitAngle.apply(kappa, angle, length, self.dimension)  # type: ignore[no-untyped-call]
        return self._around(torch.cos(angle), torch.sin(angle))

    def sample_without_rejection(self, sample_shape: torch.Size) -> Tensor:
        """Draws whose angle is the first of 32 tries that is accepted; one in 1e15 finds none, and takes the last."""
        shape = torch.Size(sample_shape) + self.batch_shape
        # A coordinate of a point on a sphere, moved to (0, 1), has the symmetric beta distribution of the proposals.
        points = torch.randn(*shape, _TRIES, self.dimension, dtype=self.loc.dtype).double()
        proposal = 0.5 * (1 + points[..., 0] / points.norm(dim=-1))
        uniform = torch.rand(*shape, _TRIES, dtype=self.loc.dtype).double()
        kappa = self._kappa.expand(shape).unsqueeze(-1)
        half, log_accept = _proposed(kappa, proposal, self.dimension - 1.0)
        accepted = log_accept >= uniform.log()
        tries = torch.arange(_TRIES, dtype=torch.float64)
        first = torch.where(accepted, tries, float(_TRIES - 1)).amin(-1, keepdim=True)
        half = (half * (tries == first)).sum(-1).clamp(1e-24, 1 - 1e-16)
        return self._around(1 - 2 * half, 2 * torch.sqrt(half * (1 - half)))

    def _around(self, cos: Tensor, sin: Tensor) -> Tensor:
        """Draws at an angle from the mean direction, shape (*sample, *batch), in any direction around."""
        shape, cos, sin = cos.shape, cos.unsqueeze(-1), sin.unsqueeze(-1)
        around = torch.randn(*shape, self.dimension - 1, dtype=self.loc.dtype, device=self.loc.device).double()
        around = around / around.norm(dim=-1, keepdim=True)
        z = torch.cat([cos, sin * around], -1)
        return _moved_from_first_axis(z, self._loc).to(self.loc.dtype)


_TRIES = 32  # of which each is accepted two times in three at least


def _moved_from_first_axis(z: Tensor, loc: Tensor) -> Tensor:
    """Points around the first axis moved to around `loc`, by the reflection that stays away from 0/0."""
    first = loc[..., :1]
    sign = torch.where(first >= 0, 1.0, -1.0).to(loc)
    normal = sign * loc
    normal = torch.cat([normal[..., :1] + 1, normal[..., 1:]], -1)
    along = (normal * z).sum(-1, keepdim=True) / (1 + sign * first)
    return sign * (along * normal - z)


def draw_angle(concentration: Tensor, dimension: int) -> Tensor:
    """Angles between draws and their mean direction, by rejection from a transformed beta (Wood 1994).

    Args:
        concentration: positive numbers in float64, any shape.
        dimension: D.

    Returns:
        Angles in (0, pi), of the same shape.
    """
    freedom = dimension - 1.0
    kappa = concentration.flatten()
    half_gap, pending = torch.empty_like(kappa), torch.arange(len(kappa), device=kappa.device)
    while len(pending):
        k = kappa[pending]
        shape = torch.full_like(k, 0.5 * freedom)
        half, log_accept = _proposed(k, Beta(shape, shape, validate_args=False).sample(), freedom)
        accepted = log_accept >= torch.rand_like(k).log()
        half_gap[pending[accepted]] = half[accepted]
        pending = pending[~accepted]
    angle = 2 * torch.asin(half_gap.clamp(0, 1).sqrt())
    return angle.clamp(1e-12, math.pi - 1e-12).reshape(concentration.shape)


def _proposed(kappa: Tensor, proposal: Tensor, freedom: float) -> tuple[Tensor, Tensor]:
    """(1 - cos)/2 of an angle that is proposed by a beta variable, and the log of the probability to accept it."""
    b = freedom / (2 * kappa + torch.sqrt(4 * kappa * kappa + freedom**2))
    half = b * proposal / (1 - (1 - b) * proposal)
    # log of density over bound, through 1 - x0 = 2b/(1 + b) and 1 - x0^2 = 4b/(1 + b)^2, where nothing cancels.
    at_least = 2 * b / (1 + b)
    inner = (at_least + 2 * (1 - b) / (1 + b) * half) * (1 + b) ** 2 / (4 * b)
    return half, kappa * (at_least - 2 * half) + freedom * inner.log()


@cache
def _gauss_legendre() -> tuple[Tensor, Tensor]:
    """Nodes and weights on (0, 1)."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return torch.from_numpy(0.5 * (nodes + 1)), torch.from_numpy(0.5 * weights)


def angle_slope(concentration: Tensor, angle: Tensor, length: Tensor, dimension: int) -> Tensor:
    r"""\( d\theta/d\kappa = -\frac{1}{f(\theta)} \int_0^\theta (\cos t - A) f(t) dt \), \( f(t) \propto \sin^{D-2} t\,
    e^{\kappa \cos t} \).

    The integral from the nearer end, where the integrand has one sign; over all of (0, pi) it is 0.

    Args:
        concentration: kappa in float64, any shape.
        angle: theta, of the same shape.
        length: A_D(kappa), of the same shape.
        dimension: D.
    """
    nodes, weights = (part.to(angle.device) for part in _gauss_legendre())
    kappa, theta, a = (part.unsqueeze(-1) for part in (concentration, angle, length))
    reach = _REACH / torch.sqrt(kappa + 0.5 * (dimension - 1))
    is_near = torch.cos(theta) >= a
    end = torch.where(is_near, (theta - reach).clamp(min=0), (theta + reach).clamp(max=math.pi))
    t = theta + (end - theta) * nodes
    log_ratio = -2 * kappa * torch.sin(0.5 * (t + theta)) * torch.sin(0.5 * (t - theta))
    if dimension > 2:
        log_ratio = log_ratio + (dimension - 2) * (torch.sin(t) / torch.sin(theta)).log()
    excess = (1 - a) - 2 * torch.sin(0.5 * t) ** 2  # cos t - A
    return (
        -(excess * log_ratio.exp() * weights).sum(-1)
        * (end - theta).abs().squeeze(-1)
        * torch.where(is_near, 1.0, -1.0).squeeze(-1)
    )


class _Kept(Kept, Protocol):
    dimension: int


class _ImplicitAngle(torch.autograd.Function):
    """An angle that was drawn, with its derivative by the concentration."""

    @staticmethod
    def forward(ctx: _Kept, concentration: Tensor, angle: Tensor, length: Tensor, dimension: int) -> Tensor:
        ctx.save_for_backward(concentration, angle, length)
        ctx.dimension = dimension
        return angle.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: _Kept, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        concentration, angle, length = ctx.saved_tensors
        return gradients[0] * angle_slope(concentration, angle, length, ctx.dimension), None, None, None
