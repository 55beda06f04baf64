"""A data set in memory: rows in their own dtype, with labels and what is known about the values."""

import copy
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from vaekit.errors import DataError

if TYPE_CHECKING:
    from vaekit.data.stored import StoredDataset

Kind = Literal["image", "table", "array"]
D = TypeVar("D")


@dataclass(frozen=True, eq=False)
class Dataset:
    """N rows x_1 ... x_N of one event shape, held in the dtype in which they were stored.

    Nothing is rescaled: 8-bit images stay uint8, and scaling belongs to the transform of the model. NaN is allowed
    here, because it may mean "not observed"; whoever cannot use it refuses it.

    Args:
        x: The rows, shape (N, *X), of integers, floats or bools (stored as uint8); N >= 1.
        labels: One label per row, shape (N,), integers or strings. Objectives never see them.
        name: What to call the set in tables and titles.
        columns: Names of the columns of a table, one per column of x.
        value_range: Least and greatest value that can occur: (0, 255) for 8-bit images, None for real numbers.
        kind: "image" (event shape (C, H, W) or (H, W)), "table" (rows are (D,)) or "array".
        source: Where the rows were found, for people to read.
        keys: What each row is called, shape (N,), integers or strings; None numbers the rows from 0.
        key: What the keys are: "row", "file", or the name of the column with identifiers.

    Raises:
        DataError: x is not a numeric array of at least one row and two dimensions, or labels, keys or columns do not
            fit.

    Example:
        >>> data = Dataset(np.arange(6.0).reshape(3, 2), labels=np.array([0, 1, 1]))
        >>> len(data), data.event_shape, data.take([2, 0]).x.tolist()
        (3, (2,), [[4.0, 5.0], [0.0, 1.0]])
    """

    x: np.ndarray
    labels: np.ndarray | None = None
    name: str = "data"
    columns: tuple[str, ...] | None = None
    value_range: tuple[float, float] | None = None
    kind: Kind = "array"
    source: str = "memory"
    keys: np.ndarray | None = None
    key: str = "row"

    def __post_init__(self) -> None:
        x = _checked_rows(self.x, self.name)
        object.__setattr__(self, "x", x)
        if self.labels is not None:
            object.__setattr__(self, "labels", _checked_labels(self.labels, len(x), self.name))
        if self.keys is not None:
            object.__setattr__(self, "keys", _checked_labels(self.keys, len(x), self.name, "keys"))
        if self.kind not in ("image", "table", "array"):
            raise DataError(f"kind of {self.name!r} must be 'image', 'table' or 'array'; got {self.kind!r}.")
        if self.columns is not None:
            object.__setattr__(self, "columns", tuple(self.columns))
            if x.ndim != 2 or len(self.columns) != x.shape[1]:
                raise DataError(
                    f"columns of {self.name!r} must name each column of x; got {len(self.columns)} names "
                    f"for x of shape {x.shape}."
                )

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape X of one row."""
        return self.x.shape[1:]

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the rows."""
        return self.x.dtype

    @property
    def row_keys(self) -> np.ndarray:
        """The key of each row, shape (N,); rows keep theirs when some are taken."""
        return np.arange(len(self)) if self.keys is None else self.keys

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Any) -> np.ndarray:
        """Rows of x at `index` (whatever numpy accepts there), without their labels."""
        return np.asarray(self.x[index])

    def blocks(self) -> Iterator[np.ndarray]:
        """All rows in their order; one block here, many where they are on disk."""
        yield self.x

    def take(self, indices: Any) -> "Dataset":
        """Choose rows, in the order given.

        Args:
            indices: Integers or a mask of shape (N,).

        Returns:
            A data set of the chosen rows with their labels and keys; the rest is as here.

        Raises:
            DataError: No row is chosen, or an index lies outside 0 ... N - 1.
        """
        return part_of(self, "x", self.x.__getitem__, indices)


def part_of(dataset: D, field: str, choose: Callable[[np.ndarray], Any], indices: Any) -> D:
    """A copy of a data set with some of its rows, which `choose` takes from where they are, their labels and keys."""
    about: Any = dataset
    indices = np.asarray(indices)
    try:
        rows = choose(indices)
        labels = None if about.labels is None else about.labels[indices]
        keys = about.row_keys[indices]
    except IndexError as error:
        raise DataError(f"Cannot take rows of {about.name!r}, which has {len(about)}: {error}.") from error
    if indices.ndim != 1 or len(rows) == 0:
        raise DataError(f"take expects a list of at least one row of {about.name!r}; got shape {indices.shape}.")
    part = copy.copy(dataset)  # the rows are checked already
    object.__setattr__(part, field, rows)
    object.__setattr__(part, "labels", labels)
    object.__setattr__(part, "keys", keys)
    return part


def _checked_rows(x: Any, name: str) -> np.ndarray:
    try:
        x = np.asarray(x)
    except ValueError as error:  # rows of unequal lengths
        raise DataError(f"x of {name!r} must be a numeric array of shape (N, ...): {error}.") from error
    if x.dtype.kind not in "biuf" or x.dtype.itemsize > 8:
        raise DataError(
            f"x of {name!r} must hold integers, floats or bools of at most 64 bits; got dtype {x.dtype}. "
            "Turn it into numbers first, for instance with x.astype('float32')."
        )
    if x.ndim < 2:
        raise DataError(
            f"x of {name!r} must have shape (N, ...) with at least two dimensions; got {x.shape}. "
            "If each number is a row, use x.reshape(-1, 1)."
        )
    if len(x) == 0:
        raise DataError(f"{name!r} must have at least one row; got x of shape {x.shape}.")
    if x.size == 0:
        raise DataError(f"The rows of {name!r} are empty; got x of shape {x.shape}.")
    if x.dtype.kind == "b":
        return x.astype(np.uint8)
    return x.astype(x.dtype.newbyteorder("="), copy=False)  # torch reads native byte order only


def _checked_labels(labels: Any, num_rows: int, name: str, what: str = "labels") -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != (num_rows,):
        raise DataError(f"{what} of {name!r} must have shape ({num_rows},), one for each row of x; got {labels.shape}.")
    if labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels):
        labels = labels.astype(np.str_)
    if labels.dtype.kind == "b":
        labels = labels.astype(np.int64)
    if labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels == np.round(labels)).all():
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "iuU":
        raise DataError(
            f"{what} of {name!r} must be integers or strings, without missing ones; got dtype {labels.dtype}."
        )
    return labels


def warn_constant_columns(dataset: "Dataset | StoredDataset") -> None:
    """Warn about the columns of a table that have the same value in each row; images and arrays are not looked at.

    A constant column carries no information, and a density with a learned scale can grow without bound on it.

    Args:
        dataset: The set to look at.
    """
    if dataset.kind != "table":
        return
    indices = np.flatnonzero(_constant_columns(dataset.blocks(), dataset.event_shape[0]))
    if len(indices) == 0:
        return
    names = [repr(dataset.columns[i]) if dataset.columns else str(i) for i in indices[:5]]
    more = f" and {len(indices) - 5} more" if len(indices) > 5 else ""
    warnings.warn(
        f"{dataset.name!r} has {len(indices)} constant column(s): {', '.join(names)}{more}. "
        "They carry no information; consider leaving them out.",
        UserWarning,
        stacklevel=2,
    )


def _constant_columns(blocks: Iterator[np.ndarray], num_columns: int) -> np.ndarray:
    """Which columns never change, holes aside."""
    first, constant = None, np.full(num_columns, True)
    for x in blocks:
        missing = np.isnan(x)
        here = x[np.argmin(missing, axis=0), np.arange(num_columns)]  # the first value that is there
        first = here if first is None else np.where(np.isnan(first), here, first)
        constant &= ((x == first) | missing).all(axis=0)
    return constant
