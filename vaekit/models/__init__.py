"""Models: objects with a posterior, a prior and a likelihood."""

from typing import TYPE_CHECKING

from vaekit.lazy import attributes

if TYPE_CHECKING:
    from vaekit.models.conditional import ConditionalVAE
    from vaekit.models.ensemble import Ensemble
    from vaekit.models.refined import Hamiltonian, SemiAmortized
    from vaekit.models.rows import Batch
    from vaekit.models.stacked import StackedVAE
    from vaekit.models.vae import VAE
    from vaekit.models.view import View

_WHERE = {
    "Batch": "rows",
    "ConditionalVAE": "conditional",
    "Ensemble": "ensemble",
    "Hamiltonian": "refined",
    "SemiAmortized": "refined",
    "StackedVAE": "stacked",
    "VAE": "vae",
    "View": "view",
}

__all__ = [
    "Batch",
    "ConditionalVAE",
    "Ensemble",
    "Hamiltonian",
    "SemiAmortized",
    "StackedVAE",
    "VAE",
    "View",
]
if not TYPE_CHECKING:  # a module with `__getattr__` has every name, to type checkers
    __getattr__, __dir__ = attributes(__name__, _WHERE)
