"""A transform of numbers with point masses, which have no Jacobian."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vaekit.errors import ConfigError
from vaekit.shapes import near
from vaekit.transforms.base import Transform, as_floating


class Spiked(Transform):
    """A transform of rows in which some values have masses of their own: at these, no log|det| is due.

    A mass stays the same whatever the units, a density does not. Use it together with `likelihoods.Spiked`, whose
    spikes are `spikes_of` this transform.

    Args:
        transform: elementwise, with one log|det| for each element: a fixed map.
        spikes: the values of each of D columns that have masses, in the units of the data.

    Raises:
        ConfigError: if the transform draws noise.

    Example:
        >>> from vaekit.transforms import Scale
        >>> transform = Spiked(Scale(0, 10), spikes=[[0.0]])
        >>> transform.with_log_det(torch.tensor([[0.0], [5.0]]))[1]
        tensor([-0.0000, -2.3026])
    """

    is_fixed = True

    def __init__(self, transform: Transform, spikes: Sequence[Sequence[float]]) -> None:
        super().__init__()
        if not transform.is_fixed:
            raise ConfigError(f"Spiked takes a fixed transform; {type(transform).__name__} draws noise")
        self.transform, self.spikes = transform, tuple(tuple(map(float, of_column)) for of_column in spikes)

    @property
    def is_affine(self) -> bool:  # type: ignore[override]
        """Whether the transform is, as spikes keep their places."""
        return self.transform.is_affine

    def check(self, x: Tensor) -> None:
        """Check what the transform gets to see."""
        self.transform.check(x)

    def forward(self, x: Tensor) -> Tensor:
        """The transform."""
        result: Tensor = self.transform(x)
        return result

    def inverse(self, y: Tensor) -> Tensor:
        """Its inverse; what lies at a spike, up to the rounding of float32, becomes the spike itself."""
        x = self.transform.inverse(y)
        at = near(y, self._placed().to(y).T)
        for i, values in enumerate(self._values()):
            x = torch.where(at[..., i], values.to(x), x)
        return x

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """That of the transform over the elements that are no spikes, shape (N,)."""
        x = as_floating(x)
        is_spike = torch.zeros_like(x, dtype=torch.bool)
        for d, of_column in enumerate(self.spikes):
            for spike in of_column:
                is_spike[:, d] |= x[:, d] == spike
        # Elements that count for nothing are handed over as holes.
        return self.transform.log_abs_det_jacobian(
            torch.where(is_spike, torch.nan, x), torch.where(is_spike, torch.nan, y)
        )

    def fit(self, x: Any) -> "Spiked":
        """Fit the transform to all values, spikes among them."""
        self.transform.fit(x)
        return self

    def spikes_of(self) -> list[list[float]]:
        """The spikes in model space, for each column; asked once the transform is fitted."""
        placed = self._placed()
        return [placed[: len(of_column), d].tolist() for d, of_column in enumerate(self.spikes)]

    def _values(self) -> Tensor:
        """The spikes as rows, NaN where a column has fewer than others: float64, shape (S, D)."""
        values = torch.full((max(map(len, self.spikes), default=0), len(self.spikes)), torch.nan, dtype=torch.float64)
        for d, of_column in enumerate(self.spikes):
            values[: len(of_column), d] = torch.tensor(of_column, dtype=torch.float64)
        return values

    def _placed(self) -> Tensor:
        """The same in model space."""
        where = next((buffer.device for buffer in self.transform.buffers()), torch.device("cpu"))
        result: Tensor = self.transform(self._values().to(where))
        return result
