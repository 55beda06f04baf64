"""Binary vectors and images of bits."""

import numpy as np

from vaekit.data.kinds.base import Described, Kind


class Bits(Kind):
    """Values that are all 0 or 1, in rows of any shape: recognised by looking at each of them."""

    name = "bits"
    into_bits = ()

    def recognises(self, data: Described) -> bool:
        """Whether no value is other than 0 and 1, and none can be."""
        return data.value_range in (None, (0, 1)) and all(bool(np.isin(x, (0, 1)).all()) for x in data.blocks())

    def default_likelihood(self, data: Described) -> str:
        """Bernoulli."""
        return "bernoulli"
