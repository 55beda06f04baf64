"""Objectives: what training minimises. One file per objective."""

from vaekit.objectives.base import Loss, Objective
from vaekit.objectives.dreg import DReG
from vaekit.objectives.elbo import ELBO
from vaekit.objectives.iwae import IWAE
from vaekit.objectives.stl import STL

__all__ = ["DReG", "ELBO", "IWAE", "Loss", "Objective", "STL"]
