"""Shapes of batches that meet."""

from collections.abc import Sequence
from itertools import zip_longest

import torch

from vaekit.errors import ShapeError


def broadcast_shapes(*shapes: Sequence[int]) -> torch.Size:
    """The shape that tensors of these shapes broadcast to; torch's function of this name loads sympy, half a second.

    Raises:
        ShapeError: if they do not broadcast.
    """
    sizes = []
    for column in zip_longest(*(reversed(shape) for shape in shapes), fillvalue=1):
        size = next((n for n in column if n != 1), 1)
        if any(n not in (1, size) for n in column):
            raise ShapeError(f"shapes {', '.join(str(tuple(shape)) for shape in shapes)} do not broadcast")
        sizes.append(size)
    return torch.Size(sizes[::-1])
