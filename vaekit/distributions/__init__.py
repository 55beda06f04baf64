"""Distributions that torch lacks, and the check that a value lies in a distribution's support."""

from typing import TYPE_CHECKING

from vaekit.lazy import attributes

if TYPE_CHECKING:
    from vaekit.distributions.ball import WrappedNormal
    from vaekit.distributions.columns import Columns, RaggedCategorical
    from vaekit.distributions.counts import NegativeBinomial, Poisson, ZeroInflated
    from vaekit.distributions.discrete import Bernoulli, OneHotCategorical
    from vaekit.distributions.flows import Flow
    from vaekit.distributions.groups import Group
    from vaekit.distributions.hierarchies import Ancestral
    from vaekit.distributions.intervals import Beta, ContinuousBernoulli
    from vaekit.distributions.levels import (
        CoupledDiscretizedLogisticMixture,
        DiscretizedLogistic,
        DiscretizedLogisticMixture,
        OrdinalCategorical,
    )
    from vaekit.distributions.mixtures import Mixture
    from vaekit.distributions.normal import LogNormal, LowRankNormal, Normal, NormalMixture, UnitNormal
    from vaekit.distributions.numbered import NumberedMixture
    from vaekit.distributions.pixels import AutoregressiveImage
    from vaekit.distributions.product import Product
    from vaekit.distributions.reals import StudentT
    from vaekit.distributions.relaxed import RelaxedBernoulli, RelaxedOneHotCategorical
    from vaekit.distributions.rounded import RoundedLogNormal
    from vaekit.distributions.selection import SelectedNormal, SelfMasked
    from vaekit.distributions.sphere import UniformSphere, VonMisesFisher
    from vaekit.distributions.spikes import Spiked
    from vaekit.distributions.stacked import Stacked
    from vaekit.distributions.support import (
        centre,
        check_support,
        describe_support,
        element_support,
        known_support,
        nearest,
    )
    from vaekit.distributions.tokens import AutoregressiveOneHot, TokenSequence

_FAMILIES = {
    "ball": ["WrappedNormal"],
    "columns": ["Columns", "RaggedCategorical"],
    "counts": ["NegativeBinomial", "Poisson", "ZeroInflated"],
    "discrete": ["Bernoulli", "OneHotCategorical"],
    "flows": ["Flow"],
    "groups": ["Group"],
    "hierarchies": ["Ancestral"],
    "intervals": ["Beta", "ContinuousBernoulli"],
    "levels": [
        "CoupledDiscretizedLogisticMixture",
        "DiscretizedLogistic",
        "DiscretizedLogisticMixture",
        "OrdinalCategorical",
    ],
    "mixtures": ["Mixture"],
    "normal": ["LogNormal", "LowRankNormal", "Normal", "NormalMixture", "UnitNormal"],
    "numbered": ["NumberedMixture"],
    "pixels": ["AutoregressiveImage"],
    "product": ["Product"],
    "reals": ["StudentT"],
    "relaxed": ["RelaxedBernoulli", "RelaxedOneHotCategorical"],
    "rounded": ["RoundedLogNormal"],
    "selection": ["SelectedNormal", "SelfMasked"],
    "sphere": ["UniformSphere", "VonMisesFisher"],
    "spikes": ["Spiked"],
    "stacked": ["Stacked"],
    "support": ["centre", "check_support", "describe_support", "element_support", "known_support", "nearest"],
    "tokens": ["AutoregressiveOneHot", "TokenSequence"],
}

__all__ = [
    "Ancestral",
    "AutoregressiveImage",
    "AutoregressiveOneHot",
    "Bernoulli",
    "Beta",
    "Columns",
    "ContinuousBernoulli",
    "CoupledDiscretizedLogisticMixture",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "Flow",
    "Group",
    "LogNormal",
    "LowRankNormal",
    "Mixture",
    "NegativeBinomial",
    "Normal",
    "NormalMixture",
    "NumberedMixture",
    "OneHotCategorical",
    "OrdinalCategorical",
    "Poisson",
    "Product",
    "RaggedCategorical",
    "RelaxedBernoulli",
    "RelaxedOneHotCategorical",
    "RoundedLogNormal",
    "SelectedNormal",
    "SelfMasked",
    "Spiked",
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

if not TYPE_CHECKING:  # a module with `__getattr__` has every name, to type checkers
    __getattr__, __dir__ = attributes(__name__, {name: family for family, names in _FAMILIES.items() for name in names})
