"""A data set on disk: what `Dataset` is, without its rows in memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from vaekit.data.dataset import Kind, part_of
from vaekit.data.disk_rows import StoredRows


@dataclass(frozen=True, eq=False)
class StoredDataset:
    """N rows x_1 ... x_N that are read from disk in batches; made by `load` where data are too large for memory.

    `Trainer.fit`, bounds on log p(x) and whatever else goes through the rows in blocks never hold all of them; what
    needs all of them at once (`x`) reads them into memory, or says that they do not fit. The results are those of the
    same rows in memory, bit for bit.

    Args:
        rows: The rows.
        labels: One label per row, shape (N,), or None; in memory.
        name: What to call the set.
        columns: Names of the columns of a table.
        value_range: Least and greatest value that can occur, or None.
        kind: "image", "table" or "array".
        source: Where the rows were found.
        keys: What each row is called, shape (N,), integers or strings; None numbers the rows from 0.
        key: What the keys are: "row", "file", or the name of the column with identifiers.
    """

    rows: StoredRows
    labels: np.ndarray | None = None
    name: str = "data"
    columns: tuple[str, ...] | None = None
    value_range: tuple[float, float] | None = None
    kind: Kind = "array"
    source: str = "memory"
    keys: np.ndarray | None = None
    key: str = "row"

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape X of one row."""
        return tuple(self.rows.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the rows."""
        return self.rows.source.dtype

    @property
    def x(self) -> np.ndarray:
        """All rows in memory, read anew each time.

        Raises:
            DataError: They do not fit.
        """
        return self.rows.in_memory().numpy()

    @property
    def row_keys(self) -> np.ndarray:
        """The key of each row, shape (N,); rows keep theirs when some are taken."""
        return np.arange(len(self)) if self.keys is None else self.keys

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        """Rows of x at `index` (an integer, a slice, integers or a mask), without their labels."""
        if isinstance(index, int | np.integer):
            return self.rows[np.asarray([index])].numpy()[0]
        return self.rows[index if isinstance(index, slice) else np.asarray(index)].numpy()

    def blocks(self) -> Iterator[np.ndarray]:
        """All rows in their order, a bounded number at a time."""
        return (block.numpy() for block in self.rows.blocks())

    def take(self, indices: Any) -> "StoredDataset":
        """Choose rows, in the order given; they stay on disk.

        Args:
            indices: Integers or a mask of shape (N,).

        Returns:
            A data set of the chosen rows with their labels and keys; the rest is as here.

        Raises:
            DataError: No row is chosen, or an index lies outside 0 ... N - 1.
        """
        return part_of(self, "rows", self.rows.take, indices)
