"""Distributions that torch lacks, and the check that a value lies in a distribution's support."""

from typing import TYPE_CHECKING

from vaekit.lazy import attributes

if TYPE_CHECKING:
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

_WHERE = {
    "Ancestral": "ancestral",
    "AutoregressiveImage": "autoregressive_image",
    "AutoregressiveOneHot": "autoregressive",
    "Bernoulli": "bernoulli",
    "Beta": "beta",
    "ContinuousBernoulli": "continuous_bernoulli",
    "CoupledDiscretizedLogisticMixture": "discretized_logistic_mixture",
    "DiscretizedLogistic": "discretized_logistic",
    "DiscretizedLogisticMixture": "discretized_logistic_mixture",
    "Flow": "flow",
    "LowRankNormal": "low_rank_normal",
    "Mixture": "mixture",
    "NegativeBinomial": "negative_binomial",
    "Normal": "normal",
    "OneHotCategorical": "one_hot",
    "OrdinalCategorical": "ordinal",
    "Poisson": "poisson",
    "Product": "product",
    "RelaxedBernoulli": "relaxed",
    "RelaxedOneHotCategorical": "relaxed",
    "Stacked": "stacked",
    "StudentT": "student_t",
    "TokenSequence": "token_sequence",
    "UniformSphere": "uniform_sphere",
    "UnitNormal": "unit_normal",
    "VonMisesFisher": "von_mises_fisher",
    "WrappedNormal": "wrapped_normal",
    "ZeroInflated": "zero_inflated",
    "centre": "support",
    "check_support": "support",
    "describe_support": "support",
    "element_support": "support",
    "known_support": "support",
    "nearest": "support",
}

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
__getattr__, __dir__ = attributes(__name__, _WHERE)
