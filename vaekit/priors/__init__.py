"""Priors p(z): modules whose call, without an argument, returns a distribution of z. One file per family."""

from vaekit.priors.affine_coupling import AffineCoupling
from vaekit.priors.autoregressive_categorical import AutoregressiveCategorical
from vaekit.priors.bernoulli import Bernoulli
from vaekit.priors.categorical import Categorical
from vaekit.priors.conv_hierarchical import ConvHierarchical
from vaekit.priors.hierarchical import Hierarchical
from vaekit.priors.masked_autoregressive import MaskedAutoregressive
from vaekit.priors.normal_mixture import NormalMixture
from vaekit.priors.relaxed_bernoulli import RelaxedBernoulli
from vaekit.priors.relaxed_categorical import RelaxedCategorical
from vaekit.priors.spline import Spline
from vaekit.priors.standard_normal import StandardNormal
from vaekit.priors.uniform_sphere import UniformSphere
from vaekit.priors.vamp_prior import VampPrior
from vaekit.priors.wrapped_normal import WrappedNormal

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
