"""A data set: rows in memory or on disk, in their own dtype, with labels and what is known about the values."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeAlias, TypedDict, TypeVar, Unpack

import numpy as np
import numpy.typing as npt

from vaekit.data.kinds import KINDS
from vaekit.data.reading import PLAIN, Reading
from vaekit.errors import DataError
from vaekit.paths import as_text

if TYPE_CHECKING:
    from vaekit.data.disk_rows import StoredRows
    from vaekit.data.schema import Schema
    from vaekit.frames import Frame

Index: TypeAlias = int | slice | Sequence[int] | np.ndarray
"""Rows by number, or by a mask."""
D = TypeVar("D", bound="Dataset")


@dataclass(frozen=True, eq=False)
class Dataset:
    """N rows x_1 ... x_N of one event shape, held in the dtype in which they were stored.

    Nothing is rescaled: 8-bit images stay uint8, and scaling belongs to the transform of the model. NaN is allowed
    here, because it may mean "not observed"; whoever cannot use it refuses it.

    Args:
        x: The rows, shape (N, *X), of integers, floats or bools (stored as uint8); N >= 1.
        labels: One label per row, shape (N,), integers or strings. Objectives never see them. A label that is missing
            (None, NaN, a masked entry) becomes -1 or "", and `unlabelled` says of which rows.
        name: What to call the set in tables and titles.
        columns: Names of the columns of a table, one per column of x.
        value_range: Least and greatest value that can occur: (0, 255) for 8-bit images, None for real numbers.
        kind: "image" (event shape (C, H, W) or (H, W)), "table" (rows are (D,)), "bits" or "array"; see `data.kinds`.
        source: Where the rows were found, for people to read.
        keys: What each row is called, shape (N,), integers or strings; None numbers the rows from 0.
        key: What the keys are: "row", "file", or the name of the column with identifiers.
        reading: How the file was read that the rows come from, guesses included.
        schema: What the columns of x are, where they are codes of levels or numbers of several kinds.
        weights: What each row counts in a fit, shape (N,), finite, not negative, some above 0; None counts all alike.
        excluded: Which cells are holes because the schema does not have such levels or numbers, shape (N, D), bool.
        contexts: What a model is conditioned on, shape (N, C), float64; see `data.contexts`.
        context_schema: What the C entries of the contexts are.
        beside: The columns of the table that a conditional model is given, as a frame of narwhals.
        frame: The table that x was encoded from, with all its columns, as a frame of narwhals, where it was kept.
        unlabelled: Which rows have no label, shape (N,), bool; None where each has one.

    Raises:
        DataError: x is not a numeric array of at least one row and two dimensions, or labels, keys, columns or weights
            do not fit.

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
    kind: str = "array"
    source: str = "memory"
    keys: np.ndarray | None = None
    key: str = "row"
    reading: Reading = PLAIN
    schema: "Schema | None" = None
    weights: np.ndarray | None = None
    excluded: np.ndarray | None = None
    contexts: np.ndarray | None = None
    context_schema: "Schema | None" = None
    beside: "Frame | None" = None
    frame: "Frame | None" = None
    unlabelled: np.ndarray | None = None

    def __post_init__(self) -> None:
        self._set(x=_checked_rows(self.x, self.name))
        self._check_annotations()

    def _check_annotations(self) -> None:
        if self.labels is not None:
            labels, missing = _filled(self.labels, self.name)
            self._set(labels=_checked_labels(labels, len(self), self.name, "labels"))
            if missing.any():
                self._set(unlabelled=missing)
        if self.keys is not None:
            self._set(keys=_checked_labels(self.keys, len(self), self.name, "keys"))
        if self.weights is not None:
            self._set(weights=_checked_weights(self.weights, len(self), self.name))
        if self.kind not in KINDS:
            *most, last = map(repr, KINDS)
            raise DataError(f"kind of {self.name!r} must be {', '.join(most)} or {last}; got {self.kind!r}.")
        if self.columns is not None:
            self._set(columns=tuple(self.columns))
            if self.event_shape != (len(self.columns),):
                raise DataError(
                    f"columns of {self.name!r} must name each column of x; got {len(self.columns)} names "
                    f"for x of shape {(len(self), *self.event_shape)}."
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

    @property
    def shown_labels(self) -> np.ndarray | None:
        """The labels for pictures, shape (N,): those that are missing are "unknown" there, and no class."""
        if self.labels is None or self.unlabelled is None:
            return self.labels
        return np.where(self.unlabelled, "unknown", self.labels.astype(np.str_))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Index) -> np.ndarray:
        """Rows of x at `index` (whatever numpy accepts there), without their labels."""
        return np.asarray(self.x[index])

    def blocks(self) -> Iterator[np.ndarray]:
        """All rows in their order: one block where they are in memory, blocks of bounded size where they are not."""
        yield self.x

    def take(self: D, indices: npt.ArrayLike) -> D:
        """Choose rows, in the order given; rows on disk stay there.

        Args:
            indices: Integers or a mask of shape (N,).

        Returns:
            A data set of the chosen rows with their labels, keys and weights; the rest is as here.

        Raises:
            DataError: No row is chosen, or an index lies outside 0 ... N - 1.
        """
        indices = np.asarray(indices)
        part = copy.copy(self)  # the rows are checked already
        try:
            part._keep_rows(indices)
            # A list of places is five times as large as their array: not for rows without a table beside them.
            has_table = self.frame is not None or self.beside is not None
            places = np.arange(len(self))[indices].tolist() if has_table else []
            part._set(
                labels=_some(self.labels, indices),
                keys=self.row_keys[indices],
                weights=_some(self.weights, indices),
                excluded=_some(self.excluded, indices),
                contexts=_some(self.contexts, indices),
                unlabelled=_some(self.unlabelled, indices),
                frame=None if self.frame is None else self.frame[places],
                beside=None if self.beside is None else self.beside[places],
            )
        except IndexError as error:
            raise DataError(f"Cannot take rows of {self.name!r}, which has {len(self)}: {error}.") from error
        if indices.ndim != 1 or len(part) == 0:
            raise DataError(f"take expects a list of at least one row of {self.name!r}; got shape {indices.shape}.")
        return part

    def labelled(self: D, labels: npt.ArrayLike) -> D:
        """The same rows with these labels, shape (N,)."""
        made = copy.copy(self)
        made._set(labels=_checked_labels(labels, len(self), self.name, "labels"))
        return made

    def _keep_rows(self, indices: np.ndarray) -> None:
        self._set(x=self.x[indices])

    def _set(self, **values: object) -> None:
        """Set fields of a data set that nobody has seen yet."""
        for name, value in values.items():
            object.__setattr__(self, name, value)


class About(TypedDict, total=False):
    """All that a `Dataset` takes beside its rows, by name."""

    labels: np.ndarray | None
    name: str
    columns: tuple[str, ...] | None
    value_range: tuple[float, float] | None
    kind: str
    source: str
    keys: np.ndarray | None
    key: str
    reading: Reading
    schema: "Schema | None"
    weights: np.ndarray | None
    excluded: np.ndarray | None
    contexts: np.ndarray | None
    context_schema: "Schema | None"
    beside: "Frame | None"
    frame: "Frame | None"
    unlabelled: np.ndarray | None


def _some(values: np.ndarray | None, indices: np.ndarray) -> np.ndarray | None:
    return None if values is None else values[indices]


class StoredDataset(Dataset):
    """N rows x_1 ... x_N that are read from disk in batches; made by `load` where data are too large for memory.

    `Trainer.fit`, bounds on log p(x) and whatever else goes through the rows in blocks never hold all of them; what
    needs all of them at once (`x`) reads them into memory, or says that they do not fit. The results are those of the
    same rows in memory, bit for bit.

    Args:
        rows: The rows.
        about: All else that a `Dataset` takes, by name; in memory.
    """

    rows: "StoredRows"

    def __init__(self, rows: "StoredRows", **about: Unpack[About]) -> None:
        given = dict(about)
        self._set(rows=rows)
        self._set(
            **{field.name: given.pop(field.name, field.default) for field in fields(Dataset) if field.name != "x"}
        )
        if given:
            raise TypeError(f"StoredDataset takes no {', '.join(given)}")
        self._check_annotations()

    def __repr__(self) -> str:
        return f"StoredDataset({self.name!r}, {len(self)} rows of shape {self.event_shape}, {self.dtype})"

    @property
    def x(self) -> np.ndarray:
        """All rows in memory, read anew each time.

        Raises:
            DataError: They do not fit.
        """
        return self.rows.in_memory().numpy()

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape X of one row."""
        return tuple(self.rows.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the rows."""
        return self.rows.source.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Index) -> np.ndarray:
        """Rows of x at `index` (an integer, a slice, integers or a mask), without their labels."""
        if isinstance(index, int | np.integer):
            return np.asarray(self.rows[np.asarray([index])].numpy()[0])
        return self.rows[index if isinstance(index, slice) else np.asarray(index)].numpy()

    def blocks(self) -> Iterator[np.ndarray]:
        """All rows in their order, a bounded number at a time."""
        return (block.numpy() for block in self.rows.blocks())

    def _keep_rows(self, indices: np.ndarray) -> None:
        self._set(rows=self.rows.take(indices))


def _checked_rows(rows: npt.ArrayLike, name: str) -> np.ndarray:
    if isinstance(rows, np.ma.MaskedArray):  # numpy would give what lies under the mask
        rows = np.ma.filled(rows.astype(np.float64), np.nan) if np.ma.is_masked(rows) else rows.data
    try:
        x: np.ndarray = np.asarray(rows)
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
            "If they are one row, use x[None]; if each number is a row, use x.reshape(-1, 1)."
        )
    if len(x) == 0:
        raise DataError(f"{name!r} must have at least one row; got x of shape {x.shape}.")
    if x.size == 0:
        raise DataError(f"The rows of {name!r} are empty; got x of shape {x.shape}.")
    if x.dtype.kind == "b":
        return x.astype(np.uint8)
    return x.astype(x.dtype.newbyteorder("="), copy=False)  # torch reads native byte order only


def _filled(values: npt.ArrayLike, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels with -1 or "" in the place of those that are missing, and where that is, shape (N,)."""
    labels: np.ndarray = np.asarray(values)
    missing = (
        np.array(np.ma.getmaskarray(values)) if isinstance(values, np.ma.MaskedArray) else np.zeros(labels.shape, bool)
    )
    if labels.dtype.kind == "f":
        missing |= np.isnan(labels)
    elif labels.dtype.kind == "O":
        missing |= np.array([is_missing(label) for label in labels.ravel()], bool).reshape(labels.shape)
    if not missing.any():
        return labels, missing
    if missing.all():
        raise DataError(f"no row of {name!r} has a label. Leave the labels out.")
    filled = labels.copy()
    filled[missing] = "" if isinstance(labels[~missing][0], str) else -1
    return np.array(filled.tolist()) if labels.dtype.kind == "O" else filled, missing


def is_missing(cell: object) -> bool:
    """Whether a Python object stands for no value: None, NaN, and the marks of pandas."""
    is_nan = isinstance(cell, float | np.floating) and bool(np.isnan(cell))
    return cell is None or is_nan or type(cell).__name__ in ("NAType", "NaTType")


def _checked_labels(values: npt.ArrayLike, num_rows: int, name: str, what: str) -> np.ndarray:
    labels: np.ndarray = np.asarray(values)
    if labels.shape != (num_rows,):
        raise DataError(f"{what} of {name!r} must have shape ({num_rows},), one for each row of x; got {labels.shape}.")
    if labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels):
        labels = labels.astype(np.str_)
    if labels.dtype.kind == "b":
        labels = labels.astype(np.int64)
    if labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels == np.round(labels)).all():
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "iuU":
        without = ", without missing ones" if what == "keys" else ""
        raise DataError(f"{what} of {name!r} must be integers or strings{without}; got dtype {labels.dtype}.")
    return _as_unicode(labels) if labels.dtype.kind == "U" else labels


def _checked_weights(values: npt.ArrayLike, num_rows: int, name: str) -> np.ndarray:
    try:
        weights: np.ndarray = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"weights of {name!r} must be numbers: {error}.") from error
    if weights.shape != (num_rows,):
        raise DataError(
            f"weights of {name!r} must have shape ({num_rows},), one for each row of x; got {weights.shape}."
        )
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        raise DataError(
            f"weights of {name!r} must be finite and not negative; row {bad[0]} has {weights[bad[0]]:g}. Mend or drop "
            "such rows."
        )
    if not weights.any():
        raise DataError(f"weights of {name!r} are all 0: no row would count. Give some rows a weight above 0.")
    return weights


def _as_unicode(words: np.ndarray) -> np.ndarray:
    """Words that can be written to a file: names of files need be no Unicode."""
    try:
        "".join(words.tolist()).encode()
    except UnicodeEncodeError:
        return np.array([as_text(word) for word in words.tolist()])
    return words
