"""The planar map."""

import torch
from torch import Tensor

from vaekit.distributions.maps.base import Map
from vaekit.distributions.maps.solve import solve_tanh
from vaekit.distributions.positive import above_minus_one


class Planar(Map):
    r"""\( y = z + u \tanh(w \cdot z + b) \), which pushes points away from the plane \( w \cdot z = -b \) or to it.

    It can be inverted where \( w \cdot u > -1 \); u is moved along w until it is:
    \( \hat u = u + (m(w \cdot u) - w \cdot u)\, w / |w|^2 \) with \( m(a) = \log(1 + e^{a + c}) - 1 \), whose c makes
    m(0) = 0, so that small u and w leave z as it is (Rezende & Mohamed have c = 0). The way back is one equation of one
    unknown, for \( w \cdot z \).

    References:
        Rezende & Mohamed, "Variational inference with normalizing flows", 2015, https://arxiv.org/abs/1505.05770,
        equations 10-12 and appendix A.1.

    Args:
        u: shape (*batch, D), any numbers.
        w: shape (*batch, D).
        b: shape (*batch).
    """

    def __init__(self, u: Tensor, w: Tensor, b: Tensor) -> None:
        along = (w * u).sum(-1)
        self.gain = above_minus_one(along)  # w . u after the correction
        square = (w * w).sum(-1).clamp(min=torch.finfo(w.dtype).tiny)
        self.u = u + ((self.gain - along) / square).unsqueeze(-1) * w
        self.w, self.b = w, b

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """y, and log|det| by the matrix determinant lemma."""
        h = torch.tanh((self.w * z).sum(-1) + self.b)
        return z + self.u * h.unsqueeze(-1), self._log_det(h)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """z, by a search along w."""
        along = solve_tanh((self.w * y).sum(-1), self.gain, torch.ones_like(self.b), self.b)
        h = torch.tanh(along + self.b)
        return y - self.u * h.unsqueeze(-1), -self._log_det(h)

    def _log_det(self, h: Tensor) -> Tensor:
        return torch.log1p(self.gain * (1 - h * h))
