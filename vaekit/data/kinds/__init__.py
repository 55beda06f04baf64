"""Kinds of data, one object each: how to recognise them, which likelihood and transforms suit them, how to show a row.

Whoever treats images otherwise than tables asks the kind. To add one: write a class, and enter its object in `KINDS`
before those that would also recognise its rows.
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from vaekit.data.kinds.arrays import Arrays
from vaekit.data.kinds.base import Described, Kind, Picture
from vaekit.data.kinds.bits import Bits
from vaekit.data.kinds.images import Images
from vaekit.data.kinds.tables import Tables, warn_constant_columns

IMAGES = Images()
TABLES = Tables()
KINDS: dict[str, Kind] = {kind.name: kind for kind in (Bits(), IMAGES, TABLES, Arrays())}

__all__ = [
    "IMAGES",
    "KINDS",
    "TABLES",
    "Described",
    "Kind",
    "Picture",
    "described",
    "of",
    "of_event",
    "warn_constant_columns",
]


def of(data: Described) -> Kind:
    """The kind of a data set by its values: the first that recognises them; defaults for a model follow from it."""
    return next(kind for kind in KINDS.values() if kind.recognises(data))


def of_event(event_shape: Sequence[int]) -> Kind:
    """The kind of rows of which only the shape is known, as those that a model makes: how to show them."""
    return next(kind for kind in KINDS.values() if kind.shows(event_shape))


class Said(TypedDict):
    """What an array says of itself, as `Dataset` takes it."""

    kind: str
    value_range: tuple[float, float] | None


def described(dtype: np.dtype, num_dimensions: int) -> Said:
    """Kind and range of an array from a file that says nothing of itself, as `Dataset` takes them.

    Args:
        dtype: that of the array.
        num_dimensions: how many it has, that of the rows included.
    """
    kind = next(kind for kind in KINDS.values() if kind.reads(dtype, num_dimensions))
    return {"kind": kind.name, "value_range": kind.value_range}
