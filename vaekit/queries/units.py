"""Single columns on their way back from model space to the units of the data."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from vaekit.models.answers import in_float64
from vaekit.transforms import Columns, Transform


class Units:
    """The way back of some columns, in float64.

    Args:
        transform: that of the model, elementwise; None leaves rows as they are.
        event_shape: X, with D elements in the order of memory.

    Attributes:
        is_affine: which elements are only moved and stretched, shape (D,), bool.
    """

    def __init__(self, transform: Transform | None, event_shape: Sequence[int]) -> None:
        self.size = prod(event_shape)
        self.is_affine = torch.full((self.size,), transform is None or transform.is_affine)
        self._groups: list[tuple[Tensor, tuple[int, ...], Callable[[Tensor], Tensor]]] = []
        if isinstance(transform, Columns):
            self.is_affine = transform.affine_columns
            for part, places in zip(transform.transforms, transform.places, strict=True):
                own: Any = part
                self._groups.append((torch.tensor(places), (len(places),), in_float64(own)))
        elif transform is not None:
            self._groups.append((torch.arange(self.size), tuple(event_shape), in_float64(transform)))

    def of(self, y: Tensor, columns: Tensor) -> Tensor:
        """The columns in the units of the data, float64.

        Args:
            y: some columns in model space, shape (..., c).
            columns: which ones, shape (c,).
        """
        result = y.double().clone()
        for places, shape, back in self._groups:
            inside = torch.isin(columns, places).nonzero().flatten()
            if not len(inside):
                continue
            at = torch.zeros(self.size, dtype=torch.int64)
            at[places] = torch.arange(len(places))
            whole = torch.zeros(*y.shape[:-1], len(places), dtype=torch.float64, device=y.device)
            whole[..., at[columns[inside]]] = result[..., inside]
            found = back(whole.reshape(-1, *shape)).double().reshape(whole.shape)
            result[..., inside] = found[..., at[columns[inside]]]
        return result
