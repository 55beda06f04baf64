"""What of a conditional model follows from the contexts of the training rows."""

from typing import Any

import numpy as np
import torch

from vaekit.data import Dataset
from vaekit.errors import DataError
from vaekit.models.view import View
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


_SHARE = 0.1  # of the rows of a batch that have a label, at least, however few there are


def labelled_oftener(view: View) -> View:
    """Training rows of which those with a label stand in each batch, as copies that share the weight of their row.

    Args:
        view: rows with contexts of one label, NaN where it is unknown.
    """
    assert view.context is not None
    known = ~view.context[:, 0].isnan()
    num_known = int(known.sum())
    times = round(_SHARE / (1 - _SHARE) * (len(view) - num_known) / max(num_known, 1))
    return view if times <= 1 else view.repeated(torch.where(known, times, 1))
