"""What a CSV file is, from its first lines: encoding, delimiter, decimal mark, header."""

import codecs
import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vaekit.data.reading import Reading

DELIMITERS = (",", ";", "\t", "|")
TAKEN = "taken for the names of the columns (--no-header: they are data)"  # a first line of numbers
_MAX_LINES, _MAX_CHARS, _MIN_LINES = 1000, 2**18, 3
_BOMS = (  # that of UTF-32 begins as that of UTF-16 does
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WITH_COMMA, _WITH_POINT = (re.compile(rf"\s*[+-]?\d*{mark}\d+([eE][+-]?\d+)?\s*") for mark in (",", r"\."))


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written.

    Attributes:
        encoding: of the text.
        delimiter: between cells.
        decimal: the decimal mark.
        header: whether the first line names the columns; None where it holds numbers and only its columns can tell.
        first: the cells of the first line, without the empty one behind a trailing delimiter.
        has_trailing: whether each line of data ends with a delimiter.
        longest: characters of the longest line that was looked at.
        num_lines: lines that were looked at and are not empty.
    """

    encoding: str
    delimiter: str
    decimal: str
    header: bool | None
    first: tuple[str, ...]
    has_trailing: bool
    longest: int
    num_lines: int


def look(sample: bytes, is_whole: bool, reading: Reading, usual: str) -> Dialect:
    """The dialect of a file, from what was asked for, its beginning, and what a file like it was.

    Args:
        sample: The first bytes, two lines at least where there are as many.
        is_whole: Whether that is all of the file.
        reading: What was asked for, and the hints of another file.
        usual: The delimiter that its suffix suggests.
    """
    encoding = reading.given.get("encoding") or _encoding(sample, reading)
    lines = _lines(codecs.getincrementaldecoder(encoding)("replace").decode(sample).lstrip("\ufeff"), is_whole)
    delimiter = reading.given.get("delimiter") or _delimiter(lines, reading, usual)
    records = _records(lines, delimiter)
    first = records[0] if records else []
    rest = [record[-1] == "" for record in records[1:] if len(record) == len(first) + (first[-1:] != [""])]
    has_trailing = len(first) > 1 and bool(rest) and len(rest) == len(records) - 1 and all(rest)
    if has_trailing and first[-1] == "":
        first = first[:-1]
    decimal = reading.given.get("decimal") or _decimal(records[1:] or records, reading)
    header = reading.header if "header" in reading.given else header_of(first, reading, decimal)
    longest = max(map(len, lines), default=0)
    return Dialect(encoding, delimiter, decimal, header, tuple(first), has_trailing, longest, len(lines))


def _encoding(sample: bytes, reading: Reading) -> str:
    for mark, name in _BOMS:
        if sample.startswith(mark):
            return name
    zeros = [sample[start:4096:2].count(0) > min(len(sample), 4096) / 8 for start in (0, 1)]
    if zeros[0] != zeros[1]:  # every other byte of Latin letters in UTF-16 is 0
        return "utf-16-be" if zeros[0] else "utf-16-le"
    return "utf-8" if _decodes(sample, "utf-8") else single_byte_encoding(sample, reading)


def single_byte_encoding(sample: bytes, reading: Reading) -> str:
    """The encoding of text that is not UTF-8: that of a file like it, Latin-1, or what Windows made of that."""
    hint = reading.hints.get("encoding")
    if hint not in (None, "utf-8") and _decodes(sample, hint):
        return str(hint)
    is_windows = any(0x80 <= byte < 0xA0 for byte in set(sample)) and _decodes(sample, "cp1252")
    return "cp1252" if is_windows else "latin-1"


def _decodes(sample: bytes, encoding: str) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeDecodeError:
        return False
    return True


def _lines(text: str, is_whole: bool) -> list[str]:
    """The first lines that are not empty: enough of them to judge by, and not too many."""
    lines = re.split(r"\r\n|\n|\r", text, maxsplit=_MAX_LINES)
    if not is_whole or len(lines) > _MAX_LINES:
        lines = lines[:-1] or lines
    kept: list[str] = []
    num_chars = 0
    for line in filter(str.strip, lines):
        if len(kept) >= _MIN_LINES and num_chars > _MAX_CHARS:
            break
        kept.append(line)
        num_chars += len(line)
    return kept


def _records(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    try:
        return list(csv.reader(lines, delimiter=delimiter))
    except csv.Error:  # a cell of more than 128 KiB
        return [line.split(delimiter) for line in lines]


def _delimiter(lines: list[str], reading: Reading, usual: str) -> str:
    """The usual one, unless another one divides each line into as many cells, and these are rather numbers."""
    if not lines:
        return usual
    first = reading.hints.get("delimiter", usual)
    offered = dict.fromkeys((str(first), usual, *DELIMITERS))
    return max(offered, key=lambda d: _suits(lines, d, usual))


def _suits(lines: list[str], delimiter: str, usual: str) -> tuple[bool, float]:
    records = _records(lines, delimiter)
    widths = {len(record) - (record[-1:] == [""]) for record in records}
    cells = [cell for record in records[1:] or records for cell in record]
    share = sum(_is_number(cell) for cell in cells) / max(1, len(cells))
    is_column = delimiter == usual or (usual not in lines[0] and share > 0.5)  # of decimal commas, say
    return len(widths) == 1 and (is_column or max(widths) > 1), share


def _is_number(cell: str, decimal: str | None = None) -> bool:
    """Whether a cell is a number under that decimal mark, or under one of both, or empty."""
    if decimal is None:
        return cell == "" or _is_number(cell, ".") or bool(_WITH_COMMA.fullmatch(cell))
    return number(cell, decimal) is not None


def number(cell: str, decimal: str = ".") -> float | None:
    """The number that a cell holds; None where it holds none."""
    try:
        return float(cell if decimal == "." else cell.replace(",", "."))
    except ValueError:
        return None


def _decimal(records: list[list[str]], reading: Reading) -> str:
    cells = [cell for record in records for cell in record]
    has_comma = any(_WITH_COMMA.fullmatch(cell) for cell in cells)
    has_point = any(_WITH_POINT.fullmatch(cell) for cell in cells)
    if has_comma == has_point:
        return str(reading.hints.get("decimal", ".")) if not has_comma else "."
    return "," if has_comma else "."


def header_of(first: Sequence[str], reading: Reading, decimal: str = ".") -> bool | None:
    """Whether the first line names the columns; None where only the whole table can tell.

    A line with a word in it does; 0 ... D - 1 and 1 ... D are what programs write for unnamed columns;
    a single 1 is none.
    """
    if not holds_numbers(first, decimal):
        return True
    values = [number(cell, decimal) for cell in first]
    if values == list(range(len(values))) or (len(values) > 1 and values == list(range(1, len(values) + 1))):
        return True
    return reading.hints.get("header")


def holds_numbers(first: Sequence[str], decimal: str = ".") -> bool:
    """Whether each cell of the first line is a number, so that a guess is made of it as names of the columns."""
    return bool(first) and all(number(cell, decimal) is not None for cell in first)


def stands_apart(x: np.ndarray) -> bool:
    """Whether the first of several rows of numbers names the columns: wavelengths, years.

    It does where it is strictly monotone and each of its numbers lies outside the range of its column, as those of the
    first row of a trend do too: so in most columns the step to the next row also has to be the largest.

    Args:
        x: The rows, shape (N, D).
    """
    if len(x) < 3 or x.shape[1] < 2 or not np.isfinite(x[0]).all():
        return False
    first, others, steps = x[0], x[1:], np.diff(x[0])
    is_hole = np.isnan(others)  # a column of nothing but holes has no range
    lowest, highest = np.where(is_hole, np.inf, others).min(0), np.where(is_hole, -np.inf, others).max(0)
    outside = ~((lowest <= first) & (first <= highest))
    with np.errstate(invalid="ignore"):
        jumps = np.nan_to_num(np.abs(np.diff(x, axis=0)))
    is_monotone = bool((steps > 0).all() or (steps < 0).all())
    return is_monotone and bool(outside.all()) and float(np.mean(jumps[0] > jumps[1:].max(0))) > 0.5
