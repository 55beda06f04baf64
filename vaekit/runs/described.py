"""What a run remembers of its data: a checksum of the rows, their shape and kind, and where they came from."""

import zlib
from contextlib import closing
from typing import TypedDict, Unpack

import numpy as np

from vaekit.data import Dataset
from vaekit.runs.folder import DataAbout, HeldOut
from vaekit.runs.origin import Local


def digest(dataset: Dataset) -> int:
    """A checksum of the rows: a resumed run must see the same data, in memory or on disk."""
    checksum = 0
    for x in dataset.blocks():
        checksum = zlib.crc32(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data, checksum)
    return checksum


def whole_elements(dataset: Dataset) -> bool | tuple[bool, ...]:
    """Which elements of the rows hold whole numbers alone, holes aside; one word where they are all alike."""
    if dataset.dtype.kind in "ui":
        return True
    whole = np.ones(dataset.event_shape, dtype=bool)
    with closing(dataset.blocks()) as blocks:  # type: ignore[type-var]
        for x in blocks:
            whole &= (np.isnan(x) | (x == np.round(x))).all(0)
            if not whole.any():
                return False
    return True if whole.all() else tuple(whole.reshape(-1).tolist())


class OfSource(TypedDict, total=False):
    """What a `DataAbout` holds that the rows themselves do not say."""

    source: str
    valid: str
    valid_crc32: int
    held_out: HeldOut | None
    local: Local | None
    label: str | None
    key: str | None
    size: tuple[int, int] | int | None


def describe_data(dataset: Dataset, **told: Unpack[OfSource]) -> DataAbout:
    """What to remember of the data, besides what is told of where they come from."""
    return DataAbout(
        name=dataset.name,
        kind=dataset.kind,
        num_rows=len(dataset),
        event_shape=dataset.event_shape,
        columns=dataset.columns,
        crc32=digest(dataset),
        value_range=dataset.value_range,
        dtype=str(dataset.dtype),
        whole=whole_elements(dataset),
        reading=dataset.reading,
        columns_schema=dataset.schema,
        context_schema=dataset.context_schema,
        weights_crc32=None if dataset.weights is None else zlib.crc32(dataset.weights.tobytes()),
        **told,
    )
