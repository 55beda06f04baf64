"""A path to a data set: the reader is chosen by the kind of file."""

import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from vaekit.data.arrays import npy_dataset, npz_dataset
from vaekit.data.dataset import Dataset
from vaekit.data.guards import reading
from vaekit.data.idx import idx_dataset
from vaekit.data.images import folder_dataset
from vaekit.data.parquet import parquet_dataset
from vaekit.data.tables import csv_dataset
from vaekit.errors import ColumnError, DataError

if TYPE_CHECKING:
    from vaekit.data.stored import StoredDataset

KNOWN = ".npy, .npz, .csv, .csv.gz, .tsv, .tsv.gz, .parquet, .idx, *-ubyte and their .gz, a folder of images"
IDX_NAME = re.compile(r"(\.idx|-ubyte|[-.]idx\d(-\w+)?)(\.gz)?$")


def read(
    path: str | Path,
    *,
    label: str | None = None,
    key: str | None = None,
    size: tuple[int, int] | int | None = None,
    in_memory: bool | None = None,
) -> "Dataset | StoredDataset":
    """Read a file or a folder of images.

    Args:
        path: An .npy, .npz, IDX, CSV or parquet file, or a folder of images.
        label: The column (or the member of an .npz file) with the labels.
        key: The column of a table with the identifiers of the rows.
        size: Height and width to which the images of a folder are resized.
        in_memory: Whether parquet and folders are held in memory; None decides by size, see `load`.

    Returns:
        The whole of it, in its own dtype.

    Raises:
        DataError: It is missing, unreadable, damaged or of an unknown kind, or `label`, `key` or `size` has no meaning
            for it.
    """
    path = Path(path).expanduser()
    with reading(path):
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    if not (is_folder or path.is_file()):
        raise DataError(f"{path} is neither a file nor a folder. Store the data in a file first.")  # pipes block
    name = path.name.lower()
    is_table = name.endswith((".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")) and not is_folder
    has_labels = is_table or (name.endswith(".npz") and not is_folder)
    if label is not None and not has_labels:
        of_what = "a column of a table or a member of an .npz file"
        raise ColumnError(f"label={label!r} names {of_what}; {path} has neither.", "label")
    if key is not None and not is_table:
        raise ColumnError(f"key={key!r} names a column of a table; {path} is none. Drop it.", "key")
    if size is not None and not is_folder:
        raise DataError(f"size={size!r} resizes the images of a folder; {path} is not a folder.")
    if is_folder:
        return folder_dataset(path, size, in_memory)
    if name.endswith(".parquet"):
        return parquet_dataset(path, label, in_memory, key)
    if in_memory is False:
        raise DataError(f"Only folders of images and parquet files can stay on disk; {path} is read into memory.")
    if name.endswith(".npy"):
        return npy_dataset(path)
    if name.endswith(".npz"):
        return npz_dataset(path, label)
    if is_table:
        return csv_dataset(path, label, key)
    if IDX_NAME.search(name):
        return idx_dataset(path)
    raise DataError(f"Cannot tell how to read {path}: unknown suffix {path.suffix!r}. Known: {KNOWN}.")
