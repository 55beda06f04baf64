"""Posteriors q(z|x): heads that turn an encoder's output into a distribution of z. One file per family."""

from vaekit.posteriors.bottom_up import BottomUp
from vaekit.posteriors.conv_ladder import ConvLadder
from vaekit.posteriors.diagonal_normal import DiagonalNormal
from vaekit.posteriors.full_normal import FullNormal
from vaekit.posteriors.ladder import Ladder
from vaekit.posteriors.top_down import TopDown

__all__ = ["BottomUp", "ConvLadder", "DiagonalNormal", "FullNormal", "Ladder", "TopDown"]
