"""Distributions that torch lacks, and the check that a value lies in a distribution's support."""

from vaekit.distributions.ancestral import Ancestral
from vaekit.distributions.autoregressive import AutoregressiveOneHot
from vaekit.distributions.autoregressive_image import AutoregressiveImage
from vaekit.distributions.bernoulli import Bernoulli
from vaekit.distributions.beta import Beta
from vaekit.distributions.continuous_bernoulli import ContinuousBernoulli
from vaekit.distributions.discretized_logistic import DiscretizedLogistic
from vaekit.distributions.discretized_logistic_mixture import (
    CoupledDiscretizedLogisticMixture,
    DiscretizedLogisticMixture,
)
from vaekit.distributions.flow import Flow
from vaekit.distributions.low_rank_normal import LowRankNormal
from vaekit.distributions.mixture import Mixture
from vaekit.distributions.negative_binomial import NegativeBinomial
from vaekit.distributions.normal import Normal
from vaekit.distributions.one_hot import OneHotCategorical
from vaekit.distributions.ordinal import OrdinalCategorical
from vaekit.distributions.poisson import Poisson
from vaekit.distributions.product import Product
from vaekit.distributions.relaxed import RelaxedBernoulli, RelaxedOneHotCategorical
from vaekit.distributions.stacked import Stacked
from vaekit.distributions.student_t import StudentT
from vaekit.distributions.support import (
    centre,
    check_support,
    describe_support,
    element_support,
    known_support,
    nearest,
)
from vaekit.distributions.token_sequence import TokenSequence
from vaekit.distributions.uniform_sphere import UniformSphere
from vaekit.distributions.unit_normal import UnitNormal
from vaekit.distributions.von_mises_fisher import VonMisesFisher
from vaekit.distributions.wrapped_normal import WrappedNormal
from vaekit.distributions.zero_inflated import ZeroInflated

__all__ = [
    "Ancestral",
    "AutoregressiveImage",
    "AutoregressiveOneHot",
    "Bernoulli",
    "Beta",
    "ContinuousBernoulli",
    "CoupledDiscretizedLogisticMixture",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "Flow",
    "LowRankNormal",
    "Mixture",
    "NegativeBinomial",
    "Normal",
    "OneHotCategorical",
    "OrdinalCategorical",
    "Poisson",
    "Product",
    "RelaxedBernoulli",
    "RelaxedOneHotCategorical",
    "Stacked",
    "StudentT",
    "TokenSequence",
    "UniformSphere",
    "UnitNormal",
    "VonMisesFisher",
    "WrappedNormal",
    "ZeroInflated",
    "centre",
    "check_support",
    "describe_support",
    "element_support",
    "known_support",
    "nearest",
]
