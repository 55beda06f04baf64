"""Models whose posterior is refined row by row: by Hamiltonian steps, or by steps of a gradient."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit import bounds
from vaekit.distributions import Flow, Normal, Product, Stacked, UnitNormal
from vaekit.distributions.maps import Map
from vaekit.distributions.support import is_real
from vaekit.errors import ConfigError, SupportError
from vaekit.models.base import GenerativeModel, OfWrapped
from vaekit.models.vae import VAE


class TemperedLeapfrog(Map):
    r"""K leapfrog steps of \( (z, \rho) \), after each of which the momentum is cooled.

    \[ \tilde\rho = \rho + \tfrac{\epsilon}{2} g(z), \quad z' = z + \epsilon \tilde\rho, \quad
    \rho' = \alpha_k (\tilde\rho + \tfrac{\epsilon}{2} g(z')), \quad \alpha_k = \sqrt{\beta_{k-1} / \beta_k} \]
    Each line shears or scales, so that \( \log|\det| = D \sum_k \log \alpha_k = \tfrac{D}{2} \log \beta_0 \) for any g,
    and each can be undone. The inverse temperatures rise from \( \beta_0 \) to \( \beta_K = 1 \), quadratically in the
    scale of the momentum: \( \beta_k^{-1/2} = \beta_0^{-1/2} + (1 - \beta_0^{-1/2}) k^2 / K^2 \).

    References:
        Neal, "MCMC using Hamiltonian dynamics", 2011, https://arxiv.org/abs/1206.1901, section 5.5.7.
        Caterini et al., "Hamiltonian variational auto-encoder", 2018, https://arxiv.org/abs/1805.11328, section 3.

    Args:
        force: g, the gradient in z of the log-density that the steps follow, (..., *Z) to (..., *Z).
        step_sizes: \( \epsilon \), shape Z.
        beta_0: shape (), in (0, 1].
        num_steps: K.
    """

    def __init__(self, force: Callable[[Tensor], Tensor], step_sizes: Tensor, beta_0: Tensor, num_steps: int) -> None:
        self.force, self.step_sizes, self.beta_0, self.num_steps = force, step_sizes, beta_0, num_steps
        self._shape = (2, *step_sizes.shape)
        self._place = -step_sizes.ndim - 1

    def forward(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """(z_0, rho_0), flat in the last dimension, to (z_K, rho_K), and log|det|, shape ()."""
        z, momentum = self._parts(v)
        half, force = self.step_sizes / 2, self.force(z)
        for cooling in self._coolings():
            momentum = momentum + half * force
            z = z + self.step_sizes * momentum
            force = self.force(z)  # that of the next step, too
            momentum = cooling * (momentum + half * force)
        return self._flat(z, momentum), self._log_det()

    def inverse(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """(z_K, rho_K), flat in the last dimension, to (z_0, rho_0), and log|det| of the way back, shape ()."""
        z, momentum = self._parts(v)
        half, force = self.step_sizes / 2, self.force(z)
        for cooling in reversed(self._coolings()):
            momentum = momentum / cooling - half * force
            z = z - self.step_sizes * momentum
            force = self.force(z)
            momentum = momentum - half * force
        return self._flat(z, momentum), -self._log_det()

    def _parts(self, v: Tensor) -> tuple[Tensor, ...]:
        """z and momentum, shape (..., *Z) each."""
        result: tuple[Tensor, ...] = v.unflatten(-1, self._shape).unbind(self._place)
        return result

    def _flat(self, z: Tensor, momentum: Tensor) -> Tensor:
        return torch.stack([z, momentum], self._place).flatten(self._place)

    def _coolings(self) -> list[Tensor]:
        r"""\( \alpha_1, \dots, \alpha_K \), each of shape ()."""
        hot = self.beta_0.rsqrt()
        scales = [hot + (1 - hot) * (k / self.num_steps) ** 2 for k in range(self.num_steps + 1)]
        return [after / before for before, after in pairwise(scales)]

    def _log_det(self) -> Tensor:
        return 0.5 * self.step_sizes.numel() * self.beta_0.log()


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
    def describing(self) -> GenerativeModel:
        """The model that is refined."""
        return self.model

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
        result: Distribution = self.model.likelihood(z.select(-len(self.latent_shape), 0))
        return result

    def posterior(self, x: Tensor) -> Distribution:
        """The law of (z_K, rho_K) for x of shape (B, *X) in model space: batch shape (B,), event shape (2, *Z)."""
        beta_0, step_sizes = self.beta_0, self.step_sizes
        scale = beta_0.rsqrt().expand(step_sizes.shape)
        momentum = Product(Normal(torch.zeros_like(scale), scale, validate_args=False), scale.ndim)
        start = Stacked([self.model.posterior(x), momentum])
        return Flow(start, [TemperedLeapfrog(self._force(x), step_sizes, beta_0, self.num_steps)])

    def _force(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """The gradient in z of log p(x, z), as a function of z of shape (..., B, *Z)."""
        prior, num_values = self.model.prior(), self.num_likelihood_params
        batch_ndims = 1 + len(self.model.latent_shape)

        def gradient(z: Tensor) -> Tensor:
            record = torch.is_grad_enabled()
            with torch.enable_grad():
                point = z if record and z.requires_grad else z.detach().requires_grad_()
                log_joint = bounds.log_likelihood_at(self.model, point, x) + prior.log_prob(point)
                # Each density depends on its own z only, so that the gradient of the sum is that of each.
                return torch.autograd.grad(log_joint.sum(), point, create_graph=record)[0]

        def force(z: Tensor) -> Tensor:
            # A graph holds what one pass does, for rows and draws of any number.
            if torch.is_grad_enabled() or z.ndim == batch_ndims or isinstance(z.shape[0], torch.SymInt):
                return gradient(z)
            size = max(1, _VALUES // (len(x) * num_values))
            return torch.cat([gradient(part) for part in z.flatten(0, -batch_ndims - 1).split(size)]).reshape(z.shape)

        return force


def _check_support(model: GenerativeModel) -> None:
    """The steps move z through R^D."""
    with torch.no_grad():
        prior = model.prior()
    if not is_real(prior):
        raise SupportError(
            f"Hamiltonian steps need latents of real numbers, such as those of StandardNormal; the prior is {prior}"
        )


class SemiAmortized(OfWrapped, GenerativeModel):
    r"""Semi-amortised inference: the encoder's answer, improved for each point by a few gradient steps.

    A `VAE` whose \( q(z|x) \) is refined for each x: \( \lambda_0 \) from the encoder, then K steps
    \( \lambda_{k+1} = \lambda_k + \eta\, \mathrm{clip}(\nabla_\lambda \mathrm{ELBO}(x; \lambda_k)) \).

    \( \lambda \) are the raw parameters of the posterior head, so that every head can be refined and q stays in its
    family; the prior and the likelihood are those of the `VAE`. The clip bounds the norm of each point's gradient.
    Use it where the encoder is the weak part: few data, a powerful decoder, an inference gap that
    `evaluation.inference_gap` shows. Each step costs a pass through the decoder and back, in evaluation too. It does
    not help where the family itself is too small for p(z|x); then take a richer posterior.

    Training goes through the steps: the gradient of an objective is that of the refined q, with the second
    derivatives of the decoder, for the encoder and for the decoder alike. The ELBO inside is that of `elbo_terms`, with
    the closed form of the KL where there is one, and noise from torch's stream. A batch norm in the decoder ties the
    points of a batch together while training.

    References:
        Kim et al., "Semi-amortized variational autoencoders", 2018, https://arxiv.org/abs/1802.02550.
        Cremer et al., "Inference suboptimality in variational autoencoders", 2018, https://arxiv.org/abs/1801.03558.

    Args:
        model: the `VAE`; its parameters are those of this model.
        num_steps: K.
        learning_rate: \( \eta \), in units of the raw parameters.
        max_norm: bound on the norm of a point's gradient.
        num_samples: draws of z per step.

    Raises:
        ConfigError: if the model is no `VAE`, a count is below 1, or a size is not positive.

    Example:
        >>> import vaekit as vk
        >>> with vk.engine.seeded(0):
        ...     vae, objective = vk.presets.vae(6, latent_dim=2, hidden=(8,))
        ...     model = SemiAmortized(vae, num_steps=20, learning_rate=0.1)
        ...     x = vae.sample(50)
        ...     before, after = (vk.bounds.elbo(m, x, 100, kl="analytic").mean() for m in (vae, model))
        >>> bool(after > before)
        True
    """

    can_compile = False

    def __init__(
        self,
        model: VAE,
        num_steps: int = 5,
        learning_rate: float = 0.02,
        max_norm: float = 5.0,
        num_samples: int = 1,
    ) -> None:
        super().__init__()
        if not isinstance(model, VAE):
            raise ConfigError(
                f"SemiAmortized refines the parameters that a VAE's encoder gives; got a {type(model).__name__}"
            )
        if num_steps < 1 or num_samples < 1:
            raise ConfigError(f"num_steps and num_samples are at least 1; got {num_steps} and {num_samples}")
        if not (learning_rate > 0 and max_norm > 0):
            raise ConfigError(f"learning_rate and max_norm are positive; got {learning_rate} and {max_norm}")
        self.model, self.num_steps, self.num_samples = model, num_steps, num_samples
        self.learning_rate, self.max_norm = float(learning_rate), float(max_norm)

    def extra_repr(self) -> str:
        """The arguments, for printing."""
        return f"num_steps={self.num_steps}, learning_rate={self.learning_rate}, max_norm={self.max_norm}"

    @property
    def describing(self) -> GenerativeModel:
        """The model that is refined."""
        return self.model

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape Z of one latent."""
        result: tuple[int, ...] = self.model.latent_shape
        return result

    def prior(self) -> Distribution:
        """p(z) of the `VAE`."""
        result: Distribution = self.model.prior()
        return result

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x|z) of the `VAE`."""
        result: Distribution = self.model.likelihood(z)
        return result

    def posterior_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of the encoder; the steps add none."""
        result: Iterator[nn.Parameter] = self.model.posterior_parameters()
        return result

    def posterior(self, x: Tensor) -> Distribution:
        """The refined q(z|x) for x of shape (B, *X) in model space: batch shape (B,), event shape Z."""
        encoder = self.model.encoder
        result: Distribution = encoder.head(self._refined(encoder.params(x), x))
        return result

    def _refined(self, params: Tensor, x: Tensor) -> Tensor:
        """The raw parameters after K steps; they lead back to the encoder where gradients are being recorded."""
        unroll = torch.is_grad_enabled()
        with torch.enable_grad():
            for _ in range(self.num_steps):
                # Without a path to keep, each step forgets the one before it.
                point = params if unroll and params.requires_grad else params.detach().requires_grad_()
                params = point + self.learning_rate * self._clipped(self._gradient(point, x, unroll))
        return params if unroll else params.detach()

    def _gradient(self, params: Tensor, x: Tensor, unroll: bool) -> Tensor:
        q = self.model.encoder.head(params)
        log_likelihood, kl = bounds.elbo_terms(self.model, x, self.num_samples, posterior=q)
        # Each point's bound depends on its own parameters only, so that the gradient of the sum is that of each.
        (gradient,) = torch.autograd.grad((log_likelihood - kl).sum(), params, create_graph=unroll)
        return gradient

    def _clipped(self, gradient: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(gradient.flatten(1), dim=1).clamp(min=self.max_norm)
        result: Tensor = gradient * (self.max_norm / norm).reshape(-1, *[1] * (gradient.ndim - 1))
        return result
