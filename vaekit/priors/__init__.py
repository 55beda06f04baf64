"""Priors p(z): modules whose call, without an argument, returns a distribution of z. One file per family."""

from vaekit.priors.conv_hierarchical import ConvHierarchical
from vaekit.priors.hierarchical import Hierarchical
from vaekit.priors.normal_mixture import NormalMixture
from vaekit.priors.standard_normal import StandardNormal
from vaekit.priors.vamp_prior import VampPrior

__all__ = ["ConvHierarchical", "Hierarchical", "NormalMixture", "StandardNormal", "VampPrior"]
