"""Priors p(z): modules whose call, without an argument, returns a distribution of z. One file per family."""

from vaekit.priors.ball import WrappedNormal
from vaekit.priors.discrete import AutoregressiveCategorical, Bernoulli, Categorical
from vaekit.priors.flows import AffineCoupling, MaskedAutoregressive, Spline
from vaekit.priors.hierarchies import ConvHierarchical, Hierarchical
from vaekit.priors.mixtures import NormalMixture, VampPrior
from vaekit.priors.normal import StandardNormal
from vaekit.priors.relaxed import RelaxedBernoulli, RelaxedCategorical
from vaekit.priors.sphere import UniformSphere

__all__ = [
    "AffineCoupling",
    "AutoregressiveCategorical",
    "Bernoulli",
    "Categorical",
    "ConvHierarchical",
    "Hierarchical",
    "MaskedAutoregressive",
    "NormalMixture",
    "RelaxedBernoulli",
    "RelaxedCategorical",
    "Spline",
    "StandardNormal",
    "UniformSphere",
    "VampPrior",
    "WrappedNormal",
]
