"""Presets whose posterior or prior is a flow: the networks and the objective stay those of `vae`."""

from collections.abc import Sequence
from typing import Any

from vaekit.models import VAE
from vaekit.objectives import Objective
from vaekit.posteriors import InverseAutoregressive, Planar
from vaekit.presets.models import vae
from vaekit.shapes import Shape

__all__ = ["vae_iaf", "vae_linnf"]


def vae_linnf(event_shape: Shape, *, latent_dim: int = 16, num_flows: int = 8, **parts: Any) -> tuple[VAE, Objective]:
    """The planar-flow VAE of Rezende & Mohamed 2015: q(z|x) bent along one direction per step, for few latents.

    Use it with up to some twenty latents whose posteriors are skewed; `vae_iaf` bends all dimensions at once.

    References:
        Rezende & Mohamed, "Variational inference with normalizing flows", 2015, https://arxiv.org/abs/1505.05770.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of z.
        num_flows: planar maps, each with parameters of its own for each row.
        **parts: as in `vae`; `posterior=posteriors.Radial(latent_dim)` is the radial sister.

    Returns:
        The model and the objective.
    """
    return vae(event_shape, latent_dim=latent_dim, **{"posterior": Planar(latent_dim, num_flows), **parts})


def vae_iaf(
    event_shape: Shape,
    *,
    latent_dim: int = 16,
    num_flows: int = 2,
    flow_hidden: Sequence[int] = (128,),
    **parts: Any,
) -> tuple[VAE, Objective]:
    """The VAE of Kingma et al. 2016 with an inverse autoregressive flow: correlated, bent q(z|x) in many dimensions.

    Use it for long runs: it starts behind the diagonal posterior and needs updates to get ahead of it.

    References:
        Kingma et al., "Improved variational inference with inverse autoregressive flow", 2016,
        https://arxiv.org/abs/1606.04934.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of z, at least 2.
        num_flows: gated autoregressive steps.
        flow_hidden: widths of the hidden layers of each step's masked network.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    posterior = InverseAutoregressive(latent_dim, num_flows, flow_hidden)
    return vae(event_shape, latent_dim=latent_dim, **{"posterior": posterior, **parts})
