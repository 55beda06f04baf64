"""Lower triangular matrices of positive diagonal, as unconstrained numbers."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_SHIFT = math.log(math.e - 1)  # softplus of it is 1
_SMALLEST = 1e-6


def num_entries(size: int) -> int:
    """Entries of a lower triangle of `size` rows."""
    return size * (size + 1) // 2


def tril_of(entries: Tensor, size: int) -> Tensor:
    """A lower triangular L from its rows: the entries below the diagonal as they are, those on it by softplus.

    Args:
        entries: shape (..., D (D + 1) / 2); zeros give the identity.
        size: D.

    Returns:
        Shape (..., D, D).
    """
    rows, columns = torch.tril_indices(size, size, device=entries.device)
    lower = entries.new_zeros(*entries.shape[:-1], size, size)
    lower[..., rows, columns] = entries
    diagonal = F.softplus(lower.diagonal(dim1=-2, dim2=-1) + _SHIFT)
    return lower.tril(-1) + torch.diag_embed(diagonal.clamp(min=_SMALLEST))


def entries_of(tril: Tensor) -> Tensor:
    """The entries that `tril_of` makes a given L of, shape (..., D (D + 1) / 2)."""
    size = tril.shape[-1]
    diagonal = tril.diagonal(dim1=-2, dim2=-1).clamp(min=_SMALLEST)
    raw = diagonal + torch.log(-torch.expm1(-diagonal)) - _SHIFT  # the inverse of softplus
    rows, columns = torch.tril_indices(size, size, device=tril.device)
    return (tril.tril(-1) + torch.diag_embed(raw))[..., rows, columns]
