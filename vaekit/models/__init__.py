"""Models: objects with a posterior, a prior and a likelihood."""

from vaekit.models.hamiltonian import Hamiltonian
from vaekit.models.semi_amortized import SemiAmortized
from vaekit.models.vae import VAE

__all__ = ["VAE", "Hamiltonian", "SemiAmortized"]
