"""Whether what comes in is like what the model was fitted to: counts of strange rows, and the drift of each column."""

import threading

import numpy as np

from vaekit.columns import RowsAbout, columns_of, misfits
from vaekit.data import Dataset
from vaekit.evaluation.health.drift import FEWEST, sizes

RECENT = 1_000
"""Rows that the drift of a column rests on: the last ones."""
MOST_COLUMNS = 100
"""Columns that are told apart; of a wider table the first ones."""
_PART = 256  # rows of one request that are looked at, evenly spread


class DriftWatch:
    """What has come in lately, beside the description of the training rows.

    Args:
        about: the description; None watches nothing.
    """

    def __init__(self, about: RowsAbout | None) -> None:
        self._about, self._lock = about, threading.Lock()
        num_columns = 0 if about is None else len(about.columns)
        self._recent = np.empty((RECENT, num_columns))
        self._num_seen = 0

    @property
    def names(self) -> list[str]:
        """The columns that are watched."""
        return [] if self._about is None else [column.name for column in self._about.columns[:MOST_COLUMNS]]

    def saw(self, rows: Dataset) -> tuple[int, int]:
        """Look at rows; returns how many were looked at, and how many of them are strange to the training rows."""
        if self._about is None:
            return 0, 0
        x = rows.x
        if len(x) > _PART:
            x = x[np.linspace(0, len(x) - 1, _PART).astype(int)]
        values = columns_of(x, per_element=self._about.per_element)
        if values.shape[1] != self._recent.shape[1]:
            return 0, 0
        with self._lock:
            places = (self._num_seen + np.arange(len(values))) % RECENT
            self._recent[places] = values
            self._num_seen += len(values)
        return len(values), int(misfits(self._about, values)[0].sum())

    def drift(self) -> dict[str, float]:
        """The largest difference of shares between recent rows and training rows, by column; empty for few rows."""
        if self._about is None or self._num_seen < FEWEST:
            return {}
        with self._lock:
            values = self._recent[: self._num_seen].copy()
        return dict(zip(self.names, sizes(self._about, values), strict=False))
