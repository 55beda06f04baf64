"""Numbers in rows of any shape."""

from collections.abc import Sequence

import numpy as np

from vaekit.data.kinds.base import Described, Kind


class Arrays(Kind):
    """Numbers of which nothing else is known: the kind of all rows that no other kind recognises."""

    name = "array"

    def reads(self, dtype: np.dtype, num_dimensions: int) -> bool:
        """Any array."""
        return True

    def recognises(self, data: Described) -> bool:
        """Any values."""
        return True

    def shows(self, event_shape: Sequence[int]) -> bool:
        """Any shape: each element is a column."""
        return True
