"""The logarithm: from the positive numbers to the real line."""

import torch
from torch import Tensor

from vaekit.errors import SupportError
from vaekit.transforms.base import Transform, as_floating


class Log(Transform):
    """y = log x for x > 0. Use it before a density of real numbers, for prices, durations and concentrations.

    With a Normal behind it, log p(x) is that of a log-normal. Zeros have no logarithm: take counts for what they are,
    or shift the data.
    """

    is_fixed = True

    def check(self, x: Tensor) -> None:
        """Raise a `SupportError` if x holds numbers that are not positive."""
        below = x[x <= 0]
        if len(below):
            raise SupportError(
                f"Log expects positive numbers; got {len(below)} that are not, the least {float(below.min()):g}. "
                "Take transform=standardize, or a likelihood of counts where zeros occur."
            )

    def forward(self, x: Tensor) -> Tensor:
        """log x."""
        return as_floating(x).log()

    def inverse(self, y: Tensor) -> Tensor:
        """exp y."""
        return torch.exp(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """-sum_i log x_i over the observed elements."""
        return -y.flatten(1).nansum(1)
