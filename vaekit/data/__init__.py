"""Data: rows in memory or on disk, read by name or from a file, and divided in a way that can be repeated."""

from typing import TYPE_CHECKING, Any

from vaekit.data.dataset import Dataset, warn_constant_columns
from vaekit.data.readers.idx import read_idx
from vaekit.data.readers.tables import from_frame, from_records
from vaekit.data.sources import available, load
from vaekit.data.splits import holdout, split

if TYPE_CHECKING:
    from vaekit.data.stored import StoredDataset

__all__ = [
    "Dataset",
    "StoredDataset",
    "available",
    "from_frame",
    "from_records",
    "holdout",
    "load",
    "read_idx",
    "split",
    "warn_constant_columns",
]


def __getattr__(name: str) -> Any:
    """Resolve `StoredDataset` on first use, for it needs torch."""
    if name != "StoredDataset":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vaekit.data.stored import StoredDataset

    return StoredDataset
