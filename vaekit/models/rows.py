"""Rows of data as tensors: what is handed in, in its own dtype, and the batches that a model is given."""

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from vaekit.errors import DataError
from vaekit.models.conversion import to_tensor
from vaekit.traits import Data, ModelTraits, OnDisk, RowTraits, told, told_of

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

    def __getitem__(self, index: Index, /) -> Tensor: ...


@runtime_checkable
class _DataSet(Protocol):
    """A data set of vaekit, or one like it."""

    x: Data
    event_shape: tuple[int, ...]


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


def contexts_beside(model: object, x: Data) -> Data:
    """The contexts that come with rows, shape (N, C), where the model is one given contexts; else None."""
    return None if told(ModelTraits, model).check_context is None else told(RowTraits, x).contexts


def as_rows(x: Data) -> Rows:
    """Like `as_tensor`, but the rows of a `StoredDataset` stay on disk: for what goes through rows in blocks.

    Raises:
        DataError: as `as_tensor` does, and for a single number.
    """
    if not isinstance(x, Tensor):  # a nested one bears no question about its attributes
        stored = x if isinstance(x, OnDisk) else told_of(RowTraits, x, "rows")
        if isinstance(stored, OnDisk):
            return stored
    rows = as_tensor(x)
    if not rows.ndim:
        raise DataError(f"expected rows of shape (N, *X); got a single number, {rows.item():g}. One row is x[None].")
    return rows


def as_tensor(x: Data) -> Tensor:
    """What holds rows of numbers as one tensor (N, *X) in their own dtype, without a copy where possible.

    - Tensors: of any device and layout, subclasses, with or without a graph, which is left behind; bools are 0 and 1.
    - Arrays, lists of rows, and what numpy can read; `None` in an array of Python objects and masked cells are NaN.
    - Data frames of what narwhals knows: bools are 0 and 1, nullable cells NaN, and text is refused.
    - Sparse matrices of scipy and torch, made dense.
    - Data sets of torch, a DataLoader, generators and other iterables: read once, into memory. A loader that shuffles
      gives the rows of its data set in their order, the last batch included.
    - An item may be a row, a tuple or list whose first member with dimensions is the row (the others are labels) or
      whose members are its numbers, or a dictionary with the row under "x" or as the only array. The batches of a
      loader, a pair (x, y) and a dictionary of arrays go by the same rule.

    Raises:
        DataError: if x is none of these, holds something else than numbers, or does not fit into memory.
    """
    if isinstance(x, Tensor):  # first, as in `as_rows`
        return to_tensor(x)
    return x.in_memory() if isinstance(x, OnDisk) else to_tensor(x.x if isinstance(x, _DataSet) else x)


def taken(values: Rows, index: Index) -> Tensor:
    """Some rows of a tensor, or of rows on disk."""
    if isinstance(index, slice) or not isinstance(values, Tensor):
        return values[index]
    return values.index_select(0, index.to(values.device))


def read(x: Rows, indices: Iterable[Index]) -> Generator[Tensor, None, None]:
    """The rows of each batch in turn; those on disk are decoded ahead by worker processes, until this is closed."""
    if isinstance(x, OnDisk):
        return x.ahead(indices)
    return (taken(x, rows) for rows in indices)


def slices(num_rows: int, size: int) -> list[slice]:
    """Slices of at most `size` rows that cover `num_rows`."""
    return [slice(start, min(start + size, num_rows)) for start in range(0, num_rows, size)]


def chosen(num_rows: int, max_rows: int | None) -> Tensor:
    """Indices of at most `max_rows` rows: the same ones each time."""
    if max_rows is None or num_rows <= max_rows:
        return torch.arange(num_rows)
    return torch.randperm(num_rows, generator=torch.Generator().manual_seed(0))[:max_rows].sort().values
