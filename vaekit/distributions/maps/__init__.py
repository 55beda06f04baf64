"""Invertible maps of which `Flow` makes distributions: each a small object that holds the tensors of one call.

A map takes z of shape (..., D) to y of the same shape and gives log|det dy/dz|; the way back gives log|det dz/dy|. Its
tensors may have batch dimensions of their own, so that each point x has its own map.
"""

from vaekit.distributions.maps.base import Affine, Inverse, Map, Reverse, TorchTransform
from vaekit.distributions.maps.conditioned import Autoregressive, Coupling, bounded, gated
from vaekit.distributions.maps.householder import Reflection
from vaekit.distributions.maps.planar import Planar
from vaekit.distributions.maps.radial import Radial
from vaekit.distributions.maps.sylvester import Sylvester

__all__ = [
    "Affine",
    "Autoregressive",
    "Coupling",
    "Inverse",
    "Map",
    "Planar",
    "Radial",
    "Reflection",
    "Reverse",
    "Sylvester",
    "TorchTransform",
    "bounded",
    "gated",
]
