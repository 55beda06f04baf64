"""Objectives: what training minimises. One file per objective."""

from vaekit.objectives.base import Loss, Objective
from vaekit.objectives.beta_tc import BetaTC
from vaekit.objectives.capacity import Capacity
from vaekit.objectives.ciwae import CIWAE
from vaekit.objectives.denoising import Denoising
from vaekit.objectives.dip_vae import DIPVAE
from vaekit.objectives.dreg import DReG
from vaekit.objectives.elbo import ELBO
from vaekit.objectives.factor_vae import FactorVAE
from vaekit.objectives.info_vae import InfoVAE
from vaekit.objectives.iwae import IWAE
from vaekit.objectives.miwae import MIWAE
from vaekit.objectives.piwae import PIWAE
from vaekit.objectives.renyi import Renyi
from vaekit.objectives.stl import STL
from vaekit.objectives.tvo import TVO

__all__ = [
    "BetaTC",
    "CIWAE",
    "Capacity",
    "DIPVAE",
    "DReG",
    "Denoising",
    "ELBO",
    "FactorVAE",
    "IWAE",
    "InfoVAE",
    "Loss",
    "MIWAE",
    "Objective",
    "PIWAE",
    "Renyi",
    "STL",
    "TVO",
]
