"""Tables: rows (D,) whose columns have names and meanings of their own."""

import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from vaekit.data.kinds.base import Described, Kind


class Tables(Kind):
    """Columns of numbers, NaN where nothing was observed."""

    name = "table"

    def recognises(self, data: Described) -> bool:
        """Whether the reader found a table."""
        return data.kind == self.name

    def default_preset(self, data: Described, named: frozenset[str] = frozenset()) -> str:
        """That of tables with a schema, whose columns have a head for each kind, unless other heads are named."""
        return "vae" if data.schema is None or named & {"likelihood", "transform"} else "table"

    def shows(self, event_shape: Sequence[int]) -> bool:
        """Vectors."""
        return len(event_shape) == 1


def warn_constant_columns(dataset: Described) -> None:
    """Warn about the columns of a table that have the same value in each row; images and arrays are not looked at.

    A constant column carries no information, and a density with a learned scale can grow without bound on it.

    Args:
        dataset: The set to look at.
    """
    if dataset.kind != Tables.name:
        return
    indices = np.flatnonzero(_constant_columns(dataset.blocks(), dataset.event_shape[0]))
    if len(indices) == 0:
        return
    names = [repr(dataset.columns[i]) if dataset.columns else str(i) for i in indices[:5]]
    more = f" and {len(indices) - 5} more" if len(indices) > 5 else ""
    warnings.warn(
        f"{dataset.name!r} has {len(indices)} constant column(s): {', '.join(names)}{more}. "
        "They carry no information; consider leaving them out.",
        UserWarning,
        stacklevel=2,
    )


def _constant_columns(blocks: Iterator[np.ndarray], num_columns: int) -> np.ndarray:
    """Which columns never change, holes aside."""
    first, constant = None, np.full(num_columns, True)
    for x in blocks:
        missing = np.isnan(x)
        here = x[np.argmin(missing, axis=0), np.arange(num_columns)]  # the first value that is there
        first = here if first is None else np.where(np.isnan(first), here, first)
        constant &= ((x == first) | missing).all(axis=0)
    return constant
