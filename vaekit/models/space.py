"""The way of rows from their own units to model space, and data sets that go it at once, before the first batch."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from vaekit.models.row_transform import RowTransform
from vaekit.models.rows import Rows, slices
from vaekit.traits import Data
from vaekit.transforms import Transform

_AT_ONCE_BYTES = 2**26  # of rows in model space that are kept for all epochs


class ModelSpace:
    """The way of rows through a model's transform.

    Args:
        transform: the transform, or None where the model sees the rows as they are.
        has_jacobian: whether log|det| of the transform is part of log p.
    """

    def __init__(self, transform: Transform | None, has_jacobian: bool) -> None:
        self.transform, self.has_jacobian = transform, has_jacobian

    @property
    def is_fixed(self) -> bool:
        """Whether a row has one place in model space, whatever the noise."""
        return self.transform is None or self.transform.is_fixed

    def __call__(self, x: Tensor, dtype: torch.dtype, seed: int | None = None) -> tuple[Tensor, Tensor]:
        """y of shape (B, *X), and log|det dy/dx| in float64 where it is part of log p, else zeros.

        Args:
            x: rows as they were handed in, shape (B, *X).
            dtype: of y.
            seed: the transform seed, for noise that is a function of each row; None draws fresh noise.
        """
        if self.transform is not None and seed is not None and not self.is_fixed:
            y, log_det = RowTransform(x, seed, self.has_jacobian)(self.transform)
            return y.to(dtype), log_det.double()
        # In the dtype of the data: the transform may take an offset away that the model's dtype could not hold.
        if self.transform is not None and self.has_jacobian:
            y, log_det = self.transform.with_log_det(x)
            return y.to(dtype), log_det.double()
        y = self.seen(x, dtype)
        return y, torch.zeros(len(y), dtype=torch.float64, device=y.device)

    def seen(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """y alone."""
        return (x if self.transform is None else self.transform(x)).to(dtype)


class Whole:
    """All rows of a data set in model space, computed once for as long as nothing that they are made of changes."""

    def __init__(self) -> None:
        self._pair: tuple[Tensor, Tensor] | None = None
        self._made_of = Marks()

    @torch.no_grad()
    def of(self, x: Rows, space: ModelSpace, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor] | None:
        """All rows in model space and their log|det|, or None where they are drawn anew, not in memory, or many."""
        if not isinstance(x, Tensor) or x.device != device or not space.is_fixed:
            return None
        made_of = Marks(x, space.transform)
        if self._pair is not None and self._pair[0].dtype == dtype and self._made_of.same(made_of):
            return self._pair
        first, _ = space(x[:1], dtype)
        if len(x) * first.numel() * first.element_size() > _AT_ONCE_BYTES:
            return None
        log_det = torch.zeros(len(x), dtype=torch.float64, device=device)
        if space.transform is None and dtype == x.dtype:
            return x, log_det
        y = first.new_empty(len(x), *first.shape[1:])
        for rows in slices(len(x), 4096):
            y[rows], log_det[rows] = space(x[rows], dtype)
        self._pair, self._made_of = (y, log_det), made_of
        return self._pair


class Marks:
    """What tells things from others, and tensors from themselves after they were written to.

    Args:
        *things: tensors, modules with their tensors, or anything else.
    """

    def __init__(self, *things: Data) -> None:
        self._marks = [(part, _version(part)) for thing in things for part in _parts(thing)]

    def same(self, other: "Marks") -> bool:
        """Whether the others are the same things, in the same state."""
        pairs = zip(self._marks, other._marks, strict=False)
        return len(self._marks) == len(other._marks) and all(a is b and i == j for (a, i), (b, j) in pairs)


def _parts(thing: Data) -> Iterator[object]:
    yield thing
    if isinstance(thing, nn.Module):
        yield from thing.parameters()
        yield from thing.buffers()


def _version(part: Data) -> int:
    """How often a tensor was written to in place."""
    return part._version if isinstance(part, Tensor) and not part.is_inference() else 0
