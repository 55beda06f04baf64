"""Distributions that torch lacks, and the check that a value lies in a distribution's support."""

from vaekit.distributions.bernoulli import Bernoulli
from vaekit.distributions.continuous_bernoulli import ContinuousBernoulli
from vaekit.distributions.discretized_logistic import DiscretizedLogistic
from vaekit.distributions.ordinal import OrdinalCategorical
from vaekit.distributions.product import Product
from vaekit.distributions.support import check_support, describe_support
from vaekit.distributions.unit_normal import UnitNormal

__all__ = [
    "Bernoulli",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "OrdinalCategorical",
    "Product",
    "check_support",
    "describe_support",
    "UnitNormal",
]
