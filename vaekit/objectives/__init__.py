"""Objectives: what training minimises. One file per objective."""

from vaekit.objectives.base import Loss, Objective
from vaekit.objectives.elbo import ELBO
from vaekit.objectives.iwae import IWAE

__all__ = ["ELBO", "IWAE", "Loss", "Objective"]
