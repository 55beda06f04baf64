"""What of a conditional model follows from the contexts of the training rows."""

from typing import Any

import numpy as np

from vaekit.data import Dataset
from vaekit.errors import DataError
from vaekit.networks import ContextInput


def of_contexts(data: Dataset) -> dict[str, Any]:
    """The arguments `context` and `proportions` of a conditional preset.

    Labels have their share of the training rows, one row added to each (the rule of succession), as p(y).

    Args:
        data: the training rows, with contexts.

    Raises:
        DataError: if the rows have none.
    """
    if data.contexts is None or data.context_schema is None:
        raise DataError(f"{data.name!r} has no contexts for a conditional model; name a column of labels (--label).")
    columns, contexts = data.context_schema.modelled, np.asarray(data.contexts)
    levels = [column.num_codes for column in columns]
    holes = [c for c in range(len(levels)) if np.isnan(contexts[:, c]).any()]
    loc, scale = [0.0] * len(levels), [1.0] * len(levels)
    for c, size in enumerate(levels):
        if not size:
            loc[c] = float(np.nanmean(contexts[:, c]))
            scale[c] = float(np.nanstd(contexts[:, c])) or 1.0
    found: dict[str, Any] = {"context": ContextInput(levels, holes, loc, scale)}
    if len(levels) == 1 and levels[0]:
        known = contexts[~np.isnan(contexts[:, 0]), 0].astype(int)
        counts = np.bincount(known, minlength=levels[0]) + 1.0
        found["proportions"] = tuple((counts / counts.sum()).tolist())
    return found
