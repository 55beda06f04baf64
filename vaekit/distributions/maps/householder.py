"""Reflections."""

import torch
from torch import Tensor

from vaekit.distributions.maps.base import Map


def reflect(z: Tensor, v: Tensor) -> Tensor:
    r"""\( z - 2 v (v \cdot z) / |v|^2 \): the mirror image of z, shape (..., D), in the plane through 0 of normal v."""
    square = (v * v).sum(-1, keepdim=True).clamp(min=torch.finfo(v.dtype).tiny)
    return z - 2 * v * ((v * z).sum(-1, keepdim=True) / square)


class Reflection(Map):
    r"""\( y = (I - 2 v v^T / |v|^2)\, z \), a Householder matrix: orthogonal, and its own inverse.

    Args:
        v: normal of the mirror, shape (*batch, D).
    """

    is_affine = is_orthogonal = True

    def __init__(self, v: Tensor) -> None:
        self.v = v

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The mirror image; volumes stay as they are."""
        return reflect(z, self.v), z.new_zeros(())

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The same once more."""
        return self.forward(y)
