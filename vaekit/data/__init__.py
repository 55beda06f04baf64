"""Data: rows in memory, read by name or from a file, and divided in a way that can be repeated."""

from vaekit.data.dataset import Dataset, warn_constant_columns
from vaekit.data.idx import read_idx
from vaekit.data.sources import available, load
from vaekit.data.splits import holdout, split
from vaekit.data.tables import from_frame

__all__ = ["Dataset", "available", "from_frame", "holdout", "load", "read_idx", "split", "warn_constant_columns"]
