"""Objectives: what training minimises. One file per objective."""

from vaekit.objectives.aggregate import DIPVAE, InfoVAE
from vaekit.objectives.base import Loss, Objective
from vaekit.objectives.elbo import ELBO, Capacity, Denoising
from vaekit.objectives.hiding import HideCells
from vaekit.objectives.importance import CIWAE, IWAE, MIWAE, PIWAE, TVO, Renyi
from vaekit.objectives.labels import MultiConditional, SemiSupervised
from vaekit.objectives.pathwise import STL, DReG
from vaekit.objectives.total_correlation import BetaTC, FactorVAE

__all__ = [
    "BetaTC",
    "CIWAE",
    "Capacity",
    "DIPVAE",
    "DReG",
    "Denoising",
    "ELBO",
    "FactorVAE",
    "HideCells",
    "IWAE",
    "InfoVAE",
    "Loss",
    "MIWAE",
    "MultiConditional",
    "Objective",
    "PIWAE",
    "Renyi",
    "STL",
    "SemiSupervised",
    "TVO",
]
