"""Lower triangular matrices of positive diagonal, as unconstrained numbers."""

import torch
from torch import Tensor

from vaekit.distributions.positive import positive_of, raw_of


def num_entries(size: int) -> int:
    """Entries of a lower triangle of `size` rows."""
    return size * (size + 1) // 2


def tril_of(entries: Tensor, size: int) -> Tensor:
    """A lower triangular L from its rows: the entries below the diagonal as they are, those on it made positive.

    Args:
        entries: shape (..., D (D + 1) / 2); zeros give the identity.
        size: D.

    Returns:
        Shape (..., D, D).
    """
    rows, columns = torch.tril_indices(size, size, device=entries.device)
    lower = entries.new_zeros(*entries.shape[:-1], size, size)
    lower[..., rows, columns] = entries
    return lower.tril(-1) + torch.diag_embed(positive_of(lower.diagonal(dim1=-2, dim2=-1)))


def entries_of(tril: Tensor) -> Tensor:
    """The entries that `tril_of` makes a given L of, shape (..., D (D + 1) / 2)."""
    size = tril.shape[-1]
    rows, columns = torch.tril_indices(size, size, device=tril.device)
    diagonal = torch.diag_embed(raw_of(tril.diagonal(dim1=-2, dim2=-1)))
    return (tril.tril(-1) + diagonal)[..., rows, columns]
