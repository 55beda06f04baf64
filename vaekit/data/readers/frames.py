"""A file that holds a table, with its words, as a table of pyarrow."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vaekit.data.readers.csv_files import csv_table, line_of
from vaekit.data.readers.parquet import INDEX, parquet_table
from vaekit.data.readers.safe_reading import reading as safely
from vaekit.data.readers.tables import without
from vaekit.data.reading import PLAIN, Reading, notice
from vaekit.errors import DataError

HOLES_AMONG_NUMBERS = ("?", "-")  # holes in a column that otherwise holds numbers
FRAMES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".feather")


def frame(path: str | Path, reading: Reading = PLAIN, *, label: str | None = None, key: str | None = None) -> Any:
    """Read a table with its words.

    Cells that are empty or hold NA, NaN, NULL or the like, or one of `reading.missing`, are nulls; "?" and "-" are
    where all other cells of the column are numbers. "None" is a word as any other.

    Args:
        path: A file .csv, .csv.gz, .tsv, .tsv.gz, .parquet or .feather.
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
    path: str | Path, reading: Reading = PLAIN, *, label: str | None = None, key: str | None = None
) -> tuple[Any, Reading]:
    """As `frame`, with how the file was read, for the next file like it."""
    path = Path(path).expanduser()
    with safely(path):
        is_folder = path.is_dir() if path.exists() else path.stat() is None
    suffix = next((suffix for suffix in FRAMES if path.name.lower().endswith(suffix)), None)
    if is_folder or suffix is None:
        raise DataError(f"{path} is no table. Known: {', '.join(FRAMES)}.")
    if "csv" in suffix or "tsv" in suffix:
        table, reading = csv_table(path, reading, words=True)
    else:
        table = parquet_table(path) if suffix == ".parquet" else _feather_table(path)
    twice = [name for name, count in Counter(table.column_names).items() if count > 1]
    if twice:
        raise DataError(f"{path} has several columns {twice[0]!r}. Rename them.")
    indices, chosen = without(table.column_names, label, key, path.stem, reading)
    kept = indices + chosen
    table = table.select(kept if reading.columns is not None else sorted(kept))
    for i, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        table = table.set_column(i, name, _with_holes(name, column, path, reading))
    return table, reading


def place_in(path: str | Path, reading: Reading) -> Callable[[int], str]:
    """Where a row stands in a file that was read so, for messages: "row 57 (line 59)"."""
    return lambda row: f"row {row}{line_of(Path(path).expanduser(), reading, row)}"


def _feather_table(path: Path) -> Any:
    import pyarrow as pa
    from pyarrow import feather

    try:
        with safely(path):
            table = feather.read_table(path)
        return table.select([name for name in table.column_names if not INDEX.fullmatch(name)])
    except pa.ArrowException as error:
        raise DataError(f"{path} is not a readable feather file: {error}. Write it again.") from error


def _with_holes(name: str, column: Any, path: Path, reading: Reading) -> Any:
    """The column with nulls for the marks of what was not observed, as numbers where no other words are left."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        marks = [mark for mark in map(_number, reading.missing) if mark is not None]
        marks = [mark for mark in marks if pa.types.is_floating(kind) or mark.is_integer()]
        if not marks:
            return column
        return pc.if_else(pc.is_in(column, pa.array(marks).cast(kind)), pa.scalar(None, kind), column)
    if pa.types.is_dictionary(kind) and reading.missing and _is_text(kind.value_type):
        return _without(column.cast(kind.value_type), reading.missing).dictionary_encode()
    if not _is_text(kind):
        return column
    if reading.missing:
        column = _without(column, reading.missing)
    # By a pattern: pyarrow imports pandas to make a scalar.
    doubtful = [m for m in HOLES_AMONG_NUMBERS if pc.any(pc.match_substring_regex(column, f"^{re.escape(m)}$")).as_py()]
    if not (doubtful or reading.missing):
        return column
    numbers = _as_numbers(_without(column, HOLES_AMONG_NUMBERS), reading.decimal or ".")
    if numbers is None:
        return column
    if doubtful:
        count = numbers.null_count - column.null_count
        marks_said = " and ".join(map(repr, doubtful))
        notice(f"{path}: column {name!r} holds numbers, so its {count} cell(s) {marks_said} are taken for empty ones.")
    return numbers


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _without(column: Any, marks: tuple[str, ...]) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    is_mark = pc.is_in(column, pa.array(list(marks), column.type))
    return pc.if_else(is_mark, pa.scalar(None, column.type), column)


def _as_numbers(column: Any, decimal: str) -> Any:
    """A column of text as int64 or float64; None where a cell is no number, or none is left."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.null_count == len(column):
        return None
    column = pc.utf8_trim_whitespace(column)
    column = column if decimal == "." else pc.replace_substring(column, decimal, ".")
    for kind in (pa.int64(), pa.float64()):
        try:
            return column.cast(kind)
        except pa.ArrowInvalid:
            continue
    return None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
