"""Workbooks of Excel: the cells of one sheet, by way of openpyxl."""

import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vaekit.data.readers.dialect import TAKEN, header_of, holds_numbers, stands_apart
from vaekit.data.readers.safe_reading import reading, refuse_bomb
from vaekit.data.readers.typed import Place, Told, table_of_columns
from vaekit.data.reading import Reading, notice
from vaekit.errors import DataError
from vaekit.paths import as_text

if TYPE_CHECKING:
    import pyarrow as pa
    from openpyxl import Workbook
    from openpyxl.worksheet.worksheet import Worksheet

_EMPTY_ERRORS = ("#N/A",)  # what Excel writes for a value that is not available


def excel_table(path: Path, how: Reading, told: Told | None = None) -> tuple["pa.Table", Reading]:
    """A sheet of an .xlsx file as a table of pyarrow, and how it was read.

    The first row that is not empty names the columns; where it holds numbers alone, by the rule of CSV files. Empty
    rows before it and behind the last one are left out. Of a formula the value counts that Excel stored for it.

    Args:
        path: The file.
        how: Which sheet, None takes the first; whether its first row names the columns; what means "not observed".
        told: What some columns hold; see `typed.typed`.

    Raises:
        DataError: openpyxl is not installed, the file cannot be read, or a cell holds an error or a formula without a
            value; with row and column.

    Warns:
        ReadingWarning: The workbook has other sheets as well, and nobody said which to read.
    """
    with _opened(path) as book:
        sheet = _sheet(book, path, how)
        rows, start = _rows(sheet)
        title = sheet.title
    if not rows:
        raise DataError(f"{path}: the sheet {title!r} is empty.")
    if any(cell is None for row in rows for cell in row) and _has_formulas(path):
        _refuse_formulas(path, title, rows, start)
    header = how.header if "header" in how.given else _is_header(rows, how)
    if header and how.header is None and holds_numbers(["" if cell is None else str(cell) for cell in rows[0]]):
        notice(f"{path} is read with its first row of numbers {TAKEN}.")
    names = _names(rows[0]) if header else [f"f{i}" for i in range(len(rows[0]))]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path} has several columns {twice!r}. Rename them.")
    body = rows[1:] if header else rows
    if not body:
        raise DataError(f"{path}: the sheet {title!r} must have at least one row below the names; got none.")
    first = start + 1 + bool(header)

    def place(row: int) -> str:
        return f"row {row} (line {first + row})"

    columns = {
        name: [_checked(cells[i], name, path, place, row) for row, cells in enumerate(body)]
        for i, name in enumerate(names)
    }
    table = table_of_columns(columns, as_text(path.name), place, told, how.missing)
    return table, how.found(sheet=title, header=bool(header))


class _Error(str):
    """What a cell holds whose formula failed."""


@contextmanager
def _opened(path: Path, formulas: bool = False) -> Iterator["Workbook"]:
    try:
        import openpyxl
    except ImportError as error:
        raise DataError(
            f"{path}: reading .xlsx files takes openpyxl, which is not installed. Install it (pip install "
            "'vaekit[excel]'), or save the sheet as CSV."
        ) from error
    with reading(path), open(path, "rb") as stream, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="openpyxl")  # of styles and checks that values do not need
        try:
            with zipfile.ZipFile(stream) as archive:
                refuse_bomb(sum(info.file_size for info in archive.infolist()), path)
            stream.seek(0)
            book = openpyxl.load_workbook(stream, read_only=True, data_only=not formulas)
            yield book
        except (zipfile.BadZipFile, KeyError, ValueError, TypeError, SyntaxError, AttributeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"{path} is not a readable .xlsx file ({error}); it may be damaged, have a password, or be of another "
                "format. Save it again as .xlsx, or as CSV."
            ) from error


def _sheet(book: "Workbook", path: Path, how: Reading) -> "Worksheet":
    """The sheet that was asked for; else that of a file like it, where there is one of its name, or the first."""
    sheets = {sheet.title: sheet for sheet in book.worksheets}
    names = ", ".join(map(repr, sheets))
    if not sheets:
        raise DataError(f"{path} has no sheet of cells.")
    asked, hint = how.given.get("sheet"), how.hints.get("sheet")
    if asked is not None and asked not in sheets:
        raise DataError(f"{path} has no sheet {asked!r}; its sheets are {names}.")
    chosen = asked if asked is not None else hint if hint in sheets else next(iter(sheets))
    if asked is None and chosen != hint and len(sheets) > 1:
        notice(f"{path}: the sheet {chosen!r} is read, of {names} (--sheet NAME picks another).")
    return sheets[chosen]


def _rows(sheet: "Worksheet") -> tuple[list[list[object]], int]:
    """The cells within the first and the last row and column that hold any, and how many rows stand before them."""
    sheet.reset_dimensions()  # what a program wrote of them may be wrong
    rows: list[list[object]] = []
    start, width, height = 0, 0, 0
    for number, row in enumerate(sheet.iter_rows()):
        cells = [_Error(cell.value) if cell.data_type == "e" else cell.value for cell in row]
        while cells and cells[-1] is None:
            cells.pop()
        if not rows and not cells:
            start = number + 1
            continue
        rows.append(cells)
        width, height = max(width, len(cells)), len(rows) if cells else height
    left = min((next(i for i, cell in enumerate(row) if cell is not None) for row in rows if row), default=0)
    return [(row + [None] * (width - len(row)))[left:] for row in rows[:height]], start


def _is_header(rows: list[list[object]], how: Reading) -> bool:
    """Whether the first row names the columns, by the rule of CSV files."""
    first = ["" if cell is None else str(cell) for cell in rows[0]]
    found = header_of(first, how) if all(type(cell) in (int, float) for cell in rows[0]) else True
    if found is not None:
        return found
    return stands_apart(np.array([[_number(cell) for cell in row] for row in rows]))


def _number(cell: object) -> float:
    return float(cell) if isinstance(cell, int | float) and not isinstance(cell, bool) else np.nan


def _names(row: list[object]) -> list[str]:
    """Names of the columns; without a name as pandas calls them, which writes an index so."""
    return [f"Unnamed: {i}" if cell is None else str(cell) for i, cell in enumerate(row)]


def _checked(cell: object, column: str, path: Path, place: Place, row: int) -> object:
    if type(cell) is not _Error:
        return cell
    if cell in _EMPTY_ERRORS:
        return None
    raise DataError(f"{path}: column {column!r} holds the error {cell!s} in {place(row)}. Mend its formula.")


def _has_formulas(path: Path) -> bool:
    """Whether a sheet of the file holds a formula: a look at its text, which takes a moment."""
    with zipfile.ZipFile(path) as archive:
        sheets = [name for name in archive.namelist() if name.startswith("xl/worksheets/") and name.endswith(".xml")]
        return any(b"<f>" in text or b"<f " in text for text in map(archive.read, sheets))


def _refuse_formulas(path: Path, title: str, rows: list[list[object]], start: int) -> None:
    """Refuse formulas that a program wrote without their values, which would be read as empty cells."""
    with _opened(path, formulas=True) as book:
        written, _ = _rows(book[title])
    for number, (values, texts) in enumerate(zip(rows, written, strict=False)):
        for column, (value, text) in enumerate(zip(values, texts, strict=False)):
            if value is None and isinstance(text, str) and text.startswith("="):
                raise DataError(
                    f"{path}: line {start + 1 + number}, column {column + 1} holds the formula {text} without a value. "
                    "Open and save the file in Excel or LibreOffice, which computes it."
                )


def line_of(path: Path, how: Reading, row: int) -> str:
    """Where a row stands in its sheet, for a message: " (line 59)"."""
    try:
        with _opened(path) as book:
            return f" (line {_rows(_sheet(book, path, how))[1] + 1 + bool(how.header) + row})"
    except DataError:
        return ""
