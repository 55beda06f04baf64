"""Affine transforms: a fixed range to [0, 1], and columns to mean 0 and standard deviation 1."""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vaekit.errors import ConfigError, DataError
from vaekit.traits import OnDisk
from vaekit.transforms.base import Transform, as_floating, num_observed

_BLOCK_ROWS = 2**16


class Scale(Transform):
    """y = (x - low) / (high - low): the range [low, high] becomes [0, 1]. Use it for images.

    Args:
        low: what becomes 0.
        high: what becomes 1; 255 suits 8-bit images.

    Raises:
        ConfigError: unless low < high.
    """

    is_affine = True
    is_fixed = True

    def __init__(self, low: float = 0.0, high: float = 255.0) -> None:
        super().__init__()
        if not low < high:
            raise ConfigError(f"Scale expects low < high; got {low} and {high}")
        self.low, self.high = float(low), float(high)

    def forward(self, x: Tensor) -> Tensor:
        """(x - low) / (high - low)."""
        x = as_floating(x)
        if self.low:
            x = x - self.low
        return x / (self.high - self.low)

    def inverse(self, y: Tensor) -> Tensor:
        """Low + (high - low) y."""
        return self.low + (self.high - self.low) * y

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """-D log(high - low), with D the number of observed elements."""
        return -math.log(self.high - self.low) * num_observed(x, y)


class Standardize(Transform):
    """y = (x - loc) / scale with one location and one scale per element, learned from the training data by `fit`.

    Use it for tables. Columns that never change get the scale 1 and a warning. Where float32 does not hold a location
    or a scale (1e200, 1e-50, the seconds of one minute of this year), both are kept in float64.

    Args:
        event_shape: shape of one row of data, X.
    """

    loc: Tensor
    scale: Tensor
    is_affine = True
    is_fixed = True

    def __init__(self, event_shape: int | tuple[int, ...]) -> None:
        super().__init__()
        self.event_shape = (event_shape,) if isinstance(event_shape, int) else tuple(event_shape)
        self.register_buffer("loc", torch.zeros(self.event_shape))
        self.register_buffer("scale", torch.ones(self.event_shape))

    def fit(self, x: "npt.ArrayLike | OnDisk") -> "Standardize":
        """Take mean and standard deviation of x, shape (N, *X), ignoring NaN; a tensor, an array, or rows on disk.

        Raises:
            DataError: if a column has no observed value at all.
        """
        if not isinstance(x, OnDisk):
            x = torch.as_tensor(x if isinstance(x, Tensor) else np.asarray(x))
        blocks = [slice(start, start + _BLOCK_ROWS) for start in range(0, len(x), _BLOCK_ROWS)]

        def total(function: Callable[[Tensor], Tensor]) -> Tensor:
            return sum(function(x[rows].to(torch.float64)).nansum(0) for rows in blocks)  # type: ignore[return-value]

        count = total(lambda block: (~torch.isnan(block)).double())
        if bool((count == 0).any()):
            raise DataError(f"{int((count == 0).sum())} columns have no observed value; drop them")
        loc = total(lambda block: block) / count
        std = (total(lambda block: (block - loc) ** 2) / count).sqrt()
        extreme = ~torch.isfinite(std) | (std < 1e-145)  # whose squares are beyond float64
        if bool(extreme.any()):
            size = torch.stack([(x[rows].to(torch.float64) - loc).abs().nan_to_num(0.0).amax(0) for rows in blocks])
            size = size.amax(0).clamp(min=1e-300)
            std = torch.where(extreme, size * (total(lambda block: ((block - loc) / size) ** 2) / count).sqrt(), std)
        constant = std <= 1e-12 * loc.abs().clamp(min=1e-300)
        if bool(constant.any()):
            where = constant.flatten().nonzero().flatten()[:5].tolist()
            warnings.warn(f"{int(constant.sum())} columns never change (the first: {where}); they are kept unscaled")
        spread = torch.where(constant, torch.ones_like(std), std)
        if not _holds(self.loc.dtype, loc, spread):
            self.loc, self.scale = self.loc.double(), self.scale.double()
        self.loc.copy_(loc)
        self.scale.copy_(spread)
        return self

    def _load_from_state_dict(self, state_dict: Mapping[str, object], prefix: str, *others: Any) -> None:
        loc, scale = state_dict.get(prefix + "loc"), state_dict.get(prefix + "scale")
        if isinstance(loc, Tensor) and isinstance(scale, Tensor) and not _holds(self.loc.dtype, loc, scale):
            self.loc, self.scale = self.loc.double(), self.scale.double()
        super()._load_from_state_dict(state_dict, prefix, *others)

    def forward(self, x: Tensor) -> Tensor:
        """(x - loc) / scale."""
        return (as_floating(x) - self.loc) / self.scale

    def inverse(self, y: Tensor) -> Tensor:
        """Loc + scale y."""
        return self.loc + self.scale * y

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """-sum_i log scale_i, over the observed elements only."""
        log_scale = self.scale.log().expand_as(y)
        return -torch.where(torch.isnan(y), 0.0, log_scale).flatten(1).sum(1)


def _holds(dtype: torch.dtype, loc: Tensor, scale: Tensor) -> bool:
    """Whether a dtype holds location and scale: finite, not lost to 0, and the one to a tenth of the other."""
    limits, loc, scale = torch.finfo(dtype), loc.detach().double(), scale.detach().double()
    sizes = torch.stack([loc.abs(), scale.abs()])
    in_range = (sizes <= limits.max) & ((sizes == 0) | (sizes >= limits.tiny))
    return bool((in_range & ((loc - loc.to(dtype).double()).abs() <= 0.1 * scale)).all())
