"""Dequantisation: integers to real numbers by uniform noise."""

import math

import torch
from torch import Tensor

from vaekit.errors import ConfigError, SupportError
from vaekit.transforms.base import Transform, as_floating, num_observed


class Dequantize(Transform):
    r"""y = (x + u) / L with u uniform on [0, 1), for integers x in 0..L-1.

    By Jensen's inequality \( E_u[\log p(y) - D \log L] \le \log P(x) \): a density fitted to y gives a lower bound on
    the mass of x, and what vaekit reports says so. In training u is fresh at every use; in evaluation it is a function
    of the row and of `transform_seed`.

    References:
        Theis et al., "A note on the evaluation of generative models", 2016, https://arxiv.org/abs/1511.01844, section
        3.1.

    Args:
        num_levels: L, 256 for 8-bit images.
    """

    dequantizes = True
    takes_noise = True
    noise_name = "dequantisation noise"

    def __init__(self, num_levels: int = 256) -> None:
        super().__init__()
        if num_levels < 2:
            raise ConfigError(f"Dequantize expects at least 2 levels; got {num_levels}")
        self.num_levels = int(num_levels)

    def check(self, x: Tensor) -> None:
        """Raise a `SupportError` unless x holds integers in 0..L-1."""
        if not bool(((x >= 0) & (x < self.num_levels) & (x == torch.floor(x)) | torch.isnan(x)).all()):
            raise SupportError(
                f"Dequantize expects the integers 0..{self.num_levels - 1}; got values in [{x.min():g}, {x.max():g}], "
                "not all of them integers in that range. Set num_levels, or leave Dequantize out for real numbers."
            )

    def forward(self, x: Tensor) -> Tensor:
        """(x + u) / L with fresh noise u."""
        x = as_floating(x)
        return self.from_noise(x, torch.rand_like(x))

    def from_noise(self, x: Tensor, noise: Tensor) -> Tensor:
        """(x + noise) / L; rounding never carries it into the next cell."""
        x = as_floating(x)
        y = (x + noise) / self.num_levels
        return torch.minimum(y, torch.nextafter((x + 1) / self.num_levels, torch.zeros_like(x)))

    def inverse(self, y: Tensor) -> Tensor:
        """The integer whose cell holds y, in the dtype of y."""
        return torch.floor(y * self.num_levels).clamp(0, self.num_levels - 1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """-D log L, with D the number of observed elements."""
        return -math.log(self.num_levels) * num_observed(x, y)
