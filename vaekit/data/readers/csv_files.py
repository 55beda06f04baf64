"""CSV files: what each is, is found out from its first lines, where nobody says."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from vaekit.data.dataset import Dataset
from vaekit.data.readers.dialect import (
    DELIMITERS,
    TAKEN,
    Dialect,
    holds_numbers,
    look,
    single_byte_encoding,
    stands_apart,
)
from vaekit.data.readers.safe_reading import BoundedGzip, reading
from vaekit.data.readers.tables import table_of
from vaekit.data.readers.typed import Told, is_padded
from vaekit.data.reading import Reading, notice, parsed
from vaekit.errors import DataError
from vaekit.paths import as_text

if TYPE_CHECKING:
    import pyarrow as pa

_SAMPLE, _MAX_SAMPLE = 2**20, 2**28
_THREADED = 2**24  # bytes from which a file is parsed by several threads
_EXTRA = "behind the last column"
_NO_HEADER = ("#", "sep=")  # of a logger, of Excel
_SKIP = "If it is no header, delete it (tail -n +2)"


def csv_dataset(path: Path, label: str | None = None, key: str | None = None, how: Reading | None = None) -> Dataset:
    """Read a CSV file of numbers, gzipped or not, as `csv_table` does.

    Args:
        path: The file.
        label: Name of the column with the labels.
        key: Name of the column with the identifiers of the rows.
        how: How to read it.

    Returns:
        A table, as `from_frame` makes it; its `reading` says how the file was read.

    Raises:
        DataError: The file cannot be read, is a decompression bomb, or does not hold numbers.

    Warns:
        ReadingWarning: The file is not read as a plain one, and nobody said so.
    """
    frame, found = csv_table(path, how or Reading())

    def place(row: int) -> str:
        return f"row {row}{line_of(path, found, row)}"

    name = as_text(path.name.split(".")[0])
    return table_of(frame, label, key, name=name, source=str(path), reading=found, place=place)


def csv_table(path: Path, how: Reading, *, words: bool = False, told: Told | None = None) -> tuple["pa.Table", Reading]:
    """A CSV file, gzipped or not, as a table of pyarrow, and how it was read.

    What `how` leaves open is found out from the first lines: UTF-8, UTF-16 or Latin-1; commas, semicolons (with decimal
    points or commas), tabs or bars; whether they name the columns. A first line of numbers is a header where it is
    0, 1, 2, ... (pandas writes that for unnamed columns), or strictly monotone and outside the ranges of its columns;
    else it is data, and the columns are called f0, f1, ... An empty column behind a trailing delimiter is left out.
    Whole numbers of which one has leading zeros ("007") stay text.

    Args:
        path: The file.
        how: How to read it.
        words: Whether a cell is empty for the same marks in columns of text as in those of numbers.
        told: Columns that stay text whatever they hold, and those that are numbers even with leading zeros.

    Raises:
        DataError: The file cannot be read, or is a decompression bomb.

    Warns:
        ReadingWarning: The file is not read as a plain one, and nobody said so.
    """
    usual = "\t" if ".tsv" in path.name.lower()[-7:] else ","
    sample, is_whole = _sample(path)
    try:
        first_look = look(sample, is_whole, how, usual)
    except UnicodeError as error:
        raise DataError(f"{path} is not {how.encoding}: {error}. Name another --encoding.") from error
    _refuse_other_delimiter(path, first_look)
    if not first_look.first or (is_whole and first_look.header and first_look.num_lines == 1):
        but = f" but for the names of its columns ({first_look.first[0]!r}, ...)" if first_look.first else ""
        raise DataError(f"{path} is empty{but}, and a table must have at least one row. Write it again.")
    told = told or {}
    frame, dialect = _frame(path, sample, first_look, how, words, told)
    found = how.found(
        encoding=dialect.encoding, delimiter=dialect.delimiter, decimal=dialect.decimal, header=dialect.header
    )
    _say(path, found, how, usual, dialect)
    return frame, found


def _refuse_other_delimiter(path: Path, dialect: Dialect) -> None:
    """Refuse a header that is one word with other delimiters in it: its rows would be numbers of their own kind."""
    others = "".join(mark for mark in DELIMITERS if mark != dialect.delimiter)
    if dialect.header and len(dialect.first) == 1 and any(mark in dialect.first[0] for mark in others):
        raise DataError(
            f"{path} is not separated by {dialect.delimiter!r}: its first line is {dialect.first[0]!r}. "
            f"{_SKIP if dialect.first[0].startswith(_NO_HEADER) else 'Name its --delimiter'}."
        )


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with reading(path), BoundedGzip(path) if path.suffix.lower() == ".gz" else open(path, "rb") as stream:
        yield stream  # type: ignore[misc]  # a raw stream reads like any other


def _sample(path: Path) -> tuple[bytes, bool]:
    """The first bytes, with the whole header and the first row, and whether they are all."""
    sample = b""
    with _opened(path) as stream:
        while len(sample) < _SAMPLE or (sample.count(b"\n") + sample.count(b"\r") < 3 and len(sample) < _MAX_SAMPLE):
            part = stream.read(_SAMPLE)
            if not part:
                return sample, True
            sample += part
    return sample, False


def _frame(
    path: Path, sample: bytes, dialect: Dialect, how: Reading, words: bool, told: Told
) -> tuple["pa.Table", Dialect]:
    """The whole file as a table, and the dialect with what only the whole file can tell."""
    import pyarrow as pa

    is_guess = dialect.header is None
    texts = [name for name, cells in told.items() if cells == "text"]
    frame = _parsed(path, dialect, how, words, texts)
    if "encoding" not in how.given and any(map(pa.types.is_binary, frame.schema.types)):  # far down it is not UTF-8
        dialect = replace(dialect, encoding=single_byte_encoding(sample, how))
        frame = _parsed(path, dialect, how, words, texts)
    if is_guess:
        dialect = replace(dialect, header=_is_header(frame))
        frame = _parsed(path, dialect, how, words, texts) if dialect.header else frame
    padded = _padded(path, frame, dialect, how, told)
    frame = _parsed(path, dialect, how, words, [*texts, *padded]) if padded else frame
    if dialect.has_trailing:
        extra = frame.column(frame.num_columns - 1)
        if extra.null_count < len(extra):
            row = int(np.flatnonzero(extra.is_valid().to_numpy(zero_copy_only=False))[0])
            where = line_of(path, how.found(encoding=dialect.encoding, header=dialect.header), row)
            raise DataError(f"{path} has a column without a name: row {row}{where} goes on behind the last delimiter.")
        frame = frame.select(range(frame.num_columns - 1))
    return frame, dialect


def _padded(path: Path, frame: "pa.Table", dialect: Dialect, how: Reading, told: Told) -> list[str]:
    """Columns of whole numbers of which one has leading zeros."""
    import pyarrow as pa

    names = [
        name
        for name, kind in zip(frame.column_names, frame.schema.types, strict=True)
        if pa.types.is_integer(kind) and told.get(name) != "number"
    ]
    if not names or not _may_hold_padded(path, dialect):
        return []
    text = _parsed(path, dialect, how, False, names)
    return [name for name in names if any(is_padded(text.column(i)) for i in text.schema.get_all_field_indices(name))]


def _may_hold_padded(path: Path, dialect: Dialect) -> bool:
    """Whether a cell may begin with a zero and another digit: a look at the bytes, which takes less than parsing."""
    if dialect.encoding.lower().startswith("utf-16"):
        return True
    is_edge, is_digit = np.zeros(256, bool), np.zeros(256, bool)
    is_edge[list(b'\r\n\t "' + dialect.delimiter.encode("utf-8"))] = True
    is_digit[list(b"0123456789")] = True
    with _opened(path) as stream:
        before = b"\n"
        while part := stream.read(_SAMPLE):
            codes = np.frombuffer(before + part, np.uint8)
            at = np.flatnonzero(codes[1:-1] == ord("0"))
            if (is_edge[codes[at]] & is_digit[codes[at + 2]]).any():
                return True
            before = (before + part)[-2:]
    return False


def _parsed(path: Path, dialect: Dialect, how: Reading, words: bool, texts: Sequence[str] = ()) -> "pa.Table":
    key = ("csv", str(path), dialect, how.missing, tuple(sorted(texts)))
    frame = parsed(key, lambda: _parse(path, dialect, how, texts))
    return _without_marks(frame, how) if words else frame


def _without_marks(frame: "pa.Table", how: Reading) -> "pa.Table":
    """The table with nulls for the same marks in columns of text as parsing puts into those of numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv as pa_csv

    # By a pattern, and a null out of an array of them: pyarrow imports pandas to make arrays and scalars of ours.
    marks = "|".join(re.escape(mark) for mark in [*pa_csv.ConvertOptions().null_values, *how.missing])
    null = pa.nulls(1, pa.string())[0]
    for i, column in enumerate(frame.columns):
        if pa.types.is_string(column.type):
            is_mark = pc.match_substring_regex(column, rf"\A(?:{marks})\z")
            frame = frame.set_column(i, frame.field(i), pc.if_else(is_mark, null, column))
    return frame


def _parse(path: Path, dialect: Dialect, how: Reading, texts: Sequence[str]) -> "pa.Table":
    import pyarrow as pa
    from pyarrow import csv as pa_csv

    header = bool(dialect.header)
    options = pa_csv.ReadOptions(
        autogenerate_column_names=not header,
        encoding="utf8" if dialect.encoding.lower() in ("utf-8", "utf8") else dialect.encoding,
        block_size=max(_SAMPLE, 4 * dialect.longest),
        use_threads=path.stat().st_size > _THREADED,
    )
    if header and dialect.has_trailing:
        options.column_names, options.skip_rows_after_names = [*dialect.first, _EXTRA], 1
        options.autogenerate_column_names = False
    convert = pa_csv.ConvertOptions(decimal_point=dialect.decimal)
    convert.null_values = [*convert.null_values, *how.missing]
    convert.column_types = {mark + name: pa.string() for name in texts for mark in ("", "\ufeff")}
    try:
        with _opened(path) as stream:
            frame = pa_csv.read_csv(stream, options, pa_csv.ParseOptions(delimiter=dialect.delimiter), convert)
        return frame.rename_columns([name.strip("\ufeff") for name in frame.column_names])
    except (pa.ArrowInvalid, UnicodeError) as error:
        raise DataError(
            f"{path} is not a readable CSV file: {error}. {_cure(dialect)} (read with {dialect.delimiter!r}, as "
            f"{dialect.encoding})."
        ) from error


def _cure(dialect: Dialect) -> str:
    """What to do about a file that cannot be parsed."""
    first = dialect.delimiter.join(dialect.first)
    if first.startswith(_NO_HEADER):
        return f"Its first line is {first!r}. {_SKIP}"
    return "Mend the line or write it again, or say how to read it: --delimiter, --encoding"


def _is_header(frame: "pa.Table") -> bool:
    """Whether the first of the rows names the columns."""
    import pyarrow as pa

    if not all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in frame.schema.types):
        return False
    columns = [column.cast(pa.float64(), safe=False).to_numpy() for column in frame.columns]
    return stands_apart(np.column_stack(columns))


def _say(path: Path, found: Reading, how: Reading, usual: str, dialect: Dialect) -> None:
    """A notice of what is not plain and was neither asked for nor so in the file that was read before."""
    plain = {"encoding": "utf-8", "delimiter": usual, "decimal": "."}
    said = {
        name: value
        for name, value in found.hints.items()
        if name in plain and value != plain[name] and value != how.hints.get(name)
    }
    parts = [f"{name} {value!r} (--{name})" for name, value in said.items()]
    if dialect.header and how.header is None and holds_numbers(dialect.first, dialect.decimal):
        parts.append(f"its first line of numbers {TAKEN}")
    if dialect.has_trailing and not how.hints:
        parts.append("the delimiter at the end of each line left out")
    if parts:
        notice(f"{path} is read with {'; '.join(parts)}.")


def line_of(path: Path, how: Reading, row: int) -> str:
    """Where a row of a CSV file stands in it, for a message: " (line 59)"; nothing where that cannot be found."""
    name, number = path.name.lower(), -1 - bool(how.header)
    if not re.search(r"\.[ct]sv(\.gz)?$", name):
        return ""
    try:
        with _opened(path) as stream, io.TextIOWrapper(stream, how.encoding or "utf-8", "replace", newline="") as text:
            records = csv.reader(text, delimiter=how.delimiter or ",")
            before = 0
            for cells in records:
                number += bool(cells)
                if number == row:
                    return f" (line {before + 1})"
                before = records.line_num
    except (DataError, OSError, csv.Error, UnicodeError):
        pass
    return ""
