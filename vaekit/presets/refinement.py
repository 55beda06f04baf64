"""Presets that refine the encoder's answer for each point."""

from typing import Any

from vaekit.models import Hamiltonian, SemiAmortized
from vaekit.models.base import GenerativeModel
from vaekit.objectives import Objective
from vaekit.presets.models import vae
from vaekit.shapes import Shape

__all__ = ["hvae", "semi_amortized"]


def hvae(
    event_shape: Shape, *, latent_dim: int = 16, num_steps: int = 3, step_size: float = 0.05, **parts: Any
) -> tuple[GenerativeModel, Objective]:
    """The Hamiltonian VAE of Caterini et al. 2018: draws of q follow the gradient of log p(x, z) for a few steps.

    Use it where the posterior is bent and the decoder is cheap: training takes some K + 2 times as long. Its latents
    are (z, momentum).

    References:
        Caterini et al., "Hamiltonian variational auto-encoder", 2018, https://arxiv.org/abs/1805.11328.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of z.
        num_steps: K, leapfrog steps.
        step_size: where the learned step sizes start.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    model, objective = vae(event_shape, latent_dim=latent_dim, **parts)
    return Hamiltonian(model, num_steps, step_size), objective


def semi_amortized(
    event_shape: Shape, *, latent_dim: int = 16, num_steps: int = 5, learning_rate: float = 0.02, **parts: Any
) -> tuple[GenerativeModel, Objective]:
    """The semi-amortised VAE of Kim et al. 2018: the encoder's q(z|x) is improved for each x by gradient steps.

    Use it where the encoder is the weak part, and where a powerful decoder ignores z; training takes some 2 K times as
    long.

    References:
        Kim et al., "Semi-amortized variational autoencoders", 2018, https://arxiv.org/abs/1802.02550.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of z.
        num_steps: K, gradient steps per point.
        learning_rate: their size.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    model, objective = vae(event_shape, latent_dim=latent_dim, **parts)
    return SemiAmortized(model, num_steps, learning_rate), objective
