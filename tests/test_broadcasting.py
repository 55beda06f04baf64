"""The shape that tensors broadcast to, against torch."""

from itertools import product

import pytest
import torch

from vaekit.errors import ShapeError
from vaekit.shapes import broadcast_shapes

SHAPES = [(), (1,), (3,), (0,), (2, 1), (2, 3), (1, 1, 1), (5, 1, 3), (5, 2, 1), (1, 0), (4, 1, 2, 3)]


@pytest.mark.parametrize("shapes", [(), *product(SHAPES, repeat=1), *product(SHAPES, repeat=2)])
def test_shapes_broadcast_as_in_torch(shapes):
    """Every pair among shapes with ones, empty sides and different lengths; what torch refuses is refused."""
    try:
        expected = torch.broadcast_shapes(*shapes)
    except RuntimeError:
        with pytest.raises(ShapeError, match="do not broadcast"):
            broadcast_shapes(*shapes)
    else:
        assert broadcast_shapes(*shapes) == expected
        assert isinstance(broadcast_shapes(*shapes), torch.Size)


def test_several_shapes():
    """All of them count, wherever the wide one stands."""
    assert broadcast_shapes((1, 3), (4, 1, 1), (2, 1)) == (4, 2, 3)
    with pytest.raises(ShapeError, match=r"\(2,\), \(1,\), \(3,\)"):
        broadcast_shapes((2,), (1,), (3,))
