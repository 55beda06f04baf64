"""Rows on disk that are asked for in batches, like those of a tensor."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from vaekit.data.ahead import ahead
from vaekit.data.room import refuse_too_large

_BLOCK_BYTES = 2**24


class Source(Protocol):
    """Where rows come from: N rows of one shape and dtype."""

    shape: tuple[int, ...]
    dtype: np.dtype
    is_decoded: bool  # reading is copying: worker processes would only slow it down

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The rows of those indices, shape (B, *X)."""
        ...


class StoredRows:
    """Rows that are read when they are asked for; they stand in for a tensor of shape (N, *X) in blocks.

    Args:
        source: where they come from.
        index: which of the source's rows these are, and in which order; None for all.
        name: what to call them in messages.
    """

    def __init__(self, source: Source, index: np.ndarray | None = None, name: str = "data") -> None:
        self.source, self.name = source, name
        self.index = np.arange(source.shape[0]) if index is None else index

    @property
    def shape(self) -> torch.Size:
        """Shape (N, *X)."""
        return torch.Size((len(self.index), *self.source.shape[1:]))

    @property
    def ndim(self) -> int:
        """Number of dimensions, that of the rows included."""
        return len(self.source.shape)

    @property
    def num_bytes(self) -> int:
        """What all rows would take in memory."""
        return int(np.prod(self.shape, dtype=object)) * self.source.dtype.itemsize

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: Any) -> Tensor:
        """Rows as a tensor; `index` is a slice, or a mask or integers of shape (B,)."""
        return torch.from_numpy(self.source.read(self._at(index)))

    def _at(self, index: Any) -> np.ndarray:
        return self.index[index.numpy() if isinstance(index, Tensor) else index]

    def take(self, indices: Any) -> "StoredRows":
        """Some of the rows, still on disk."""
        return StoredRows(self.source, self._at(indices), self.name)

    def ahead(self, batches: Iterable[slice | Tensor]) -> Generator[Tensor, None, None]:
        """The rows of each batch in turn, decoded in worker processes some batches ahead; see `vaekit.data.ahead`.

        The workers end when the iterator is exhausted or closed.
        """
        indices = (self._at(batch) for batch in batches)
        if self.source.is_decoded:
            for index in indices:
                yield torch.from_numpy(self.source.read(index))
            return
        with closing(ahead(self.source.read, indices)) as decoded:
            for rows in decoded:
                yield torch.from_numpy(rows)

    def blocks(self) -> Iterator[Tensor]:
        """All rows in their order, about 16 MiB at a time."""
        size = max(1, _BLOCK_BYTES * len(self) // max(1, self.num_bytes))
        return self.ahead(slice(start, start + size) for start in range(0, len(self), size))

    def in_memory(self) -> Tensor:
        """All rows as one tensor.

        Raises:
            DataError: if they do not fit.
        """
        refuse_too_large(self.num_bytes, self.name)
        rows = torch.from_numpy(np.empty(self.shape, self.source.dtype))
        start = 0
        for block in self.blocks():
            rows[start : start + len(block)] = block
            start += len(block)
        return rows
