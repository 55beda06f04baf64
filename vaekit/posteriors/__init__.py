"""Posteriors q(z|x): heads that turn an encoder's output into a distribution of z. One file per family."""

from vaekit.posteriors.diagonal_normal import DiagonalNormal
from vaekit.posteriors.full_normal import FullNormal
from vaekit.posteriors.householder import Householder
from vaekit.posteriors.inverse_autoregressive import InverseAutoregressive
from vaekit.posteriors.laplace import Laplace
from vaekit.posteriors.low_rank_normal import LowRankNormal
from vaekit.posteriors.planar import Planar
from vaekit.posteriors.radial import Radial
from vaekit.posteriors.spline import Spline
from vaekit.posteriors.sylvester import Sylvester

__all__ = [
    "DiagonalNormal",
    "FullNormal",
    "Householder",
    "InverseAutoregressive",
    "Laplace",
    "LowRankNormal",
    "Planar",
    "Radial",
    "Spline",
    "Sylvester",
]
