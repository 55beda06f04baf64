"""JSON files that hold a table: a list of records, a dictionary of columns, or a record in each line."""

import codecs
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaekit.data.readers.safe_reading import BoundedGzip, reading
from vaekit.data.readers.typed import Told, table_of_columns, table_of_records
from vaekit.data.reading import Reading
from vaekit.errors import DataError
from vaekit.paths import as_text

if TYPE_CHECKING:
    import pyarrow as pa

LINES = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
_SHAPES = "a list of records ([{...}, ...]) or a dictionary of columns ({name: [...], ...})"
_OF_PANDAS = "pandas: frame.to_json(path, orient='records')"


class _Twice(dict[str, object]):
    """A record that names a column twice."""

    name = ""


def json_table(path: Path, how: Reading, told: Told | None = None) -> tuple["pa.Table", Reading]:
    """A JSON file, gzipped or not, as a table of pyarrow, and how it was read.

    A .json file holds a list of records, or a dictionary of columns: lists of one length, or dictionaries from the same
    index each; pandas writes both (`orient="records"` and `orient="columns"`). A .jsonl or .ndjson file holds a record
    in each line; empty lines are left out. A name that a record lacks is an empty cell.

    Args:
        path: The file.
        how: How it is read: its encoding, and what means "not observed" beside null, NaN, and the words of text files.
        told: What some columns hold; see `typed.typed`.

    Raises:
        DataError: The file cannot be read, is no JSON, or holds no table; with the line, or row and column.
    """
    text, found = _text(path, how)
    name = as_text(path.name)
    if path.name.lower().endswith(LINES):

        def place(row: int) -> str:
            return f"row {row}{line_of(path, how, row)}"

        return table_of_records(_lines(text, path), name, place, told, how.missing), found
    tree = _parsed(text, str(path))
    if isinstance(tree, list):
        return table_of_records(_records(tree, path), name, told=told, missing=how.missing), found
    return table_of_columns(_columns(tree, path), name, told=told, missing=how.missing), found


def _text(path: Path, how: Reading) -> tuple[str, Reading]:
    with reading(path), BoundedGzip(path) if path.suffix.lower() == ".gz" else open(path, "rb") as stream:
        content = b"".join(iter(lambda: stream.read(2**20), b""))
    if not content.strip():
        raise DataError(f"{path} is empty. It should hold {_SHAPES}, or a record in each line of a .jsonl file.")
    encoding = how.given.get("encoding") or json.detect_encoding(content)
    try:
        text = codecs.decode(content, encoding)
    except UnicodeError as error:
        raise DataError(f"{path} is not {encoding}, which JSON is: {error}. Name its --encoding.") from error
    return text.lstrip("\ufeff"), how.found(encoding=encoding)


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_record)
    except json.JSONDecodeError as error:
        more = " A record in each line makes a .jsonl file: name it so." if error.msg == "Extra data" else ""
        raise DataError(
            f"{where} is no JSON: {error.msg} at line {error.lineno}, column {error.colno}. Mend or write it again."
            f"{more}"
        ) from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, or brackets thousands deep
        raise DataError(f"{where} cannot be read: {error}. It should hold {_SHAPES}.") from error


def _record(pairs: list[tuple[str, object]]) -> dict[str, object]:
    record = dict(pairs)
    if len(record) == len(pairs):
        return record
    names = [name for name, _ in pairs]
    twice = _Twice(record)
    twice.name = next(name for name in names if names.count(name) > 1)
    return twice


def _lines(text: str, path: Path) -> Iterator[Mapping[str, object]]:
    """The records of a file that has one in each line."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        record = _parsed(line, f"{path}, line {number}: it")
        yield _checked(record, f"{path}, line {number}")


def _records(tree: list[object], path: Path) -> Iterator[Mapping[str, object]]:
    if not tree:
        raise DataError(f"{path} must have at least one row; got none.")
    return (_checked(record, f"{path}, row {row}") for row, record in enumerate(tree))


def _checked(record: object, where: str) -> Mapping[str, object]:
    if not isinstance(record, dict):
        raise DataError(
            f"{where} holds a {type(record).__name__}; a row is a record, {{name: cell, ...}} ({_OF_PANDAS})."
        )
    if isinstance(record, _Twice):
        raise DataError(f"{where} has {record.name!r} twice. Rename one of them.")
    return record


def _columns(tree: Any, path: Path) -> dict[str, list[object]]:
    """The columns of a file that is a dictionary of them."""
    if not isinstance(tree, dict):
        raise DataError(f"{path} holds a {type(tree).__name__}. It should hold {_SHAPES}.")
    if isinstance(tree, _Twice):
        raise DataError(f"{path} has several columns {tree.name!r}. Rename them.")
    if {"columns", "data"} <= set(tree) or {"schema", "data"} <= set(tree):
        raise DataError(f"{path} is written in a way of pandas that is not read. Write it again ({_OF_PANDAS}).")
    if not tree or all(isinstance(column, dict) for column in tree.values()):
        return _indexed(tree, path)
    for column, cells in tree.items():
        if not isinstance(cells, list):
            raise DataError(f"{path}: column {column!r} is a {type(cells).__name__}. It should hold {_SHAPES}.")
    lengths = {len(cells): column for column, cells in tree.items()}
    if len(lengths) > 1:
        (a, first), (b, second) = list(lengths.items())[:2]
        raise DataError(f"{path}: column {first!r} has {a} cells and {second!r} has {b}. Columns have one length.")
    return tree


def _indexed(tree: dict[str, dict[str, object]], path: Path) -> dict[str, list[object]]:
    """Columns from an index to cells each, the rows in the order of the first one."""
    index = list(next(iter(tree.values()), {}))
    if tree and all(name.isdigit() for name in tree) and not all(row.isdigit() for row in index):
        raise DataError(f"{path} holds rows by their index, and not columns. Write it again ({_OF_PANDAS}).")
    for column, cells in tree.items():
        if isinstance(cells, _Twice):
            raise DataError(f"{path}: column {column!r} has the row {cells.name!r} twice. Number the rows anew.")
        other = next(iter(set(cells) ^ set(index)), None)
        if other is not None:
            lacking = column if other not in cells else next(iter(tree))
            raise DataError(f"{path}: column {lacking!r} has no row {other!r}, which another column has. Fill it.")
    return {column: [cells[row] for row in index] for column, cells in tree.items()}


def line_of(path: Path, how: Reading, row: int) -> str:
    """Where a record stands in a file that has one in each line, for a message: " (line 59)"."""
    try:
        text, _ = _text(path, how)
    except DataError:
        return ""
    numbers = (number for number, line in enumerate(text.split("\n"), 1) if line.strip())
    return next((f" (line {number})" for i, number in enumerate(numbers) if i == row), "")
