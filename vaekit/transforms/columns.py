"""Transforms of some columns of a row: each group of columns by its own, the others as they are."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from vaekit.errors import ConfigError
from vaekit.transforms.base import Transform, as_floating


class Columns(Transform):
    """Each group of columns through a transform of its own; the columns of no group stay as they are.

    Use it for tables whose columns differ in kind: numbers are standardised, prices go through a logarithm, and codes
    of levels and counts stay what they are. Columns that were not observed (NaN) have no part in log|det|.

    Args:
        event_shape: D, or (D,).
        transforms: one for each group, of events of shape (number of its columns,).
        places: the columns of each group; no column in two.

    Raises:
        ConfigError: if a place is no column or in two groups, or a transform draws noise.

    Example:
        >>> import torch
        >>> from vaekit.transforms import Log
        >>> transform = Columns(2, [Log()], places=[(1,)])
        >>> transform.with_log_det(torch.tensor([[3.0, 1.0], [2.0, torch.nan]]))
        (tensor([[3., 0.],
                [2., nan]]), tensor([0., 0.]))
    """

    def __init__(
        self, event_shape: int | Sequence[int], transforms: Sequence[Transform], places: Sequence[Sequence[int]]
    ) -> None:
        super().__init__()
        self.event_shape = (event_shape,) if isinstance(event_shape, int) else tuple(event_shape)
        self.places = tuple(tuple(columns) for columns in places)
        self.transforms = nn.ModuleList(transforms)
        grouped = [column for columns in self.places for column in columns]
        if len(self.event_shape) != 1 or not set(grouped) <= set(range(self.event_shape[0])):
            raise ConfigError(f"places are columns of an event of shape {self.event_shape}; got {places}")
        if len(set(grouped)) < len(grouped) or len(self.places) != len(self.transforms):
            raise ConfigError(f"each transform has columns of its own; got {len(self.transforms)} for {places}")
        if not all(part.is_fixed for part in self._parts):
            raise ConfigError("transforms of columns are fixed maps; dequantise or binarise the row as a whole")
        self._rest = [column for column in range(self.event_shape[0]) if column not in set(grouped)]
        order = [*grouped, *self._rest]
        self._back = sorted(range(len(order)), key=order.__getitem__)

    @property
    def _parts(self) -> list[Transform]:
        return list(self.transforms)  # type: ignore[arg-type]

    @property
    def is_affine(self) -> bool:  # type: ignore[override]
        """Whether all parts are."""
        return all(part.is_affine for part in self._parts)

    @property
    def affine_columns(self) -> Tensor:
        """Which columns are only moved and stretched, or stay as they are, shape (D,), bool."""
        result = torch.ones(self.event_shape, dtype=torch.bool)
        for part, columns in zip(self._parts, self.places, strict=True):
            result[list(columns)] = part.is_affine
        return result

    @property
    def is_fixed(self) -> bool:  # type: ignore[override]
        """Yes: all parts are."""
        return True

    def forward(self, x: Tensor) -> Tensor:
        """Each group through its transform."""
        return self._each(as_floating(x), lambda part, x: part(x))

    def inverse(self, y: Tensor) -> Tensor:
        """Each group back."""
        return self._each(y, lambda part, y: part.inverse(y))

    def check(self, x: Tensor) -> None:
        """Check what each part gets to see."""
        for part, columns in zip(self._parts, self.places, strict=True):
            part.check(x[..., columns])

    def with_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The log-determinants of the groups add up."""
        log_dets = [torch.zeros(x.shape[0], device=x.device)]

        def step(part: Transform, x: Tensor) -> Tensor:
            y, log_det = part.with_log_det(x)
            log_dets.append(log_det)
            return y

        return self._each(as_floating(x), step), cast(Tensor, sum(log_dets))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """The sum over the groups, shape (N,)."""
        pairs = zip(self._parts, self.places, strict=True)
        return torch.zeros(x.shape[0], device=x.device) + sum(
            part.log_abs_det_jacobian(x[:, columns], y[:, columns]) for part, columns in pairs
        )

    def fit(self, x: Any) -> "Columns":
        """Fit each part to its columns of x, shape (N, D)."""
        x = torch.as_tensor(x if isinstance(x, Tensor) else np.asarray(x[slice(None)]))
        for part, columns in zip(self._parts, self.places, strict=True):
            part.fit(x[:, columns])
        return self

    def _each(self, x: Tensor, step: Callable[[Transform, Tensor], Tensor]) -> Tensor:
        pieces = [step(part, x[..., columns]) for part, columns in zip(self._parts, self.places, strict=True)]
        return torch.cat([*pieces, x[..., self._rest]], -1)[..., self._back]
