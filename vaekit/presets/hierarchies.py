"""Presets of several stochastic layers."""

from collections.abc import Sequence
from typing import Any

from vaekit import schedules
from vaekit.errors import ConfigError
from vaekit.models import VAE
from vaekit.objectives import ELBO, Objective
from vaekit.posteriors import Ladder, TopDown
from vaekit.presets.models import vae
from vaekit.priors import Hierarchical, VampPrior
from vaekit.shapes import Shape

__all__ = ["hierarchical_vamp", "ladder_vae"]

_WARM_UP = 5_000  # updates until the KL has its full weight


def _sizes(latent_dim: int, sizes: Sequence[int] | None, num_layers: int) -> tuple[int, ...]:
    """Sizes of the layers, z_1 first: given, or each half of what the layers below it leave."""
    if sizes is not None:
        if sum(sizes) != latent_dim:
            raise ConfigError(f"the layers {tuple(sizes)} add up to {sum(sizes)} dimensions, not to {latent_dim}")
        return tuple(sizes)
    found: list[int] = []
    rest = latent_dim
    while rest > 1 and len(found) < num_layers - 1:
        found.append(rest - rest // 2)
        rest //= 2
    return (*found, rest)


def ladder_vae(
    event_shape: Shape,
    *,
    latent_dim: int = 28,
    sizes: Sequence[int] | None = None,
    hidden: Sequence[int] = (400, 400),
    **parts: Any,
) -> tuple[VAE, Objective]:
    """The ladder VAE of Sonderby et al. 2016: three stochastic layers, inference from the top down, KL warm-up.

    Use it for data with structure at several levels and long runs; on small data the plain `vae` is ahead.

    References:
        Sonderby et al., "Ladder variational autoencoders", 2016, https://arxiv.org/abs/1602.02282.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of all layers together.
        sizes: sizes of the layers, z_1 first; None halves them upwards, as 14, 7, 7.
        hidden: widths of the hidden layers of encoder and decoder; the last one also of the steps between layers.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    layers, width = _sizes(latent_dim, sizes, 3), (tuple(hidden) or (64,))[-1]
    own = {
        "posterior": Ladder(layers, (width,), width),
        "prior": Hierarchical(layers, (width,)),
        "objective": ELBO(beta=schedules.Linear(0.0, 1.0, _WARM_UP)),
    }
    return vae(event_shape, latent_dim=latent_dim, hidden=hidden, **{**own, **parts})


def hierarchical_vamp(
    event_shape: Shape,
    *,
    latent_dim: int = 80,
    sizes: Sequence[int] | None = None,
    hidden: Sequence[int] = (300, 300),
    num_pseudo_inputs: int = 500,
    **parts: Any,
) -> tuple[VAE, Objective]:
    """The two-layer VAE with a VampPrior at the top of Tomczak & Welling 2018: their strongest model, as MLPs.

    Use it for images and long runs. The decoder sees both layers, as theirs does.

    References:
        Tomczak & Welling, "VAE with a VampPrior", 2018, https://arxiv.org/abs/1705.07120, section 3.2.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of both layers together.
        sizes: sizes of z_1 and z_2; None halves them.
        hidden: widths of the hidden layers of encoder and decoder; the last one also of the steps between layers.
        num_pseudo_inputs: K.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    layers, width = _sizes(latent_dim, sizes, 2), (tuple(hidden) or (64,))[-1]
    own = {
        "posterior": TopDown(layers, (width,), width),
        "prior": Hierarchical(layers, (width,), top=VampPrior(layers[-1], num_pseudo_inputs=num_pseudo_inputs)),
    }
    return vae(event_shape, latent_dim=latent_dim, hidden=hidden, **{**own, **parts})
