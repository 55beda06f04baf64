"""Tables of numbers: data frames of any make, and CSV."""

import csv
import difflib
import gzip
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vaekit.data.dataset import Dataset
from vaekit.data.kinds import TABLES
from vaekit.data.readers.safe_reading import BoundedGzip, reading
from vaekit.errors import ColumnError, DataError
from vaekit.frames import cells, text_columns


def from_frame(
    frame: Any, label: str | None = None, *, key: str | None = None, name: str = "frame", source: str = "memory"
) -> Dataset:
    """Turn a data frame of numbers (pandas, polars, pyarrow, ... : what narwhals knows) into a data set.

    Bools become 0 and 1, empty cells NaN. x is int64 if all columns are whole numbers without empty cells, else
    float64.

    Args:
        frame: The data frame, eager or lazy.
        label: Name of the column with the labels (integers or strings), which does not enter x.
        key: Name of the column with the identifiers of the rows, which does not enter x.
        name: What to call the set.
        source: Where the frame came from.

    Returns:
        A table with one column of x for each other column of the frame.

    Raises:
        DataError: `frame` is no data frame, there is no column `label` or `key`, or a column does not hold numbers.

    Example:
        >>> import pyarrow as pa
        >>> from_frame(pa.table({"a": [1, 2], "b": [0.5, None], "kind": ["u", "v"]}), label="kind").x
        array([[1. , 0.5],
               [2. , nan]])
    """
    import narwhals as nw

    try:
        wrapped = nw.from_native(frame)
        table = wrapped.collect() if isinstance(wrapped, nw.LazyFrame) else wrapped
        columns = [str(column) for column in table.columns]
    except (TypeError, nw.exceptions.NarwhalsError) as error:  # no frame, or two columns of one name
        raise DataError(f"{name!r} is not a data frame that can be read: {error}.") from error
    if len(table) == 0:
        raise DataError(f"{name!r} must have at least one row; got none.")
    if "" in columns:
        raise DataError(
            f"Column {columns.index('') + 1} of {name!r} has no name; it may be an index that was written with the "
            "data. Name it or drop it (pandas: frame.to_csv(path, index=False))."
        )
    indices, chosen = without(columns, label, key, name)
    if not indices:
        raise DataError(f"{name!r} has no columns of numbers{' beside the label' if label else ''}.")
    labels, keys = annotations(table.select([columns[i] for i in chosen]), label, key, name)
    x = numbers([table[:, i] for i in indices], name)
    about: dict[str, Any] = {"source": source, "keys": keys, "key": key or "row"}
    return Dataset(x, labels, name, tuple(columns[i] for i in indices), kind=TABLES.name, **about)


def without(columns: list[str], label: str | None, key: str | None, name: str) -> tuple[list[int], list[int]]:
    """Where the columns of numbers stand, and where that of the labels and that of the keys do."""
    named = {"label": label, "key": key}
    chosen = [_position_of(columns, column, name, option) for option, column in named.items() if column is not None]
    return [i for i in range(len(columns)) if i not in chosen], sorted(set(chosen))


def annotations(
    table: Any, label: str | None, key: str | None, name: str
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Labels and keys of a narwhals frame that holds their columns, each as `Dataset` takes them."""
    labels = None if label is None else _label_values(table[label], name)
    return labels, None if key is None else _key_values(table[key], name)


def numbers(columns: list[Any], name: str) -> np.ndarray:
    """Columns of a narwhals frame side by side, shape (N, D), int64 or float64; a `DataError` if one holds none."""
    _refuse_text(columns, name)
    return np.column_stack([cells(column, name) for column in columns])


def csv_dataset(path: Path, label: str | None = None, key: str | None = None) -> Dataset:
    """Read a CSV file (a .tsv file has tabs), gzipped or not, with the names of the columns in the first line.

    A first line of numbers only, other than the 0, 1, 2, ... that pandas writes for unnamed columns, is taken for
    data; the columns are then called f0, f1, ...

    Args:
        path: The file.
        label: Name of the column with the labels.
        key: Name of the column with the identifiers of the rows.

    Returns:
        A table, as `from_frame` makes it.

    Raises:
        DataError: The file cannot be read, is a decompression bomb, or does not hold numbers.
    """
    import pyarrow as pa
    from pyarrow import csv as pa_csv

    zipped = path.suffix.lower() == ".gz"
    delimiter = "\t" if ".tsv" in path.name.lower()[-7:] else ","
    try:
        with reading(path):
            options = pa_csv.ReadOptions(autogenerate_column_names=_lacks_header(path, zipped, delimiter))
            with BoundedGzip(path) if zipped else open(path, "rb") as stream:
                frame = pa_csv.read_csv(stream, options, pa_csv.ParseOptions(delimiter=delimiter))
        names = frame.column_names
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a readable CSV file: {error}. Mend the line or write it again.") from error
    if len(names) == 1 and re.search(r"[;\t|]", names[0]):
        raise DataError(
            f"{path} is not separated by {delimiter!r}: its first line is {names[0]!r}. "
            "A .csv file needs commas, a .tsv file tabs; or pass a data frame to from_frame."
        )
    return from_frame(frame, label, key=key, name=path.name.split(".")[0], source=str(path))


def _lacks_header(path: Path, zipped: bool, delimiter: str) -> bool:
    """Whether the first line holds numbers only, and not 0 ... D - 1 or 1 ... D."""
    with gzip.open(path, "rb") if zipped else open(path, "rb") as stream:
        line = stream.readline(2**24).decode("utf-8-sig", errors="replace")
    try:
        names = next(csv.reader(io.StringIO(line, newline=None), delimiter=delimiter), [])
        numbers = [float(field) for field in names]
    except (ValueError, csv.Error):  # csv.Error: a field of more than 128 KiB
        return False
    return bool(numbers) and all(numbers != list(range(start, start + len(numbers))) for start in (0, 1))


def _position_of(columns: list[str], column: str, name: str, option: str) -> int:
    """Where the column stands that was named as "label" or "key"."""
    if column in columns:
        return columns.index(column)
    near = difflib.get_close_matches(column, columns, n=3, cutoff=0.5) or columns[:5]
    nearest = ", ".join(map(repr, near))
    raise ColumnError(f"{name!r} has no column {column!r} for the {option}s. Nearest: {nearest}.", option)


def _refuse_text(columns: list[Any], name: str) -> None:
    refused = text_columns(columns)
    if refused:
        first = refused[0]
        others = ", ".join(repr(column.name) for column in refused[1:6]) + (", ..." if len(refused) > 6 else "")
        nor = f" (nor do {others})" if others else ""
        raise DataError(
            f"Column {first.name!r} of {name!r} holds {first.dtype}, not numbers{nor}. "
            f"If it is the label, say so (--label {first.name}, or label={first.name!r}); if it names the rows, so too "
            f"(--key {first.name}, or key={first.name!r}); otherwise drop it or encode it as numbers."
        )


def _label_values(column: Any, name: str) -> np.ndarray:
    """The values of the column with the labels, as `Dataset` takes them."""
    import narwhals as nw

    _refuse_holes(column, name, "label")
    if column.dtype.is_integer() or column.dtype == nw.Boolean:
        return cells(column, name)
    if column.dtype in (nw.Categorical, nw.Enum):
        column = column.cast(nw.String)
    values: np.ndarray = column.to_numpy()
    return values.astype(np.str_) if column.dtype in (nw.String, nw.Object) else values


def _key_values(column: Any, name: str) -> np.ndarray:
    """The identifiers of the rows: integers as they are, all others as text."""
    import narwhals as nw

    _refuse_holes(column, name, "key")
    return cells(column, name) if column.dtype.is_integer() else column.cast(nw.String).to_numpy().astype(np.str_)


def _refuse_holes(column: Any, name: str, what: str) -> None:
    num_missing = int(column.is_null().sum())
    if num_missing:
        raise DataError(
            f"Column {column.name!r} of {name!r} has {num_missing} row(s) without a {what}. Fill or drop them."
        )


def from_records(
    records: Sequence[Mapping[str, Any]], label: str | None = None, *, key: str | None = None, name: str = "records"
) -> Dataset:
    """Turn a list of dictionaries, one for each row, into a table as `from_frame` does; what a row lacks is NaN."""
    import pyarrow as pa

    columns = dict.fromkeys(column for record in records for column in record)
    try:
        frame = pa.table({column: [record.get(column) for record in records] for column in columns})
    except (pa.ArrowException, TypeError) as error:  # values of several kinds in one column
        raise DataError(f"the records {name!r} are no table: {error}. Give each name values of one kind.") from error
    return from_frame(frame, label, key=key, name=name)
