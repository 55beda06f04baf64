"""Tables whose columns are more than numbers: read with their words, and encoded by a schema."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vaekit.data.dataset import Dataset
from vaekit.data.kinds import TABLES
from vaekit.data.readers.frames import FRAMES, frame_and_reading, place_in
from vaekit.data.readers.tables import annotations, without
from vaekit.data.reading import Reading
from vaekit.data.schema import Schema
from vaekit.errors import DataError
from vaekit.frames import as_frame
from vaekit.paths import as_text


def is_table_file(source: Any) -> bool:
    """Whether a source is the path of a file that is read with its words."""
    return isinstance(source, str | Path) and str(source).lower().endswith(FRAMES)


def load_by_schema(
    source: Any,
    schema: Schema | None = None,
    *,
    label: str | None = None,
    key: str | None = None,
    reading: Reading | None = None,
    keep_frame: bool = False,
) -> Dataset:
    """A table as numbers, codes of levels and holes, with the schema that says which.

    Args:
        source: path of a table (.csv, .tsv, each also .gz, .parquet, .feather), a data frame, or a list of records.
        schema: what its columns are; None finds it out.
        label: column with labels, which is no part of x.
        key: column with the identifiers of the rows, likewise.
        reading: how a file is read.
        keep_frame: keep the table beside the rows, for answers that hold its other cells.

    Returns:
        A data set of kind "table" with `schema`; its columns are those that the schema models, NaN is a hole.

    Raises:
        DataError: if the table cannot be read or does not fit the schema; with row and column.
    """
    how = reading or Reading()
    if isinstance(source, str | Path):
        path = Path(source)
        frame, how = frame_and_reading(path, how, label=label, key=key)
        name, place = as_text(path.name.split(".")[0]), place_in(path, how)
    else:
        frame, name, place = _frame(source, label, key, how), "frame", "row {}".format
    table = as_frame(frame)
    beside = [column for column in (label, key) if column is not None]
    labels, keys = annotations(table.select(beside), label, key, name)
    rest = table.drop(beside)
    if not rest.columns:
        raise DataError(f"{name!r} has no columns beside {' and '.join(map(repr, beside))}.")
    if schema is None:
        schema = Schema.found(rest, name=name, place=place)
    else:
        known = [column.name for column in schema.columns]
        if not set(known) & set(rest.columns):
            raise DataError(f"{name!r} has none of the columns of the schema: {', '.join(map(repr, known[:5]))}.")
    x = schema.encode(rest, name=name, place=place)
    about: dict[str, Any] = {"source": str(source) if isinstance(source, str | Path) else "memory", "reading": how}
    about |= {"keys": keys, "key": key or "row", "schema": schema}
    about["frame"] = table if keep_frame else None
    return Dataset(x, labels, name, tuple(column.name for column in schema.modelled), kind=TABLES.name, **about)


def _frame(source: Any, label: str | None, key: str | None, how: Reading) -> Any:
    """The data frame that was handed over, without the columns that are no data."""
    if isinstance(source, Sequence) and all(isinstance(record, Mapping) for record in source):
        import pyarrow as pa

        names = list(dict.fromkeys(name for record in source for name in record))
        source = pa.table({name: [record.get(name) for record in source] for name in names})
    table = as_frame(source)
    if table is None:
        raise DataError(f"a schema is one of data frames, records and files of tables; got {type(source).__name__}.")
    kept, chosen = without(list(table.columns), label, key, "frame", how)
    places = [*kept, *chosen]
    return table[[table.columns[i] for i in (sorted(places) if how.columns is None else places)]].to_native()
