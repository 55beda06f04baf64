"""Rows of data as tensors: what is handed in, in its own dtype, and the batches that a model is given."""

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from vaekit.errors import DataError
from vaekit.traits import Data

Index = slice | Tensor
"""Which rows: a slice, or integers of shape (B,)."""


class Rows(Protocol):
    """What is asked of rows that are used in blocks: a tensor has it, and rows that stay on disk."""

    @property
    def shape(self) -> torch.Size:
        """Shape (N, *X)."""
        ...

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Batch:
    """B rows as the model takes them.

    Attributes:
        x: shape (B, *X), in model space, in the model's dtype and on its device.
        log_det: log|det| of the transform, shape (B,), float64, nats; 0 where it is no part of log p.
        weight: weight of each row in a loss, shape (B,), or None for equal ones.
        context: what the model is conditioned on, shape (B, *C), for `model.given(context)`; or None.
        key: what the noise of each row depends on beside the seed, shape (B,), int64; or None.
    """

    x: Tensor
    log_det: Tensor
    weight: Tensor | None = None
    context: Tensor | None = None
    key: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def part(self, rows: slice) -> "Batch":
        """Some of the rows."""
        beside = (None if values is None else values[rows] for values in (self.weight, self.context, self.key))
        return Batch(self.x[rows], self.log_det[rows], *beside)


def given(model: Any, context: Tensor | None) -> Any:
    """The model as it is, or conditioned on the context of some rows: the one way in which a context is used.

    Args:
        model: any model; with a context one that has a method `given`.
        context: shape (B, *C), or None.
    """
    return model if context is None else model.given(context)


def as_rows(x: Data) -> Rows:
    """Like `as_tensor`, but the rows of a `StoredDataset` stay on disk: for what goes through rows in blocks."""
    rows: Any = getattr(x, "rows", x)
    return rows if hasattr(rows, "in_memory") else as_tensor(x)


def as_tensor(x: Data) -> Tensor:
    """Arrays, tensors, data frames and data sets as one tensor in their own dtype, without a copy where possible.

    Items of a torch `Dataset` that are tuples count by their first member (the second one is a label). A map-style data
    set is read once, into memory: from then on it is indexed in batches like any tensor.

    Raises:
        DataError: if x is not numeric, or is on disk and does not fit into memory.
    """
    if hasattr(x, "in_memory"):
        result: Tensor = x.in_memory()
        return result
    if isinstance(x, Tensor):
        if x.is_complex() or x.is_quantized:
            raise DataError(f"expected real numbers; got a tensor of dtype {x.dtype}. Convert it first.")
        return x.to(torch.uint8) if x.dtype == torch.bool else x
    if isinstance(x, torch.utils.data.TensorDataset):
        return x.tensors[0]
    if isinstance(x, torch.utils.data.Dataset):
        return _stacked(x)
    array = np.asarray(x.x if hasattr(x, "x") and hasattr(x, "event_shape") else x)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.dtype.kind not in "uif" or array.dtype == np.float16:
        raise DataError(f"expected numbers; got an array of dtype {array.dtype}. Convert it first.")
    if array.dtype in (np.uint16, np.uint32, np.uint64):
        array = array.astype(np.int64)
    if not array.flags.writeable or any(stride < 0 for stride in array.strides) or not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return torch.from_numpy(np.ascontiguousarray(array))


def _stacked(dataset: Any) -> Tensor:
    items = (dataset[i] for i in range(len(dataset)))
    return torch.stack([as_tensor(item[0] if isinstance(item, tuple | list) else item) for item in items])


def taken(values: Any, index: Index) -> Any:
    """Some rows of a tensor, or of rows on disk."""
    if isinstance(index, slice) or not isinstance(values, Tensor):
        return values[index]
    return values.index_select(0, index.to(values.device))


def read(x: Rows, indices: Iterable[Index]) -> Generator[Tensor, None, None]:
    """The rows of each batch in turn; those on disk are decoded ahead by worker processes, until this is closed."""
    if hasattr(x, "ahead"):
        result: Generator[Tensor, None, None] = x.ahead(indices)
        return result
    return (taken(x, rows) for rows in indices)


def slices(num_rows: int, size: int) -> list[slice]:
    """Slices of at most `size` rows that cover `num_rows`."""
    return [slice(start, min(start + size, num_rows)) for start in range(0, num_rows, size)]


def chosen(num_rows: int, max_rows: int | None) -> Tensor:
    """Indices of at most `max_rows` rows: the same ones each time."""
    if max_rows is None or num_rows <= max_rows:
        return torch.arange(num_rows)
    return torch.randperm(num_rows, generator=torch.Generator().manual_seed(0))[:max_rows].sort().values
