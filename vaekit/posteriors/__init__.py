"""Posteriors q(z|x): heads that turn an encoder's output into a distribution of z. One file per family."""

from vaekit.posteriors.bernoulli import Bernoulli
from vaekit.posteriors.bottom_up import BottomUp
from vaekit.posteriors.categorical import Categorical
from vaekit.posteriors.conv_ladder import ConvLadder
from vaekit.posteriors.diagonal_normal import DiagonalNormal
from vaekit.posteriors.full_normal import FullNormal
from vaekit.posteriors.householder import Householder
from vaekit.posteriors.inverse_autoregressive import InverseAutoregressive
from vaekit.posteriors.ladder import Ladder
from vaekit.posteriors.laplace import Laplace
from vaekit.posteriors.low_rank_normal import LowRankNormal
from vaekit.posteriors.planar import Planar
from vaekit.posteriors.radial import Radial
from vaekit.posteriors.relaxed_bernoulli import RelaxedBernoulli
from vaekit.posteriors.relaxed_categorical import RelaxedCategorical
from vaekit.posteriors.spline import Spline
from vaekit.posteriors.sylvester import Sylvester
from vaekit.posteriors.top_down import TopDown
from vaekit.posteriors.von_mises_fisher import VonMisesFisher
from vaekit.posteriors.wrapped_normal import WrappedNormal

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
    "Radial",
    "RelaxedBernoulli",
    "RelaxedCategorical",
    "Spline",
    "Sylvester",
    "TopDown",
    "VonMisesFisher",
    "WrappedNormal",
]
