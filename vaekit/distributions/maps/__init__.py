"""Invertible maps of which `Flow` makes distributions: each a small object that holds the tensors of one call.

A map takes z of shape (..., D) to y of the same shape and gives log|det dy/dz|; the way back gives log|det dz/dy|. Its
tensors may have batch dimensions of their own, so that each point x has its own map.
"""

from vaekit.distributions.maps.base import Affine, Inverse, Map, Reverse, TorchTransform
from vaekit.distributions.maps.elementwise import Autoregressive, Coupling, bounded, gated
from vaekit.distributions.maps.vectors import Planar, Radial, Reflection, Sylvester

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
