"""Tables whose columns are more than numbers: read with their words, and encoded by a schema."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from vaekit.data.dataset import Dataset
from vaekit.data.kinds import TABLES
from vaekit.data.large_tables import large_table, load_large
from vaekit.data.native_frames import table_in
from vaekit.data.readers import options_of, refuse_option
from vaekit.data.readers.frames import FRAMES, frame_and_reading, place_in
from vaekit.data.readers.parts import name_of, parts_of
from vaekit.data.readers.tables import annotations, context_columns, weights_in, without
from vaekit.data.readers.typed import Told, table_of_records
from vaekit.data.readers.vectors import with_vectors_spread
from vaekit.data.reading import Reading, notice
from vaekit.data.schema import Schema
from vaekit.errors import DataError
from vaekit.frames import as_frame, is_frame
from vaekit.traits import Data

if TYPE_CHECKING:
    from vaekit.frames import Frame


def is_table_file(source: object) -> bool:
    """Whether a source is the path of a file, or of a table in parts, that is read with its words."""
    if not isinstance(source, str | Path):
        return False
    return str(source).lower().endswith(FRAMES) or parts_of(source, FRAMES) is not None


def load_by_schema(
    source: Data,
    schema: Schema | None = None,
    *,
    label: str | None = None,
    key: str | None = None,
    reading: Reading | None = None,
    keep_frame: bool = False,
    lenient: bool = False,
    model_holes: bool | Literal["self"] = False,
) -> Dataset:
    """A table as numbers, codes of levels and holes, with the schema that says which.

    Args:
        source: path of a table (see `readers.frames.FRAMES`), a data frame, or a list of records.
        schema: what its columns are; None finds it out.
        label: column with labels, which is no part of x.
        key: column with the identifiers of the rows, likewise.
        reading: how a file is read.
        keep_frame: keep the table beside the rows, for answers that hold its other cells; not of one that stays on
            disk.
        lenient: take levels that the schema does not know, and numbers out of its bounds, for holes, and say which
            cells these are (`Dataset.excluded`), instead of refusing them.
        model_holes: have elements of x for the holes of columns as well; "self" where a cell may be empty because of
            what it holds; see `Schema.with_holes`.

    Returns:
        A data set of kind "table" with `schema`; its columns are those that the schema models, NaN is a hole.

    Raises:
        DataError: if the table cannot be read or does not fit the schema; with row and column.
    """
    how = reading or Reading()
    told, known = (schema.told, [column.name for column in schema.columns]) if schema else (None, [])
    if isinstance(source, str | Path):
        path = Path(source)
        large = large_table(path)
        known_options = options_of(path)
        for option, value in sorted(how.given.items()):
            if option not in known_options:
                refuse_option(option, value, str(path))
        if large is not None:
            return load_large(large, source, schema, label, key, how, lenient=lenient, model_holes=model_holes)
        frame, how = frame_and_reading(path, how, label=label, key=key, told=told, known=known)
        name, place = name_of(path), place_in(path, how)
    else:
        frame, name, place = _frame(source, label, key, how, told, known), "frame", "row {}".format
    table = as_frame(frame)
    weight = how.weight if how.weight in table.columns else None
    beside = list(dict.fromkeys(column for column in (label, key, weight, *how.context) if column is not None))
    labels, keys = annotations(table.select(beside), label, key, name)
    rest = table.drop(beside)
    if not rest.columns:
        raise DataError(f"{name!r} has no columns beside {' and '.join(map(repr, beside))}.")
    for column in () if schema is None else (weight, *how.context):
        schema = schema if schema is None or column is None else schema.without(column)
    if schema is None:
        schema = Schema.found(rest, name=name, place=place)
    else:
        if not set(known) & set(rest.columns):
            raise DataError(f"{name!r} has none of the columns of the schema: {', '.join(map(repr, known[:5]))}.")
    schema.require_columns(f"{name!r} ({len(rest):,} row(s))")
    excluded = np.zeros((len(rest), len(schema.modelled)), dtype=bool) if lenient else None
    x = schema.encode(rest, name=name, place=place, excluded=excluded)
    if model_holes:
        schema, x = schema.with_holes(x, by_value=model_holes == "self")
    return Dataset(
        x,
        labels,
        name,
        tuple(column.name for column in schema.modelled),
        kind=TABLES.name,
        source=str(source) if isinstance(source, str | Path) else "memory",
        keys=keys,
        key=key or "row",
        reading=how,
        schema=schema,
        weights=weights_in(table, how, name, place),
        excluded=excluded if excluded is not None and excluded.any() else None,
        beside=context_columns(table, how),
        frame=table if keep_frame else None,
    )


def refuse_contradictions(schema: Schema, rows: Dataset) -> None:
    """Refuse to fit a model to rows that a schema, which somebody wrote or edited, says other things of.

    Raises:
        DataError: A column has no cell at all, or none with one of its levels.

    Warns:
        ReadingWarning: No row has one of the levels or one of the point masses of a column.
    """
    seen: list[set[float]] = [set() for _ in schema.modelled]
    for block in rows.blocks():
        for values, cells, column in zip(seen, block.T, schema.modelled, strict=True):
            there = cells[~np.isnan(cells)]
            values.update(np.unique(there if column.levels or column.spikes else there[:1]).tolist())
    for values, column in zip(seen, schema.modelled, strict=True):
        if not values:
            raise DataError(
                f"Column {column.name!r} is {column.kind} in the schema, and all its cells are empty in {rows.name!r}. "
                "Make it constant in the schema, or drop it (--drop)."
            )
        absent = [level for code, level in enumerate(column.levels) if code not in values]
        if column.levels and len(absent) == len(column.levels):
            raise DataError(
                f"Column {column.name!r} of {rows.name!r} has none of the levels of the schema: {_some(absent)}."
            )
        absent += [spike for spike in column.spikes if spike not in values]
        if absent:
            what = "level" if column.levels else "point mass"
            notice(f"{rows.name!r}: no row has the {what} {_some(absent)} of column {column.name!r}.")


def _some(cells: Sequence[object]) -> str:
    return ", ".join(map(repr, cells[:5])) + (", ..." if len(cells) > 5 else "")


def _frame(
    source: object, label: str | None, key: str | None, how: Reading, told: Told | None, known: Collection[str]
) -> "Frame":
    """The data frame that was handed over, without the columns that are no data."""
    if isinstance(source, Sequence) and all(isinstance(record, Mapping) for record in source):
        source = table_of_records(source, "the records", told=told, missing=how.missing)
    if not is_frame(source):
        raise DataError(f"a schema is one of data frames, records and files of tables; got {type(source).__name__}.")
    table = table_in(source, "frame")
    kept, chosen = without(list(table.columns), label, key, "frame", how)
    places = [*kept, *chosen]
    beside = {table.columns[i] for i in chosen} | set(known)
    table = table[[table.columns[i] for i in (sorted(places) if how.columns is None else places)]]
    return with_vectors_spread(table, beside)
