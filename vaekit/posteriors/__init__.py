"""Posteriors q(z|x): heads that turn an encoder's output into a distribution of z. One file per family."""

from vaekit.posteriors.diagonal_normal import DiagonalNormal
from vaekit.posteriors.full_normal import FullNormal
from vaekit.posteriors.laplace import Laplace
from vaekit.posteriors.low_rank_normal import LowRankNormal

__all__ = ["DiagonalNormal", "FullNormal", "Laplace", "LowRankNormal"]
