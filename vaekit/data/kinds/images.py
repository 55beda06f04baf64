"""Images: integers in a known range, in rows of shape (C, H, W) or (H, W)."""

from collections.abc import Sequence

import numpy as np

from vaekit.data.kinds.base import Described, Kind, Picture

_FEW_LEVELS = 64


class Images(Kind):
    """Integers in a known range, of which the least is black and the greatest white.

    Rows may have other shapes than images: how their values are modelled follows from the range. How they are shown
    follows from the shape: reals of the shape of an image are shown as one.
    """

    name = "image"
    value_range = (0, 255)
    into_bits = ("scale", "binarize")
    into_unit_interval = ("scale",)
    into_reals = ("dequantize",)
    picture: Picture = "tiles"
    max_epochs = 300  # of a thousand images a network of the default size knows each pixel by heart long before

    def reads(self, dtype: np.dtype, num_dimensions: int) -> bool:
        """Whether the array holds bytes in at least three dimensions."""
        return dtype == np.uint8 and num_dimensions >= 3

    def recognises(self, data: Described) -> bool:
        """Whether the range of the values is known."""
        return data.value_range is not None

    def shows(self, event_shape: Sequence[int]) -> bool:
        """Whether rows of that shape can be shown as pictures: (H, W), or (C, H, W) with 1 or 3 channels."""
        if len(event_shape) == 3:
            return event_shape[0] in (1, 3)
        return len(event_shape) == 2 and min(event_shape) >= 4

    def default_preset(self, data: Described, named: frozenset[str] = frozenset()) -> str:
        """That of grey ones of few levels: a learned prior, whose draws look like the data, where no part is named."""
        return "vamp" if not named and self._is_grey(data) and self._has_few_levels(data) else "vae"

    def default_likelihood(self, data: Described) -> str:
        """What log p of such images usually is.

        That of grey ones of many levels: Bernoulli, the values taken as probabilities of bits, as the literature does
        with MNIST. That of colour images, and of grey ones of few levels (digits have 17): discretised logistic.
        """
        is_bits = self._is_grey(data) and not self._has_few_levels(data)
        return "bernoulli" if is_bits else "discretized-logistic"

    @staticmethod
    def _is_grey(data: Described) -> bool:
        return len(data.event_shape) == 2 or data.event_shape[0] == 1

    def _has_few_levels(self, data: Described) -> bool:
        """Whether the values are stored as integers of few levels; fractions are probabilities of bits."""
        return next(data.blocks()).dtype.kind in "iu" and self.num_levels(data) <= _FEW_LEVELS
