"""Models: objects with a posterior, a prior and a likelihood."""

from typing import TYPE_CHECKING

from vaekit.lazy import attributes

if TYPE_CHECKING:
    from vaekit.models.hamiltonian import Hamiltonian
    from vaekit.models.semi_amortized import SemiAmortized
    from vaekit.models.vae import VAE

_WHERE = {
    "Hamiltonian": "hamiltonian",
    "SemiAmortized": "semi_amortized",
    "VAE": "vae",
}

__all__ = [
    "Hamiltonian",
    "SemiAmortized",
    "VAE",
]
__getattr__, __dir__ = attributes(__name__, _WHERE)
