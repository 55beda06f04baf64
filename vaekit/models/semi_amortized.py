"""Semi-amortised inference: the encoder's answer, improved for each point by a few gradient steps."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit import bounds
from vaekit.errors import ConfigError
from vaekit.models.base import GenerativeModel, OfWrapped
from vaekit.models.vae import VAE


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
    def latent_shape(self) -> tuple[int, ...]:
        """Shape Z of one latent."""
        return self.model.latent_shape

    def prior(self) -> Distribution:
        """p(z) of the `VAE`."""
        return self.model.prior()

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x|z) of the `VAE`."""
        return self.model.likelihood(z)

    def posterior_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of the encoder; the steps add none."""
        return self.model.posterior_parameters()

    def posterior(self, x: Tensor) -> Distribution:
        """The refined q(z|x) for x of shape (B, *X) in model space: batch shape (B,), event shape Z."""
        encoder = self.model.encoder
        return encoder.head(self._refined(encoder.params(x), x))

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
        return gradient * (self.max_norm / norm).reshape(-1, *[1] * (gradient.ndim - 1))
