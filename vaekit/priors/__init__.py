"""Priors p(z): modules whose call, without an argument, returns a distribution of z. One file per family."""

from vaekit.priors.standard_normal import StandardNormal

__all__ = ["StandardNormal"]
