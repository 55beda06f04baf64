"""The logit transform: from the unit interval to the real line."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vaekit.errors import ConfigError, SupportError
from vaekit.transforms.base import Transform, as_floating


class Logit(Transform):
    r"""The logit transform: from the unit interval to the real line.

    \( y = \mathrm{logit}(\epsilon + (1 - 2\epsilon) x) \) for x in [0, 1]. Use it before a Normal likelihood of
    images.

    References:
        Dinh et al., "Density estimation using Real NVP", 2017, https://arxiv.org/abs/1605.08803, section 4.1.

    Args:
        eps: margin that keeps 0 and 1 away from infinity, in (0, 1/2).
    """

    is_fixed = True

    def __init__(self, eps: float = 0.05) -> None:
        super().__init__()
        if not 0 < eps < 0.5:
            raise ConfigError(f"Logit expects eps in (0, 0.5); got {eps}")
        self.eps = float(eps)

    def check(self, x: Tensor) -> None:
        """Raise a `SupportError` if x leaves [0, 1]."""
        if not bool(((x >= 0) & (x <= 1) | torch.isnan(x)).all()):
            raise SupportError(f"Logit expects values in [0, 1]; got [{x.min():g}, {x.max():g}]. Put Scale before it.")

    def forward(self, x: Tensor) -> Tensor:
        """logit(eps + (1 - 2 eps) x)."""
        x = as_floating(x)
        return torch.logit(self.eps + (1 - 2 * self.eps) * x)

    def inverse(self, y: Tensor) -> Tensor:
        """(sigmoid(y) - eps) / (1 - 2 eps)."""
        return (torch.sigmoid(y) - self.eps) / (1 - 2 * self.eps)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Sum of log(1 - 2 eps) - log sigmoid(y) - log sigmoid(-y)."""
        size = y.abs()  # sigmoid(y) sigmoid(-y) is even: one logarithm serves both
        per_element = math.log(1 - 2 * self.eps) + size + 2 * F.softplus(-size)
        return per_element.flatten(1).nansum(1)
