"""A table in several files: a folder of parts, or a pattern such as parts/*.parquet."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vaekit.data.readers.safe_reading import reading
from vaekit.errors import DataError
from vaekit.paths import as_text

if TYPE_CHECKING:
    import pyarrow as pa

_MARKS = "*?["


def is_pattern(source: str | Path) -> bool:
    """Whether a path is a pattern of paths, and not that of a file with such a name."""
    text = str(source)
    return any(mark in text for mark in _MARKS) and not os.path.exists(os.path.expanduser(text))


def parts_of(source: str | Path, suffixes: Sequence[str]) -> list[Path] | None:
    """The files of a table in parts, in the order of their sorted paths; None for all other sources.

    A folder is a table in parts where each of its files is one, those in subfolders included. Names that begin with a
    dot or an underline, such as `_SUCCESS`, are passed over.

    Args:
        source: a path, or a pattern in which * and ? stand for any characters, and ** for folders.
        suffixes: those of files that hold tables.

    Raises:
        DataError: a pattern fits no file, or files of several formats; a folder cannot be read.
    """
    text = os.path.expanduser(str(source))
    if is_pattern(text):
        found = [Path(path) for path in sorted(glob.glob(text, recursive=True)) if os.path.isfile(path)]
        if not found:
            raise DataError(f"No file fits {as_text(text)}. Check the pattern; it is relative to {os.getcwd()}.")
        if not all(path.name.lower().endswith(tuple(suffixes)) for path in found):
            other = next(path for path in found if not path.name.lower().endswith(tuple(suffixes)))
            raise DataError(
                f"{as_text(text)} fits {as_text(other.name)}, which is no table. Known: {', '.join(suffixes)}."
            )
        return _of_one_format(found, as_text(text))
    if not os.path.isdir(text):
        return None
    files: list[Path] = []
    with reading(Path(text)):
        for folder, inner, names in os.walk(text):
            inner[:] = [name for name in inner if name[0] not in "._"]
            shown = [name for name in names if name[0] not in "._"]
            if not all(name.lower().endswith(tuple(suffixes)) for name in shown):
                return None  # such as a folder of images, which is not walked to its end
            files += [Path(folder) / name for name in shown]
    return _of_one_format(sorted(files), as_text(text)) if files else None


def _of_one_format(files: list[Path], called: str) -> list[Path]:
    formats = {"".join(path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:]).lower() for path in files}
    if len(formats) > 1:
        raise DataError(f"The parts of {called} have several formats: {', '.join(sorted(formats))}. Take one of them.")
    return files


def joined(tables: "Sequence[pa.Table]", files: Sequence[Path]) -> "pa.Table":
    """The rows of all parts as one table of pyarrow.

    Columns may stand in another order; a column of whole numbers in one part and of others in another holds numbers,
    and one without a value in a part is empty there.

    Raises:
        DataError: a part lacks a column that the first one has, or has another; one holds words where another holds
            numbers; with the part and the column.
    """
    import pyarrow as pa

    first = tables[0]
    for table, path in zip(tables, files, strict=True):
        lacking = [name for name in first.column_names if name not in table.column_names]
        strange = [name for name in table.column_names if name not in first.column_names]
        if lacking or strange:
            what = f"lacks the column {lacking[0]!r}" if lacking else f"has a column {strange[0]!r}"
            than = "which the first part has" if lacking else "which the first part lacks"
            raise DataError(f"{path} {what}, {than} ({files[0].name}). Write the parts with the same columns.")
    kept = [table.select(first.column_names) for table in tables]
    try:
        return pa.concat_tables(kept, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        for name in first.column_names:
            for table, path in zip(kept, files, strict=True):
                try:
                    pa.concat_tables([first.select([name]), table.select([name])], promote_options="permissive")
                except pa.ArrowException:
                    raise DataError(
                        f"Column {name!r} of {path} holds {table.schema.field(name).type}, and that of {files[0].name} "
                        f"{first.schema.field(name).type}. Write the parts with the same types."
                    ) from error
        raise DataError(f"The parts beside {files[0]} do not fit together: {error}.") from error


def place_in_parts(lengths: Sequence[int], files: Sequence[Path], row: int) -> str:
    """Where a row of all parts stands: "row 3 of part-1.csv"."""
    for length, path in zip(lengths, files, strict=True):
        if row < length:
            return f"row {row} of {as_text(path.name)}"
        row -= length
    return f"row {row}"


def name_of(source: str | Path) -> str:
    """What to call the data of a path: the name of the file without suffixes, or of the folder of a pattern."""
    path = Path(source)
    while is_pattern(path.name) and path.name != path.parent.name:
        path = path.parent
    return as_text(path.name.split(".")[0]) or "parts"
