"""Distributions that torch lacks, and the check that a value lies in a distribution's support."""

from vaekit.distributions.autoregressive_image import AutoregressiveImage
from vaekit.distributions.bernoulli import Bernoulli
from vaekit.distributions.beta import Beta
from vaekit.distributions.continuous_bernoulli import ContinuousBernoulli
from vaekit.distributions.discretized_logistic import DiscretizedLogistic
from vaekit.distributions.discretized_logistic_mixture import (
    CoupledDiscretizedLogisticMixture,
    DiscretizedLogisticMixture,
)
from vaekit.distributions.negative_binomial import NegativeBinomial
from vaekit.distributions.normal import Normal
from vaekit.distributions.ordinal import OrdinalCategorical
from vaekit.distributions.poisson import Poisson
from vaekit.distributions.product import Product
from vaekit.distributions.pushforward import Pushforward
from vaekit.distributions.stacked import Stacked
from vaekit.distributions.student_t import StudentT
from vaekit.distributions.support import check_support, describe_support, element_support
from vaekit.distributions.token_sequence import TokenSequence
from vaekit.distributions.unit_normal import UnitNormal
from vaekit.distributions.zero_inflated import ZeroInflated

__all__ = [
    "AutoregressiveImage",
    "Bernoulli",
    "Beta",
    "ContinuousBernoulli",
    "CoupledDiscretizedLogisticMixture",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "NegativeBinomial",
    "Normal",
    "OrdinalCategorical",
    "Poisson",
    "Product",
    "Pushforward",
    "Stacked",
    "StudentT",
    "TokenSequence",
    "UnitNormal",
    "ZeroInflated",
    "check_support",
    "describe_support",
    "element_support",
]
