"""Parquet files: read whole, or a piece at a time where they are large."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vaekit.data.dataset import Dataset, StoredDataset
from vaekit.data.disk_cache import stays_in_memory
from vaekit.data.readers.parts import joined, name_of
from vaekit.data.readers.pieces import stored
from vaekit.data.readers.safe_reading import reading, refuse_bomb
from vaekit.data.readers.tables import from_frame
from vaekit.data.reading import Reading, parsed
from vaekit.errors import DataError
from vaekit.paths import as_text

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet

INDEX = re.compile(r"__index_level_\d+__")


def parquet_dataset(
    path: Path,
    label: str | None = None,
    in_memory: bool | None = None,
    key: str | None = None,
    how: Reading | None = None,
) -> Dataset:
    """Read a parquet file; an index that pandas stored with it is left out, a column of vectors is D columns.

    A file that stays on disk is decoded once; see `pieces.stored`.

    Args:
        path: The file.
        label: Name of the column with the labels.
        in_memory: Whether all rows are held in memory; None where they take no more than a quarter of what is free.
        key: Name of the column with the identifiers of the rows.
        how: Which columns are data, and which of their cells mean "not observed".

    Returns:
        A table, as `from_frame` makes it.

    Raises:
        DataError: The file cannot be read, is a decompression bomb, does not hold numbers, or should stay on disk and
            there is no room for it.
    """
    how = how or Reading()
    with _opened(path) as (file, _, num_bytes):
        if in_memory is None:
            in_memory = stays_in_memory(num_bytes)
        is_large = not in_memory and file.metadata.num_rows > 1
    if is_large:
        return stored(Files([path]), label, key, how, name=as_text(path.stem), source=str(path))
    frame = parsed(("parquet", str(path)), lambda: parquet_table(path))
    return from_frame(frame, label, key=key, name=as_text(path.stem), source=str(path), reading=how)


def parquet_table(path: Path) -> "pa.Table":
    """A parquet file as a table of pyarrow, without an index that pandas stored with it.

    Raises:
        DataError: The file cannot be read, or is a decompression bomb.
    """
    with _opened(path) as (file, names, _):
        return file.read().select(names)


@contextmanager
def _opened(path: Path) -> Iterator[tuple["parquet.ParquetFile", list[str], int]]:
    """The open file, its columns without the index of pandas, and the bytes of its values."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with reading(path), open(path, "rb") as stream, parquet.ParquetFile(stream) as file:
            num_bytes = 8 * _num_values(file.metadata)
            refuse_bomb(num_bytes, path)
            yield file, [name for name in file.schema_arrow.names if not INDEX.fullmatch(name)], num_bytes
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a readable parquet file: {error}. Write it again.") from error


def _num_values(metadata: "parquet.FileMetaData") -> int:
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    return sum(group.column(j).num_values for group in groups for j in range(metadata.num_columns))


def large_parts(
    source: Path,
    files: Sequence[Path],
    label: str | None = None,
    in_memory: bool | None = None,
    key: str | None = None,
    how: Reading | None = None,
) -> StoredDataset | None:
    """The parts of a table as rows that stay on disk, where they take more than a quarter of the free memory.

    Args:
        source: the folder or the pattern.
        files: the parts, in their order.
        label: as in `parquet_dataset`, as for `key` and `how`.
        in_memory: whether all rows are held in memory, whatever they take; None decides by that.

    Returns:
        The rows; None where they are to be held in memory.

    Raises:
        DataError: a part cannot be read, or lacks a column that the first one has.
    """
    table = Files(files)
    if in_memory or (in_memory is None and stays_in_memory(table.num_bytes)) or table.num_rows < 2:
        return None
    return stored(table, label, key, how or Reading(), name=name_of(source), source=str(source))


class Files:
    """The rows of one parquet file after another, of which one is open at a time.

    Args:
        files: their paths.

    Attributes:
        paths: the same.
        lengths: how many rows each of them has.
        num_rows: how many there are in all.
        num_bytes: what their values take as numbers.
        size: what they take in memory with their words, as far as the files say.
        schema: names and types of the columns, as pyarrow has them.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.paths, self.num_bytes, encoded, heads = files, 0, 0, []
        self.lengths: list[int] = []
        for path in files:
            with _opened(path) as (file, names, num_bytes):
                heads.append(file.schema_arrow.empty_table().select(names))
                self.lengths.append(file.metadata.num_rows)
                self.num_bytes += num_bytes
                groups = range(file.metadata.num_row_groups)
                encoded += sum(file.metadata.row_group(i).total_byte_size for i in groups)
        self.num_rows, self.size = sum(self.lengths), max(self.num_bytes, encoded)
        self.schema = joined(heads, files).schema

    def batches(self, num_rows: int, columns: Sequence[str]) -> Iterator["pa.Table"]:
        """Tables of at most so many rows each, in order."""
        import pyarrow as pa

        columns = list(columns)
        wanted = pa.schema([self.schema.field(column) for column in columns])
        for path in self.paths:
            with _opened(path) as (file, _, _):
                for batch in file.iter_batches(num_rows, columns=columns):
                    yield pa.Table.from_batches([batch]).select(columns).cast(wanted)
