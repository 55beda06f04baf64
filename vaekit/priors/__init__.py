"""Priors p(z): modules whose call, without an argument, returns a distribution of z. One file per family."""

from vaekit.priors.affine_coupling import AffineCoupling
from vaekit.priors.masked_autoregressive import MaskedAutoregressive
from vaekit.priors.spline import Spline
from vaekit.priors.standard_normal import StandardNormal

__all__ = [
    "AffineCoupling",
    "MaskedAutoregressive",
    "Spline",
    "StandardNormal",
]
