"""The preset whose prior's components are read as clusters."""

from typing import Unpack

from vaekit.models import VAE
from vaekit.objectives import Objective
from vaekit.presets.functions import vae
from vaekit.presets.parts import OfClusters, Part
from vaekit.presets.registry import preset, publish
from vaekit.priors import NormalMixture
from vaekit.shapes import Shape
from vaekit.training import StartClusters


@preset(latent_dim=10, begins=StartClusters)
def vade(
    event_shape: Shape,
    *,
    latent_dim: int = 10,
    num_clusters: int = 10,
    prior: Part | None = None,
    **parts: Unpack[OfClusters],
) -> tuple[VAE, Objective]:
    """VaDE of Jiang et al. 2017: a mixture of Gaussians as prior, whose components are read as clusters.

    Use it to find groups in images, tables or arrays: `vaekit encode RUN DATA --clusters`, or `queries.clusters`. The
    number of clusters is a choice: `prior=normal-mixture:num_components=7`. `vaekit fit` begins with an autoencoder and
    a mixture fitted to its codes; in Python hand `vk.training.StartClusters()` to the trainer as a callback, without
    which components seldom become clusters. Several seeds find several groupings. Compare these, or at least their
    bounds: report the mean over seeds, not the best.

    The objective is the ELBO with its KL sampled. That is VaDE's bound with q(c|x) at its optimum p(c|z) for each draw;
    the paper's networks are `hidden=(500, 500, 2000)`.

    References:
        Jiang et al., "Variational deep embedding: an unsupervised and generative approach to clustering", 2017,
        https://arxiv.org/abs/1611.05148.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of z.
        num_clusters: components of the prior, where that is not given.
        prior: name or module of p(z); None is a `NormalMixture` with diagonal covariances. Another prior than a
            `NormalMixture` starts as it is.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    mixture = NormalMixture(latent_dim, num_components=num_clusters) if prior is None else prior
    return vae(event_shape, latent_dim=latent_dim, prior=mixture, **parts)


publish(globals())
