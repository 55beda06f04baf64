"""Pictures of models, codes and training. Every function returns a matplotlib `Figure`; `save` writes one.

Nothing here touches matplotlib's global state: no pyplot, no settings.
"""

from vaekit.docstrings import summary
from vaekit.plots.classes import calibration, confusion
from vaekit.plots.curves import ACTIVE, divergence, losses, trend
from vaekit.plots.decoded import interpolation, manifold, reconstructions, samples, traversal
from vaekit.plots.given import class_by_style, transfer
from vaekit.plots.images import image_grid, save_grid
from vaekit.plots.latent import latent
from vaekit.plots.style import save, to_bytes


def _in_a_list(text: str) -> str:
    """Without the capital of a sentence; names such as E[x|z] and IWAE keep theirs."""
    return text[0].lower() + text[1:] if text[1].islower() else text


_NAMED = (losses, samples, reconstructions, latent, manifold, traversal, interpolation, trend)
PICTURES = {picture.__name__: picture for picture in _NAMED} | {"style": class_by_style, "transfer": transfer}
KINDS = {name: _in_a_list(summary(picture)) for name, picture in PICTURES.items()}

__all__ = [
    "ACTIVE",
    "KINDS",
    "PICTURES",
    "calibration",
    "class_by_style",
    "confusion",
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
    "transfer",
    "traversal",
    "trend",
]
