"""One door to all data: a name or a path."""

import difflib
import os
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from vaekit.data.dataset import Dataset
from vaekit.data.named import NAMED
from vaekit.data.readers import read, refuse_option
from vaekit.data.readers.arrays import member_of
from vaekit.data.reading import Reading
from vaekit.errors import ColumnError, DataError

Part = Literal["train", "test", "all"]
MAX_PATH = 4096


def available() -> dict[str, str]:
    """Names of the data sets that `load` knows, each with a description of one line.

    Example:
        >>> sorted(available())
        ['digits', 'fashion-mnist', 'mnist']
    """
    return {name: (function.__doc__ or "").partition("\n")[0] for name, function in NAMED.items()}


def load(
    source: str | Path,
    *,
    part: Part | None = None,
    data_dir: str | Path | None = None,
    label: str | None = None,
    key: str | None = None,
    size: tuple[int, int] | int | None = None,
    in_memory: bool | None = None,
    reading: Reading | None = None,
) -> Dataset:
    """Load a data set by name or from a path.

    Args:
        source: `NAME`, `NAME:train`, `NAME:test` or `NAME:all` (names ignore case, hyphens and underscores), or the
            path of a file or a folder of images. A name goes before a file of the same name: write `./digits` for
            the file, and `file.npz:member` for one array of an archive.
        part: The part of a named set where `source` does not say; None is "all". A path is used whole.
        data_dir: A folder to look for named sets in, before `$VAEKIT_DATA` and `/usr/share/datasets`.
        label: The column of a table (or the member of an .npz file) with the labels.
        key: The column of a table with the identifiers of the rows, which results carry along (`row_keys`).
        size: Height and width to which the images of a folder are resized, or one number for both.
        in_memory: For a folder of images or a parquet file: True reads it into memory, False leaves it on disk (see
            `StoredDataset`), None leaves it there if the rows would take more than a quarter of the free memory.
        reading: How a file is read: delimiter, encoding, columns and the like; see `Reading`. What it leaves open is
            found out from the file, and told by a `ReadingWarning` where the file is no plain one.

    Returns:
        The data in their own dtype; its `source` says where they were found.

    Raises:
        DataError: The name or the path does not exist, or the data cannot be read or used.

    Example:
        >>> load("digits:test")[:2].shape
        (2, 1, 8, 8)
    """
    if part not in (None, *get_args(Part)):
        raise DataError(f"part must be 'train', 'test', 'all' or None; got {part!r}.")
    read_file = partial(read, label=label, key=key, size=size, in_memory=in_memory, reading=reading)
    if isinstance(source, Path):
        return read_file(source)
    head, colon, suffix = source.partition(":")
    name = _known_name(head)
    if name is None:
        return read_file(_checked_path(source))
    if colon and suffix not in get_args(Part):
        raise DataError(
            f"{source!r} asks for the part {suffix!r} of {name!r}; write {name}:train, {name}:test or {name}."
        )
    if not (label is None and key is None and size is None):
        message = f"key, label and size are for files; {name!r} has labels and images of one size already. Drop them."
        raise ColumnError(message, "key" if label is None else "label") if size is None else DataError(message)
    refuse_option("in_memory", in_memory, repr(name))
    for option, value in (reading.given if reading else {}).items():
        refuse_option(option, value, repr(name))
    return NAMED[name](suffix or part or "all", data_dir)


def set_and_part(source: str) -> tuple[str, str | None] | None:
    """The named set that a source asks for, and its part where it names one; None for a path.

    Example:
        >>> set_and_part("Digits:test"), set_and_part("digits"), set_and_part("./digits")
        (('digits', 'test'), ('digits', None), None)
    """
    head, _, part = source.partition(":")
    name = _known_name(head)
    return None if name is None else (name, part or None)


def _known_name(name: str) -> str | None:
    return next((known for known in NAMED if _key(known) == _key(name)), None)


def _key(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _checked_path(source: str) -> Path:
    """The path that `source` must be, since it is no name; an error where it looks like a misspelt name."""
    if not source or "\0" in source or len(source) > MAX_PATH:
        raise DataError(f"A data set is a name or a path; got {source[:80]!r}. Data sets: {', '.join(NAMED)}.")
    path = Path(os.path.expanduser(source))
    head, _, suffix = source.rpartition(":")
    if os.path.exists(path) or member_of(str(path)):  # Path.exists raises for a link to itself
        return path
    if head and suffix in get_args(Part) and os.path.exists(os.path.expanduser(head)):
        raise DataError(f"{head} is a path, which is used whole: leave out ':{suffix}', or split the file yourself.")
    if len(path.parts) > 1 or path.suffix:
        return path  # the reader says that there is no such file
    near = difflib.get_close_matches(source.partition(":")[0].lower(), NAMED, n=2, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise DataError(
        f"{source!r} is neither a data set nor a file or folder.{hint} "
        f"Data sets: {', '.join(NAMED)}. Files and folders are given by their paths."
    )
