"""What a run answers for rows: columns of numbers behind the key of each row."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vaekit.data.schema import Schema
from vaekit.errors import ConfigError
from vaekit.frames import as_json, to_arrow, to_frame
from vaekit.saving.files import ARRAY_SUFFIXES, check_suffix, write_atomically

if TYPE_CHECKING:
    from vaekit.frames import Frame


@dataclass(frozen=True, eq=False)
class Table:
    """Named columns of numbers, a row for each row of the data, and in front of them the keys of the rows.

    Attributes:
        values: the numbers, shape (N, ...); the elements of a row are the columns, in the order of memory.
        columns: names of the columns without the key's.
        key: name of the key's column: that of the identifiers, "file" or "row"; None where rows have no keys, as draws
            from p(x) have none.
        keys: the key of each row, shape (N,), or None.
        reasons: why rows have no number, or one that is not to be believed: a text to the rows it is true of, shape
            (N,), bool. Files do not hold them.
        notes: sentences about the numbers, for people. Files do not hold them either.
        quantity: what a column `log_p` holds: "density", "mass", "bound on a mass" or "no density"; None where there is
            no such column. A parquet file says it in the metadata of its schema, under "log_p".
        beside: columns behind the numbers that hold bools or text, each of shape (N,); `.npy` files leave them out.
        schema: of rows of a table that holds more than numbers: frames and files of it hold its cells, `values`
            its codes, `.npy` files numbers where cells are numbers and else the codes.
        frame: the rows as they were read, whose empty cells the values fill: frames and files hold all their columns.
        front: columns in front of the key.
        behind_key: columns between the key and the numbers; `.npy` files leave them out.
        whole: names of columns of `values` that are whole numbers in frames and files with names.

    Raises:
        ConfigError: if a column of numbers has the name of the key's.

    Example:
        >>> table = Table(np.array([[-1.5, 0.5]]), ("log_p", "stderr"), "id", np.array(["u"]))
        >>> {name: column.tolist() for name, column in table.to_dict().items()}
        {'id': ['u'], 'log_p': [-1.5], 'stderr': [0.5]}
    """

    values: np.ndarray
    columns: tuple[str, ...]
    key: str | None = None
    keys: np.ndarray | None = None
    reasons: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    quantity: str | None = None
    schema: Schema | None = None
    beside: Mapping[str, np.ndarray] = field(default_factory=dict)
    frame: "Frame | None" = None
    front: Mapping[str, np.ndarray] = field(default_factory=dict)
    behind_key: Mapping[str, np.ndarray] = field(default_factory=dict)
    whole: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_key(self.key, (*self.columns, *self.beside, *self.behind_key))

    def __len__(self) -> int:
        return len(self.values)

    def to_numpy(self) -> np.ndarray:
        """The numbers without the keys, shape (N, ...); of a schema, its cells as far as they are numbers."""
        return self.values if self.schema is None else self.schema.numbers(self.values)

    def to_dict(self) -> dict[str, np.ndarray]:
        """Name to column, each of shape (N,), the key first."""
        flat = self.values.reshape(len(self), -1)
        numbers = {name: flat[:, i] for i, name in enumerate(self.columns)}
        numbers |= {name: numbers[name].astype(np.int64) for name in self.whole} | dict(self.beside)
        key = {} if self.key is None or self.keys is None else {self.key: self.keys}
        return {**self.front, **key, **self.behind_key, **numbers}

    def to_frame(self, backend: str | None = None) -> Any:
        """A data frame with the key's column first; see `vaekit.frames.to_frame`. Of a schema, one of its cells."""
        if self.schema is None:
            return to_frame(self.to_dict(), backend)
        if self.frame is None:
            frame = self.schema.decode(self.values, backend)
        else:
            frame = self.schema.fill(self.frame, self.values, backend)
        key = {} if self.key is None or self.keys is None else {self.key: self.keys}
        first = {**self.front, **key}
        if not first:
            return frame
        import narwhals as nw

        table = nw.from_native(frame, eager_only=True)
        series = [nw.new_series(name, cells.tolist(), backend=table.implementation) for name, cells in first.items()]
        return table.select(*series, *table.columns).to_native()

    def joined(self, other: "Table") -> "Table":
        """The columns of this table and behind them those of another one about the same rows."""
        values = np.concatenate([self.values.reshape(len(self), -1), other.values.reshape(len(other), -1)], axis=1)
        return replace(self, values=values, columns=(*self.columns, *other.columns), notes=(*self.notes, *other.notes))

    def without_keys(self) -> "Table":
        """The numbers alone."""
        return replace(self, key=None, keys=None)

    @property
    def without_number(self) -> np.ndarray:
        """Where the first number of a row is NaN or infinite, shape (N,), bool."""
        result: np.ndarray = ~np.isfinite(self.values.reshape(len(self), -1)[:, 0])
        return result

    def names(self, rows: np.ndarray) -> list[str]:
        """The keys of some rows, given as bool of shape (N,); their numbers where rows have no keys."""
        keys = np.arange(len(self)) if self.keys is None else self.keys
        return [str(key) for key in keys[rows]]

    def write(self, path: str | Path, about: Mapping[bytes, bytes] | None = None) -> None:
        """Write the table as a whole, in the format of the suffix.

        `.csv`, `.parquet` and `.feather` have the columns of `to_dict`, `.json` a list of records with these names and
        `.jsonl` a record in each line, null where there is no number; `.npy` holds what `to_numpy` gives.

        Args:
            path: the file.
            about: metadata of a `.parquet` or `.feather` file, beside what log p is; others hold none.

        Raises:
            ConfigError: for another suffix.
            ArtifactError: if the file cannot be written.
        """
        write_atomically(path, self._bytes(check_suffix(path, ARRAY_SUFFIXES), about))

    def to_csv(self) -> str:
        """The table as text, as `write` writes it to a `.csv` file."""
        return self._bytes(".csv").decode()

    def _bytes(self, suffix: str, about: Mapping[bytes, bytes] | None = None) -> bytes:
        buffer = io.BytesIO()
        if suffix == ".npy":
            np.save(buffer, self.to_numpy(), allow_pickle=False)
            return buffer.getvalue()
        table = to_arrow(self.to_dict()) if self.schema is None else self.to_frame("pyarrow")
        if suffix in (".json", ".jsonl"):
            return as_json(table, lines=suffix == ".jsonl")
        if suffix == ".csv":
            for i, name in enumerate(table.column_names):
                if name in self.beside and self.beside[name].dtype.kind == "b":  # True, as Python writes it
                    table = table.set_column(i, name, to_arrow({name: self.beside[name].astype(np.str_)})[name])
            from pyarrow.csv import write_csv

            write_csv(table, buffer)
            return buffer.getvalue()
        said = {} if self.quantity is None else {b"log_p": f"{self.quantity}, in nats".encode()}
        known = {**said, **(about or {})}
        table = table.replace_schema_metadata(known)
        if suffix == ".feather":
            from pyarrow.feather import write_feather

            write_feather(table, buffer)
        else:
            from pyarrow.parquet import write_table

            write_table(table, buffer)
        return buffer.getvalue()


def check_key(key: str | None, columns: Sequence[str]) -> None:
    """Raise a `ConfigError` if a column of an answer has the name of the key's."""
    if key in columns:
        raise ConfigError(
            f"the column of identifiers is called {key}, as a column of the result is; rename it in the data"
        )


def element_names(event_shape: Sequence[int], prefix: str) -> tuple[str, ...]:
    """Names of the elements of an event in the order of memory: x0, x1, ..."""
    return tuple(f"{prefix}{i}" for i in range(math.prod(event_shape)))
