"""Data: rows in memory or on disk, read by name or from a file, and divided in a way that can be repeated."""

from vaekit.data import kinds
from vaekit.data.dataset import Dataset, StoredDataset
from vaekit.data.kinds import warn_constant_columns
from vaekit.data.readers.huggingface import from_huggingface
from vaekit.data.readers.idx import read_idx
from vaekit.data.readers.tables import from_frame, from_records
from vaekit.data.reading import Reading
from vaekit.data.sources import available, load
from vaekit.data.splits import holdout, split

__all__ = [
    "Dataset",
    "Reading",
    "StoredDataset",
    "available",
    "from_frame",
    "from_huggingface",
    "from_records",
    "holdout",
    "kinds",
    "load",
    "read_idx",
    "split",
    "warn_constant_columns",
]
