"""A file that holds a table, with its words, as a table of pyarrow."""

import os
import re
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vaekit.data.dataset import Dataset
from vaekit.data.readers import csv_files, excel, json_files
from vaekit.data.readers.csv_files import csv_table
from vaekit.data.readers.excel import excel_table
from vaekit.data.readers.json_files import json_table
from vaekit.data.readers.parquet import INDEX, large_parts, parquet_table
from vaekit.data.readers.parts import joined, name_of, parts_of, place_in_parts
from vaekit.data.readers.safe_reading import reading as safely
from vaekit.data.readers.tables import table_of, without
from vaekit.data.readers.typed import HOLES_AMONG_NUMBERS as HOLES_AMONG_NUMBERS
from vaekit.data.readers.typed import Told, as_numbers, is_text, say_holes, with_dates
from vaekit.data.readers.vectors import with_vectors_spread
from vaekit.data.reading import PLAIN, Reading, parsed
from vaekit.errors import DataError
from vaekit.paths import as_text

if TYPE_CHECKING:
    import pyarrow as pa

    from vaekit.frames import Arrow


def _csv(path: Path, how: Reading, told: Told) -> tuple["pa.Table", Reading]:
    table, found = csv_table(path, how, words=True, told=told)
    for i, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        if is_text(column.type) and told.get(name) != "text":  # such as datetimes of far years with fractions
            table = table.set_column(i, name, with_dates(column))
    return table, found


def _parquet(path: Path, how: Reading, told: Told) -> tuple["pa.Table", Reading]:
    return parsed(("parquet", str(path)), lambda: parquet_table(path)), how


def _feather(path: Path, how: Reading, told: Told) -> tuple["pa.Table", Reading]:
    import pyarrow as pa
    from pyarrow import feather

    try:
        with safely(path):
            table = feather.read_table(path)
        return table.select([name for name in table.column_names if not INDEX.fullmatch(name)]), how
    except pa.ArrowException as error:
        raise DataError(f"{path} is not a readable feather file: {error}. Write it again.") from error


_READ: "dict[str, Callable[[Path, Reading, Told], tuple[pa.Table, Reading]]]" = {
    ".csv": _csv,
    ".csv.gz": _csv,
    ".tsv": _csv,
    ".tsv.gz": _csv,
    ".parquet": _parquet,
    ".feather": _feather,
    ".xlsx": excel_table,
    ".json": json_table,
    ".json.gz": json_table,
    **dict.fromkeys(json_files.LINES, json_table),
}
FRAMES = tuple(_READ)
"""Suffixes of files that hold a table with its words."""


def frame(
    path: str | Path, reading: Reading = PLAIN, *, label: str | None = None, key: str | None = None
) -> "pa.Table":
    """Read a table with its words.

    Cells that are empty or hold NA, NaN, NULL or the like, or one of `reading.missing`, are nulls; "?" and "-" are
    where all other cells of the column are numbers. "None" is a word as any other. Whole numbers are words where one
    of a column has leading zeros ("007").

    Args:
        path: A file with one of the suffixes in `FRAMES`.
        reading: How it is read, and which of its columns are data.
        label: A column that is kept, whatever columns are data.
        key: Another one.

    Returns:
        A table of pyarrow, with the columns in the order of the file, or of `reading.columns`.

    Raises:
        DataError: The file is missing, unreadable, of another kind, or lacks a column that is named.

    Warns:
        ReadingWarning: The file is not read as a plain one, a column is left out, or cells are taken for holes.
    """
    return frame_and_reading(path, reading, label=label, key=key)[0]


def frame_and_reading(
    path: str | Path,
    reading: Reading = PLAIN,
    *,
    label: str | None = None,
    key: str | None = None,
    told: Told | None = None,
    known: Collection[str] = (),
) -> tuple["pa.Table", Reading]:
    """As `frame`, with how the file was read, for the next file like it; a schema may tell what its columns hold.

    Columns that are `known` keep their names, vectors or not.
    """
    import narwhals as nw

    path = Path(os.path.expanduser(path))
    table, reading = _table(path, reading, told or {})
    table_names = table.column_names
    indices, chosen = without(table_names, label, key, path.stem, reading)
    kept = indices + chosen
    table = table.select(kept if reading.columns is not None else sorted(kept))
    beside = {table_names[i] for i in chosen} | set(known)
    table = with_vectors_spread(nw.from_native(table, eager_only=True), beside).to_native()
    for i, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        table = table.set_column(i, name, with_holes(name, column, path, reading, (told or {}).get(name) == "text"))
    return table, reading


def frame_dataset(path: Path, label: str | None = None, key: str | None = None, how: Reading = PLAIN) -> Dataset:
    """Read a file of a table of numbers, as `from_frame` makes it of what `frame` reads.

    Raises:
        DataError: The file cannot be read, or does not hold numbers.
    """
    table, found = _table(path, how, {})
    place = place_in(path, found)
    return table_of(table, label, key, name=name_of(path), source=str(path), reading=found, place=place)


def parts_dataset(
    path: Path, label: str | None = None, in_memory: bool | None = None, key: str | None = None, how: Reading = PLAIN
) -> Dataset:
    """Read a table of numbers in parts; parquet files that are large together stay on disk.

    Raises:
        DataError: A part cannot be read, or the parts do not fit together.
    """
    files = parts_of(path, FRAMES)
    assert files is not None
    if files[0].suffix.lower() == ".parquet":
        large = large_parts(path, files, label, in_memory, key, how)
        if large is not None:
            return large
    elif in_memory is False:
        raise DataError(f"parts stay on disk where they are parquet files; {as_text(files[0])} is none.")
    return frame_dataset(path, label, key, how)


def _table(path: Path, reading: Reading, told: Told) -> tuple["pa.Table", Reading]:
    """All columns of a file, or of a table in parts, each with a name of its own."""
    files = parts_of(path, FRAMES)
    if files is not None:
        tables = []
        for file in files:  # what was found out of the first part is tried first with the others
            table, reading = _table(file, reading, told)
            tables.append(table)
        return joined(tables, files), reading
    with safely(path):
        is_folder = path.is_dir() if path.exists() else path.stat() is None
    suffix = next((suffix for suffix in FRAMES if path.name.lower().endswith(suffix)), None)
    if is_folder or suffix is None:
        raise DataError(f"{path} is no table. Known: {', '.join(FRAMES)}.")
    key = ("table", str(path), reading, tuple(sorted(told.items())), suffix)
    table, reading = parsed(key, partial(_READ[suffix], path, reading, told))
    twice = [name for name, count in Counter(table.column_names).items() if count > 1]
    if twice:
        raise DataError(f"{path} has several columns {twice[0]!r}. Rename them.")
    return table, reading


def place_in(path: str | Path, reading: Reading) -> Callable[[int], str]:
    """Where a row stands in a file that was read so, for messages: "row 57 (line 59)", or "row 3 of part-1.csv"."""
    files = parts_of(path, FRAMES)
    if files is not None:
        return lambda row: place_in_parts([len(_table(file, reading, {})[0]) for file in files], files, row)
    return lambda row: f"row {row}{line_of(Path(os.path.expanduser(path)), reading, row)}"


def line_of(path: Path, reading: Reading, row: int) -> str:
    """Where a row stands in its file, for a message: " (line 59)"; nothing where files of its format have no lines."""
    name = path.name.lower()
    if name.endswith(json_files.LINES):
        return json_files.line_of(path, reading, row)
    return excel.line_of(path, reading, row) if name.endswith(".xlsx") else csv_files.line_of(path, reading, row)


def with_holes(name: str, column: "Arrow", path: Path, reading: Reading, stays: bool) -> "Arrow":
    """The column with nulls for the marks of what was not observed, as numbers where no other words are left.

    Args:
        name: Of the column.
        column: Its cells, of pyarrow.
        path: Its file, for messages.
        reading: Which marks there are.
        stays: Whether text stays text whatever is left.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        marks = [mark for mark in map(_number, reading.missing) if mark is not None]
        marks = [mark for mark in marks if pa.types.is_floating(kind) or mark.is_integer()]
        if not marks:
            return column
        return pc.if_else(pc.is_in(column, pa.array(marks).cast(kind)), pa.scalar(None, kind), column)
    if pa.types.is_dictionary(kind) and reading.missing and is_text(kind.value_type):
        return _without(column.cast(kind.value_type), reading.missing).dictionary_encode()
    if not is_text(kind):
        return column
    if reading.missing:
        column = _without(column, reading.missing)
    if stays:
        return column
    # By a pattern: pyarrow imports pandas to make a scalar.
    doubtful = [m for m in HOLES_AMONG_NUMBERS if pc.any(pc.match_substring_regex(column, f"^{re.escape(m)}$")).as_py()]
    if not (doubtful or reading.missing):
        return column
    numbers = as_numbers(_without(column, HOLES_AMONG_NUMBERS), reading.decimal or ".")
    if numbers is None:
        return column
    if doubtful:
        say_holes(str(path), name, numbers.null_count - column.null_count, doubtful)
    return numbers


def _without(column: "Arrow", marks: tuple[str, ...]) -> "Arrow":
    import pyarrow as pa
    import pyarrow.compute as pc

    is_mark = pc.is_in(column, pa.array(list(marks), column.type))
    return pc.if_else(is_mark, pa.scalar(None, column.type), column)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
