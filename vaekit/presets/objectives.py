"""Presets that differ from `vae` in the objective alone: the networks, the posterior and the prior stay as they are."""

from typing import Any

from vaekit import schedules
from vaekit.models import VAE
from vaekit.objectives import (
    CIWAE,
    DIPVAE,
    IWAE,
    MIWAE,
    PIWAE,
    TVO,
    BetaTC,
    Capacity,
    DReG,
    FactorVAE,
    InfoVAE,
    Objective,
)
from vaekit.presets.models import vae
from vaekit.shapes import Shape

_WARM_UP = 10_000  # updates


def iwae(event_shape: Shape, *, latent_dim: int = 16, num_samples: int = 5, **parts: Any) -> tuple[VAE, Objective]:
    """The importance-weighted autoencoder of Burda et al. 2016: a tighter bound at K times the decoder's cost.

    Use it where log p(x) matters more than the time of training; `dreg` is the better gradient for many draws.

    References:
        Burda et al., "Importance weighted autoencoders", 2016, https://arxiv.org/abs/1509.00519.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of z.
        num_samples: K.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    return vae(event_shape, latent_dim=latent_dim, **{"objective": IWAE(num_samples), **parts})


def miwae(
    event_shape: Shape, *, latent_dim: int = 16, num_samples: int = 10, num_groups: int = 2, **parts: Any
) -> tuple[VAE, Objective]:
    """MIWAE of Rainforth et al. 2018: means of smaller importance-weighted bounds, for a better encoder.

    Use it where many draws are affordable and the encoder suffers under `iwae`.

    References:
        Rainforth et al., "Tighter variational bounds are not necessarily better", 2018, https://arxiv.org/abs/1802.04537.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of z.
        num_samples: all draws of z per row.
        num_groups: M, which divides them; each group has a bound of its own.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    return vae(event_shape, latent_dim=latent_dim, **{"objective": MIWAE(num_samples, num_groups), **parts})


def ciwae(
    event_shape: Shape, *, latent_dim: int = 16, elbo_weight: float = 0.5, num_samples: int = 5, **parts: Any
) -> tuple[VAE, Objective]:
    """CIWAE of Rainforth et al. 2018: a blend of ELBO and IWAE, between a tight bound and a good encoder.

    Use it as a compromise between `vae` and `iwae`, with a weight that has to be found by trial.

    References:
        Rainforth et al., "Tighter variational bounds are not necessarily better", 2018, https://arxiv.org/abs/1802.04537.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of z.
        elbo_weight: share of the ELBO.
        num_samples: K.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    return vae(event_shape, latent_dim=latent_dim, **{"objective": CIWAE(num_samples, elbo_weight), **parts})


def piwae(
    event_shape: Shape, *, latent_dim: int = 16, num_samples: int = 10, num_groups: int = 2, **parts: Any
) -> tuple[VAE, Objective]:
    """PIWAE of Rainforth et al. 2018: the decoder learns from IWAE, the encoder from MIWAE.

    Use it where log p(x) matters most and two backward passes are affordable.

    References:
        Rainforth et al., "Tighter variational bounds are not necessarily better", 2018, https://arxiv.org/abs/1802.04537.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of z.
        num_samples: all draws of z per row.
        num_groups: M of the encoder's bound, which divides them.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    return vae(event_shape, latent_dim=latent_dim, **{"objective": PIWAE(num_samples, num_groups), **parts})


def dreg(event_shape: Shape, *, latent_dim: int = 16, num_samples: int = 5, **parts: Any) -> tuple[VAE, Objective]:
    """IWAE by the doubly reparameterised gradient of Tucker et al. 2019: a good encoder with many samples, too.

    Use it in place of `iwae`, most of all with many draws; the posterior has to be reparameterisable.

    References:
        Tucker et al., "Doubly reparameterized gradient estimators for Monte Carlo objectives", 2019,
        https://arxiv.org/abs/1810.04152.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of z.
        num_samples: K.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    return vae(event_shape, latent_dim=latent_dim, **{"objective": DReG(num_samples), **parts})


def tvo(event_shape: Shape, *, latent_dim: int = 16, num_samples: int = 10, **parts: Any) -> tuple[VAE, Objective]:
    """The thermodynamic variational objective of Masrani et al. 2019: a bound by integration over temperatures.

    Use it for discrete latents, with many draws; with latents that can be reparameterised `dreg` is less noisy.

    References:
        Masrani et al., "The thermodynamic variational objective", 2019, https://arxiv.org/abs/1907.00031.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of z.
        num_samples: draws of z per row.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    return vae(event_shape, latent_dim=latent_dim, **{"objective": TVO(num_samples), **parts})


def disentangled_beta_vae(
    event_shape: Shape, *, latent_dim: int = 16, capacity: float = 25.0, gamma: float = 100.0, **parts: Any
) -> tuple[VAE, Objective]:
    """The beta-VAE of Burgess et al. 2018: a KL held at a capacity, for disentangled codes at a chosen rate.

    Use it for disentangled codes at a rate that one chooses, not for log p(x).

    References:
        Burgess et al., "Understanding disentangling in beta-VAE", 2018, https://arxiv.org/abs/1804.03599.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of z.
        capacity: the rate, nats; it grows to it over the first 10,000 updates.
        gamma: weight of the distance from it.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    return vae(
        event_shape,
        latent_dim=latent_dim,
        **{"objective": Capacity(schedules.Linear(0.0, capacity, _WARM_UP), gamma), **parts},
    )


def beta_tc_vae(event_shape: Shape, *, latent_dim: int = 16, beta: float = 6.0, **parts: Any) -> tuple[VAE, Objective]:
    """The beta-TC-VAE of Chen et al. 2018: only the dependence between latents is weighted, for disentangled codes.

    Use it for disentangled codes with batches of a hundred rows and more, not for log p(x).

    References:
        Chen et al., "Isolating sources of disentanglement in variational autoencoders", 2018,
        https://arxiv.org/abs/1802.04942.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of z.
        beta: weight of the total correlation.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    return vae(event_shape, latent_dim=latent_dim, **{"objective": BetaTC(beta), **parts})


def factor_vae(event_shape: Shape, *, latent_dim: int = 16, gamma: float = 10.0, **parts: Any) -> tuple[VAE, Objective]:
    """FactorVAE of Kim & Mnih 2018: the dependence between latents by a discriminator, for disentangled codes.

    Use it for disentangled codes where batches are too small for `beta_tc_vae`, not for log p(x).

    References:
        Kim & Mnih, "Disentangling by factorising", 2018, https://arxiv.org/abs/1802.05983.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of z.
        gamma: weight of the total correlation.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    return vae(event_shape, latent_dim=latent_dim, **{"objective": FactorVAE(gamma), **parts})


def dip_vae(
    event_shape: Shape, *, latent_dim: int = 16, off_diagonal: float = 10.0, **parts: Any
) -> tuple[VAE, Objective]:
    """DIP-VAE of Kumar et al. 2018: the covariance of the codes is drawn to the identity, for disentangled codes.

    Use it for disentangled codes at little cost; it sees linear dependence alone.

    References:
        Kumar et al., "Variational inference of disentangled latent concepts from unlabeled observations", 2018,
        https://arxiv.org/abs/1711.00848.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of z.
        off_diagonal: weight of the squared covariances.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    return vae(event_shape, latent_dim=latent_dim, **{"objective": DIPVAE(off_diagonal=off_diagonal), **parts})


def info_vae(event_shape: Shape, *, latent_dim: int = 16, weight: float = 100.0, **parts: Any) -> tuple[VAE, Objective]:
    """InfoVAE of Zhao et al. 2019: less KL and an MMD between q(z) and the prior, for codes that carry more.

    Use it where codes collapse, or must fill the prior well.

    References:
        Zhao et al., "InfoVAE: balancing learning and inference in variational autoencoders", 2019,
        https://arxiv.org/abs/1706.02262.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of z.
        weight: of the maximum mean discrepancy.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    return vae(event_shape, latent_dim=latent_dim, **{"objective": InfoVAE(weight=weight), **parts})
