"""The uniform distribution on the unit sphere."""

import math
from typing import Any

import torch
from torch import Tensor

from vaekit.distributions.base import Base
from vaekit.distributions.support import unit_sphere


def log_area(dimension: int) -> float:
    r"""\( \log |S^{D-1}| = \log 2 + \tfrac D2 \log \pi - \log \Gamma(D/2) \)."""
    return math.log(2) + 0.5 * dimension * math.log(math.pi) - math.lgamma(0.5 * dimension)


class UniformSphere(Base):
    r"""\( p(z) = 1/|S^{D-1}| \) on the unit sphere of \( R^D \), with respect to its area.

    Args:
        zeros: zeros of shape (*batch, D), which give dtype and device.

    Example:
        >>> import torch
        >>> UniformSphere(torch.zeros(2)).log_prob(torch.tensor([0.0, 1.0]))  # -log 2 pi
        tensor(-1.8379)
    """

    parameters = ("zeros",)
    support: Any = unit_sphere
    has_rsample = False

    def __init__(self, zeros: Tensor) -> None:
        self.zeros = zeros
        super().__init__(zeros.shape[:-1], zeros.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """0, the centre of the sphere, shape (*batch, D)."""
        return self.zeros

    @property
    def variance(self) -> Tensor:
        """1/D, shape (*batch, D)."""
        return torch.full_like(self.zeros, 1 / self.zeros.shape[-1])

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, shape (*sample_shape, *batch, D)."""
        shape = self._extended_shape(torch.Size(sample_shape))
        z = torch.randn(shape, dtype=self.zeros.dtype, device=self.zeros.device)
        return torch.nn.functional.normalize(z, dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(z) in nats, shape (*batch)."""
        # A sum of zeros times z: the gradient in z is there, and 0.
        return (value * self.zeros).sum(-1) - log_area(self.zeros.shape[-1])
