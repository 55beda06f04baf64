"""A path to a data set: the suffix chooses the reader. To add a format: write a function, and enter it in `READERS`."""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vaekit.data.dataset import Dataset
from vaekit.data.readers.arrays import member_of, npy_dataset, npz_dataset
from vaekit.data.readers.csv_files import csv_dataset
from vaekit.data.readers.frames import FRAMES, frame_dataset, parts_dataset
from vaekit.data.readers.frames import frame as frame
from vaekit.data.readers.huggingface import is_saved, saved_dataset
from vaekit.data.readers.idx import idx_dataset, with_suffix
from vaekit.data.readers.images import folder_dataset
from vaekit.data.readers.json_files import LINES
from vaekit.data.readers.parquet import parquet_dataset
from vaekit.data.readers.parts import parts_of
from vaekit.data.readers.safe_reading import reading as safely
from vaekit.data.reading import Reading
from vaekit.errors import ColumnError, DataError


@dataclass(frozen=True)
class Reader:
    """What reads one kind of file.

    Attributes:
        read: Takes the path, and its options by name.
        options: Those of `read` below that have a meaning for such a file; the others are refused.
    """

    read: Callable[..., Dataset]
    options: tuple[str, ...] = ()


_TABLE = ("label", "key", "missing", "columns", "drop", "weight", "context")
_CSV = Reader(csv_dataset, (*_TABLE, "delimiter", "decimal", "encoding", "header"))
_JSON = Reader(frame_dataset, (*_TABLE, "encoding"))
_IDX = Reader(idx_dataset)
READERS = {
    ".npy": Reader(npy_dataset, ("channels_last", "in_memory")),
    ".npz": Reader(npz_dataset, ("label", "member", "channels_last")),
    ".csv": _CSV,
    ".csv.gz": _CSV,
    ".tsv": _CSV,
    ".tsv.gz": _CSV,
    ".parquet": Reader(parquet_dataset, (*_TABLE, "in_memory")),
    ".feather": Reader(frame_dataset, _TABLE),
    ".xlsx": Reader(frame_dataset, (*_TABLE, "header", "sheet")),
    ".json": _JSON,
    ".json.gz": _JSON,
    **dict.fromkeys(LINES, _JSON),
    ".idx": _IDX,
    ".idx.gz": _IDX,
    "-ubyte": _IDX,
    "-ubyte.gz": _IDX,
}
PARTS = Reader(parts_dataset, (*_TABLE, "in_memory", "delimiter", "decimal", "encoding", "header", "sheet"))
SAVED = Reader(saved_dataset, (*_TABLE, "in_memory"))
FOLDER = Reader(folder_dataset, ("size", "in_memory", "alpha"))

_MEANINGS = {  # what to say where an option has none
    "label": "label={value!r} names a column of a table or a member of an archive ({formats}); {what} has neither.",
    "key": "key={value!r} names a column of a table; {what} is none. Drop it.",
    "size": "size={value!r} resizes the images of a folder; {what} is not a folder.",
    "member": "{what} is no archive of arrays ({formats}): leave out ':{value}'.",
    "in_memory": "Only folders of images and {formats} files can stay on disk; {what} is read into memory.",
}
_OF_READING = "{name}={value!r} is for {formats}; it has no meaning for {what}. Drop it."


def read(
    path: str | Path,
    *,
    label: str | None = None,
    key: str | None = None,
    size: tuple[int, int] | int | None = None,
    in_memory: bool | None = None,
    reading: Reading | None = None,
) -> Dataset:
    """Read a file or a folder of images.

    Args:
        path: A file with one of the suffixes in `READERS` (`file.npz:member` for one array of several), a folder of
            images, or a table in parts: a folder of them, or a pattern such as `parts/*.parquet`.
        label: The column (or the member of an .npz file) with the labels.
        key: The column of a table with the identifiers of the rows.
        size: Height and width to which the images of a folder are resized.
        in_memory: Whether what can stay on disk is held in memory; None decides by size, see `load`.
        reading: How the file is read, where that can be said.

    Returns:
        The whole of it, in its own dtype.

    Raises:
        DataError: It is missing, unreadable, damaged or of an unknown kind, or an option has no meaning for it.
    """
    path, how = Path(os.path.expanduser(path)), reading or Reading()
    found = member_of(str(path))
    path, member = found or (path, None)
    reader = PARTS if parts_of(path, FRAMES) is not None else None
    if reader is None:
        with safely(path):
            is_folder = stat.S_ISDIR(path.stat().st_mode)
        if not (is_folder or path.is_file()):
            raise DataError(f"{path} is neither a file nor a folder. Store the data in a file first.")  # pipes block
        reader = _of_folder(path) if is_folder else _reader_of(path)
    options = {"label": label, "key": key, "size": size, "in_memory": in_memory, "member": member}
    known = reader.options if reader else ()
    for name, value in {**options, **how.given}.items():
        if name not in known:
            refuse_option(name, value, str(path))
    if reader is None:
        listed = ", ".join([*READERS, "a folder of images"])
        raise DataError(f"Cannot tell how to read {path}: unknown suffix {path.suffix!r}. Known: {listed}.")
    given = {name: value for name, value in options.items() if name in known}
    return reader.read(path, **given, **({} if reader is _IDX else {"how": how}))


def options_of(source: str | Path) -> tuple[str, ...]:
    """The options that have a meaning for a path; none for a named set."""
    path, _ = member_of(str(source)) or (Path(os.path.expanduser(source)), None)
    if parts_of(path, FRAMES) is not None:
        return PARTS.options
    reader = _of_folder(path) if path.is_dir() else _reader_of(path)
    return reader.options if reader else ()


def refuse_option(name: str, value: object, what: str) -> None:
    """Refuse an option, where it was given, of something for which it has no meaning.

    Raises:
        DataError: It was given; a word on what it is for.
    """
    if value is None or (name == "in_memory" and value):  # to be held in memory is what happens
        return
    formats = [suffix for suffix, reader in READERS.items() if name in reader.options] or ["a folder of images"]
    if name == "in_memory":
        formats = [suffix.lstrip(".") for suffix in formats]
    message = _MEANINGS.get(name, _OF_READING).format(name=name, value=value, formats=", ".join(formats), what=what)
    raise ColumnError(message, name) if name in ("label", "key") else DataError(message)


def _of_folder(path: Path) -> Reader:
    return SAVED if is_saved(path) else FOLDER


def _reader_of(path: Path) -> Reader | None:
    name = with_suffix(path.name.lower())
    return next((reader for suffix, reader in READERS.items() if name.endswith(suffix)), None)
