"""What a kind of data knows."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

import numpy as np

Picture = Literal["tiles", "columns"]


class Described(Protocol):
    """What a kind asks of a data set."""

    @property
    def name(self) -> str:
        """What to call the set."""
        ...

    @property
    def kind(self) -> str:
        """Name of the kind that its reader gave it."""
        ...

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape X of one row."""
        ...

    @property
    def value_range(self) -> tuple[float, float] | None:
        """Least and greatest value that can occur; None for real numbers."""
        ...

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Names of the columns of a table."""
        ...

    @property
    def schema(self) -> object | None:
        """What the columns of a table are, where that is known."""
        ...

    def blocks(self) -> Iterator[np.ndarray]:
        """All rows in their order, each block of shape (B, *X)."""
        ...


class Kind(ABC):
    """Rows that are modelled and shown in one way.

    The transforms are named as `vaekit.saving.spec` reads them, and stand in the order in which data pass through them.

    Attributes:
        name: What a data set, and the settings of a run, call it.
        value_range: Least and greatest value of rows from a file that says nothing of itself; None for real numbers.
        into_bits: Transforms before a likelihood of bits; None where the values are none, and no probabilities of any.
        into_unit_interval: Transforms before a likelihood of grey values that counts them as if they were bits.
        into_reals: Transforms before a density: what spreads integers over intervals.
        picture: How a row is shown: as a tile of pixels, or column by column.
        max_epochs: Passes over the data after which a fit that is not told ends, where its number of updates has not
            ended it before.
    """

    name: str
    value_range: tuple[float, float] | None = None
    into_bits: tuple[str, ...] | None = None
    into_unit_interval: tuple[str, ...] = ()
    into_reals: tuple[str, ...] = ()
    picture: Picture = "columns"
    max_epochs: int = 2000

    def default_preset(self, data: Described, named: frozenset[str] = frozenset()) -> str:
        """Name of the preset of a model of which the parts `named`, such as "prior", are chosen already."""
        return "vae"

    def reads(self, dtype: np.dtype, num_dimensions: int) -> bool:
        """Whether an array of shape (N, *X) from a file that says nothing of itself is of this kind."""
        return False

    @abstractmethod
    def recognises(self, data: Described) -> bool:
        """Whether the values of a data set are of this kind."""

    def shows(self, event_shape: Sequence[int]) -> bool:
        """Whether rows of which only the shape is known are shown as this kind shows them."""
        return False

    def default_likelihood(self, data: Described) -> str:
        """Name of the likelihood of a model that is not told which to take."""
        return "normal"

    def num_levels(self, data: Described) -> int:
        """How many values 0..L-1 an element has, as far as the data show."""
        highest = data.value_range[1] if data.value_range is not None else _greatest(data)
        return max(2, int(highest) + 1) if math.isfinite(highest) and highest < 2**16 else 256


def _greatest(data: Described) -> float:
    return float(np.nanmax([np.fmax.reduce(x, axis=None) for x in data.blocks()]))
