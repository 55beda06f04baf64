"""Posteriors q(z|x): heads that turn an encoder's output into a distribution of z. One file per family."""

from vaekit.posteriors.ball import WrappedNormal
from vaekit.posteriors.discrete import Bernoulli, Categorical
from vaekit.posteriors.experts import ProductOfExperts
from vaekit.posteriors.flows import Householder, InverseAutoregressive, Planar, Radial, Spline, Sylvester
from vaekit.posteriors.hierarchies import BottomUp, ConvLadder, Ladder, TopDown
from vaekit.posteriors.normal import DiagonalNormal, FullNormal, Laplace, LowRankNormal
from vaekit.posteriors.relaxed import RelaxedBernoulli, RelaxedCategorical
from vaekit.posteriors.sphere import VonMisesFisher

__all__ = [
    "Bernoulli",
    "BottomUp",
    "Categorical",
    "ConvLadder",
    "DiagonalNormal",
    "FullNormal",
    "Householder",
    "InverseAutoregressive",
    "Ladder",
    "Laplace",
    "LowRankNormal",
    "Planar",
    "ProductOfExperts",
    "Radial",
    "RelaxedBernoulli",
    "RelaxedCategorical",
    "Spline",
    "Sylvester",
    "TopDown",
    "VonMisesFisher",
    "WrappedNormal",
]
