"""Pictures of models, codes and training. Every function returns a matplotlib `Figure`; `save` writes one.

Nothing here touches matplotlib's global state: no pyplot, no settings.
"""

from vaekit.plots.divergence import ACTIVE, divergence
from vaekit.plots.images import image_grid, save_grid
from vaekit.plots.interpolation import interpolation
from vaekit.plots.latent import latent
from vaekit.plots.losses import losses
from vaekit.plots.manifold import manifold
from vaekit.plots.reconstructions import reconstructions
from vaekit.plots.samples import samples
from vaekit.plots.style import save, to_bytes
from vaekit.plots.traversal import traversal
from vaekit.plots.trend import trend

KINDS = {
    "losses": "bounds, log-likelihood and KL per epoch",
    "samples": "draws of x from the model, or E[x|z] at draws of z",
    "reconstructions": "originals, and what the model makes of their codes",
    "latent": "E[z|x] coloured by label; principal components beyond two dimensions",
    "manifold": "E[x|z] over a two-dimensional latent space",
    "traversal": "E[x|z] along one latent dimension at a time",
    "interpolation": "E[x|z] on straight lines between the codes of two rows",
    "trend": "IWAE bound on log p(x) over the number of samples: flat where it has converged",
}

__all__ = [
    "ACTIVE",
    "KINDS",
    "divergence",
    "image_grid",
    "interpolation",
    "latent",
    "losses",
    "manifold",
    "reconstructions",
    "samples",
    "save",
    "save_grid",
    "to_bytes",
    "traversal",
    "trend",
]
