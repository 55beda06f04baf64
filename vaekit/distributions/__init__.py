"""Distributions that torch lacks, and the check that a value lies in a distribution's support."""

from vaekit.distributions.continuous_bernoulli import ContinuousBernoulli
from vaekit.distributions.discretized_logistic import DiscretizedLogistic
from vaekit.distributions.ordinal import OrdinalCategorical
from vaekit.distributions.product import Product
from vaekit.distributions.support import check_support, describe_support

__all__ = [
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "OrdinalCategorical",
    "Product",
    "check_support",
    "describe_support",
]
