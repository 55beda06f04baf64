"""Hamiltonian refinement: draws of the encoder follow the gradient of log p(x, z) for a few leapfrog steps."""

import math
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from vaekit.distributions import Flow, Normal, Product, Stacked, UnitNormal, element_support
from vaekit.errors import ConfigError, SupportError
from vaekit.models.base import GenerativeModel, OfWrapped
from vaekit.models.leapfrog import TemperedLeapfrog

_BETA_0 = 0.9  # where a learned inverse temperature starts
_VALUES = 2**22  # parameters of p(x|z) per gradient where nothing is recorded: bounds the memory of evaluation


class Hamiltonian(OfWrapped, GenerativeModel):
    r"""Hamiltonian refinement: draws of the encoder follow the gradient of log p(x, z) for a few leapfrog steps.

    A model whose latents are \( (z, \rho) \): \( q \) is the law of \( (z_K, \rho_K) \) after K tempered leapfrog
    steps on \( \log p(x, z) \) from \( z_0 \sim q(z|x), \rho_0 \sim N(0, I / \beta_0) \).

    The prior is \( p(z) N(\rho; 0, I) \) and the likelihood ignores the momentum, so that p(x) is that of the wrapped
    model, and every bound a bound on the same log p(x). The steps keep volumes up to a known factor, so that the
    density of q is exact: at its own draws at no cost, elsewhere by running the steps backwards. It is the tempering
    that tightens the bound: without it the steps keep the energy, and the bound stays where it was.

    Use it where the posterior is bent or correlated and the decoder is cheap: each step costs a pass through it and
    back, for each draw, in evaluation too; a batch norm in the decoder would tie the points of a batch together. Step
    sizes per dimension of z and \( \beta_0 \) are learned with q. An event is (z, momentum) in that order, shape
    (2, *Z): `encode(x)[:, 0]` are codes z. Training goes through second derivatives of the decoder.

    References:
        Caterini et al., "Hamiltonian variational auto-encoder", 2018, https://arxiv.org/abs/1805.11328.
        Salimans et al., "Markov chain Monte Carlo and variational inference: bridging the gap", 2015,
        https://arxiv.org/abs/1410.6460.

    Args:
        model: a `VAE` (or another model of this package) whose latents are real numbers; its parameters are those of
            this model.
        num_steps: K.
        step_size: where the step sizes start.
        max_step_size: what they stay below.
        tempering: \( \beta_0 \) in (0, 1], 1 for none, or "learned" from 0.9 on.

    Raises:
        ConfigError: for K < 1, step sizes that are not 0 < step_size < max_step_size, or another tempering.
        SupportError: if z is not made of real numbers.

    Example:
        >>> import torch, vaekit as vk
        >>> model = Hamiltonian(vk.presets.vae(6, latent_dim=2, hidden=(8,))[0], num_steps=2)
        >>> x = model.sample(5)
        >>> x.shape, model.encode(x).shape
        (torch.Size([5, 6]), torch.Size([5, 2, 2]))
    """

    can_compile = False

    def __init__(
        self,
        model: GenerativeModel,
        num_steps: int = 3,
        step_size: float = 0.05,
        max_step_size: float = 0.5,
        tempering: float | Literal["learned"] = "learned",
    ) -> None:
        super().__init__()
        if not isinstance(model, GenerativeModel):
            raise ConfigError(f"Hamiltonian refines a VAE or another model of vaekit; got a {type(model).__name__}")
        if num_steps < 1:
            raise ConfigError(f"num_steps is at least 1; got {num_steps}")
        if not 0 < step_size < max_step_size:
            raise ConfigError(f"expected 0 < step_size < max_step_size; got {step_size} and {max_step_size}")
        if tempering != "learned" and (isinstance(tempering, str) or not 0 < tempering <= 1):
            raise ConfigError(f'tempering is a number in (0, 1] or "learned"; got {tempering!r}')
        _check_support(model)
        self.model, self.num_steps, self.tempering = model, num_steps, tempering
        self.step_size, self.max_step_size = float(step_size), float(max_step_size)
        like = next(model.parameters())
        share = step_size / max_step_size
        start = like.new_full(model.latent_shape, math.log(share / (1 - share)))
        self.raw_step_sizes = nn.Parameter(start.detach())
        self.raw_beta_0: nn.Parameter | None = None
        if tempering == "learned":
            self.raw_beta_0 = nn.Parameter(like.new_tensor(math.log(_BETA_0 / (1 - _BETA_0))))

    def extra_repr(self) -> str:
        """The arguments, for printing."""
        return f"num_steps={self.num_steps}, step_size={self.step_size}, tempering={self.tempering!r}"

    @property
    def step_sizes(self) -> Tensor:
        """The step sizes of today, shape Z."""
        return self.max_step_size * torch.sigmoid(self.raw_step_sizes)

    @property
    def beta_0(self) -> Tensor:
        """The inverse temperature at which the steps begin, shape ()."""
        if self.raw_beta_0 is None:
            return self.raw_step_sizes.new_tensor(self.tempering)
        return torch.sigmoid(self.raw_beta_0)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(2, *Z): z and its momentum."""
        return (2, *self.model.latent_shape)

    def posterior_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of the encoder, the step sizes and the tempering."""
        yield from self.model.posterior_parameters()
        yield self.raw_step_sizes
        if self.raw_beta_0 is not None:
            yield self.raw_beta_0

    def prior(self) -> Distribution:
        """p(z) N(rho; 0, I)."""
        zeros = torch.zeros_like(self.raw_step_sizes)
        momentum = Product(UnitNormal(zeros, torch.ones_like(zeros), validate_args=False), zeros.ndim)
        return Stacked([self.model.prior(), momentum])

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x|z) for (z, rho) of shape (..., 2, *Z): batch shape (...), event shape X."""
        return self.model.likelihood(z.select(-len(self.latent_shape), 0))

    def posterior(self, x: Tensor) -> Distribution:
        """The law of (z_K, rho_K) for x of shape (B, *X) in model space: batch shape (B,), event shape (2, *Z)."""
        beta_0, step_sizes = self.beta_0, self.step_sizes
        scale = beta_0.rsqrt().expand(step_sizes.shape)
        momentum = Product(Normal(torch.zeros_like(scale), scale, validate_args=False), scale.ndim)
        start = Stacked([self.model.posterior(x), momentum])
        return Flow(start, [TemperedLeapfrog(self._force(x), step_sizes, beta_0, self.num_steps)])

    def _force(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """The gradient in z of log p(x, z), as a function of z of shape (..., B, *Z)."""
        prior, size = self.model.prior(), max(1, _VALUES // (len(x) * self.num_likelihood_params))
        batch_ndims = 1 + len(self.model.latent_shape)

        def gradient(z: Tensor) -> Tensor:
            record = torch.is_grad_enabled()
            with torch.enable_grad():
                point = z if record and z.requires_grad else z.detach().requires_grad_()
                log_joint = self.model.likelihood(point).log_prob(x) + prior.log_prob(point)
                # Each density depends on its own z only, so that the gradient of the sum is that of each.
                return torch.autograd.grad(log_joint.sum(), point, create_graph=record)[0]

        def force(z: Tensor) -> Tensor:
            if torch.is_grad_enabled() or z.ndim == batch_ndims:
                return gradient(z)
            return torch.cat([gradient(part) for part in z.flatten(0, -batch_ndims - 1).split(size)]).reshape(z.shape)

        return force


def _check_support(model: GenerativeModel) -> None:
    """The steps move z through R^D."""
    with torch.no_grad():
        prior = model.prior()
    if element_support(prior) not in (constraints.real, constraints.real_vector):
        raise SupportError(
            f"Hamiltonian steps need latents of real numbers, such as those of StandardNormal; the prior is {prior}"
        )
