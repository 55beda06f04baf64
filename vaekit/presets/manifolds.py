"""Presets whose latents live on curved spaces: the sphere and the Poincare ball."""

from typing import Any

from vaekit.models import VAE
from vaekit.objectives import Objective
from vaekit.posteriors import WrappedNormal
from vaekit.presets.models import vae
from vaekit.priors import WrappedNormal as WrappedNormalPrior
from vaekit.shapes import Shape


def s_vae(event_shape: Shape, *, latent_dim: int = 10, **parts: Any) -> tuple[VAE, Objective]:
    """The S-VAE of Davidson et al. 2018: von Mises-Fisher posteriors on the unit sphere.

    Use it where codes are directions, in few dimensions, up to about 20: its uniform prior pulls them nowhere.

    References:
        Davidson et al., "Hyperspherical variational auto-encoders", 2018, https://arxiv.org/abs/1804.00891.

    Args:
        event_shape: shape of one row of data.
        latent_dim: D >= 2, dimensions of the space around the sphere: the codes have D - 1 degrees of freedom.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    sphere = {"posterior": "von-mises-fisher", "prior": "uniform-sphere"}
    return vae(event_shape, latent_dim=latent_dim, **{**sphere, **parts})


def poincare_vae(
    event_shape: Shape, *, latent_dim: int = 5, curvature: float = 1.0, **parts: Any
) -> tuple[VAE, Objective]:
    """The VAE of Mathieu et al. 2019: wrapped normals on the Poincare ball, for data that branch like a tree.

    Use it for hierarchies in two to ten dimensions. The networks are those of `vae` and see points of the ball by their
    coordinates; the paper's decoder begins with a layer of its own, of distances to hyperbolic hyperplanes.

    References:
        Mathieu et al., "Continuous hierarchical representations with Poincare variational auto-encoders", 2019,
        https://arxiv.org/abs/1901.06033.

    Args:
        event_shape: shape of one row of data.
        latent_dim: dimensions of z, best 2 to 20.
        curvature: c > 0; the curvature is -c.
        **parts: as in `vae`.

    Returns:
        The model and the objective.
    """
    ball = {
        "posterior": WrappedNormal(latent_dim, curvature),
        "prior": WrappedNormalPrior(latent_dim, curvature),
    }
    return vae(event_shape, latent_dim=latent_dim, **{**ball, **parts})
