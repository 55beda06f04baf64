"""What several runs know of the same rows."""

from collections.abc import Sequence

import numpy as np

from vaekit.data import Dataset
from vaekit.runs.division import HELD_OUT, ROWS
from vaekit.runs.run import Run


def held_out_by_all(runs: Sequence[Run], rows: Dataset) -> tuple[Dataset, str]:
    """The rows that none of several runs was trained on, and what they are called; all rows where there are none.

    Args:
        runs: the runs.
        rows: rows as one of them reads them.
    """
    for run in runs:
        run.compare_with_fit(rows)
    splits = [run.split(rows) for run in runs]
    left_out = np.zeros(len(rows), dtype=bool)
    for split in splits:
        left_out |= np.isin(np.arange(len(rows)), split.held_out, invert=True)
    names = {split.part for split in splits if split.is_known}
    part = ROWS if left_out.all() or not names else names.pop() if len(names) == 1 else HELD_OUT
    left = rows.take(np.flatnonzero(~left_out)) if left_out.any() and not left_out.all() else rows
    counts = [
        len(split.train) * bool(left_out.all()) if split.is_known else run.num_alike(left)
        for run, split in zip(runs, splits, strict=True)
    ]
    said = [f"{run.called} was trained on {n:,}" for run, n in zip(runs, counts, strict=True) if n]
    return left, f"{part} ({', '.join(said)})" if said else part
