"""The radial map."""

import torch
from torch import Tensor

from vaekit.distributions.maps.base import Map


class Radial(Map):
    r"""\( y = z + \frac{\beta}{\alpha + r} (z - z_0) \) with \( r = |z - z_0| \): pushes points away from \( z_0 \)
    (\( \beta > 0 \)) or towards it.

    It can be inverted where \( \beta > -\alpha \). The way back is a quadratic equation for r.

    References:
        Rezende & Mohamed, "Variational inference with normalizing flows", 2015, https://arxiv.org/abs/1505.05770,
        equation 14 and appendix A.2.

    Args:
        center: \( z_0 \), shape (*batch, D).
        alpha: \( \alpha > 0 \), shape (*batch).
        ratio: \( \beta / \alpha > -1 \), shape (*batch).
    """

    def __init__(self, center: Tensor, alpha: Tensor, ratio: Tensor) -> None:
        self.center, self.alpha, self.beta = center, alpha, ratio * alpha

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """y, and log|det|: D - 1 directions are stretched by 1 + beta h, the radial one by another factor."""
        offset = z - self.center
        r = _norm(offset)
        stretch = self.beta / (self.alpha + r)
        return z + stretch.unsqueeze(-1) * offset, self._log_det(r, stretch, z.shape[-1])

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """z, from the positive root of r^2 + (alpha + beta - R) r - alpha R = 0 with R = |y - z_0|."""
        offset = y - self.center
        distance = _norm(offset)
        half = 0.5 * (distance - self.alpha - self.beta)
        root = torch.sqrt(half * half + self.alpha * distance)
        # The form without a difference of large numbers, on either side.
        r = torch.where(half >= 0, half + root, self.alpha * distance / (root - half.clamp(max=0)))
        stretch = self.beta / (self.alpha + r)
        z = self.center + offset / (1 + stretch).unsqueeze(-1)
        return z, -self._log_det(r, stretch, y.shape[-1])

    def _log_det(self, r: Tensor, stretch: Tensor, size: int) -> Tensor:
        radial = torch.log1p(stretch * self.alpha / (self.alpha + r))
        return (size - 1) * torch.log1p(stretch) + radial


def _norm(offset: Tensor) -> Tensor:
    """The length, whose gradient is finite at 0, too."""
    square = (offset * offset).sum(-1)
    return torch.sqrt(square + torch.finfo(square.dtype).tiny)
