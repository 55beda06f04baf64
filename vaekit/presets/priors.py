"""Presets that differ from `vae` in the prior."""

from typing import Any

from vaekit.models import VAE
from vaekit.objectives import Objective
from vaekit.presets.models import vae
from vaekit.priors import VampPrior
from vaekit.shapes import Shape

__all__ = ["vamp"]


def vamp(
    event_shape: Shape, *, latent_dim: int = 16, num_pseudo_inputs: int = 500, **parts: Any
) -> tuple[VAE, Objective]:
    """The VAE with a VampPrior of Tomczak & Welling 2018: a prior that learns the shape of the codes.

    Use it first where a better prior is wanted; before training, `model.prior.initialize(train_rows)` lets the
    pseudo-inputs begin at data, which trains faster.

    References:
        Tomczak & Welling, "VAE with a VampPrior", 2018, https://arxiv.org/abs/1705.07120.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of z.
        num_pseudo_inputs: K.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    prior = VampPrior(latent_dim, num_pseudo_inputs=num_pseudo_inputs)
    return vae(event_shape, latent_dim=latent_dim, **{"prior": prior, **parts})
