"""Raw numbers of networks, positive numbers, their powers, and Cholesky factors: each into the other."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_SHIFT = math.log(math.e - 1)  # softplus of it is 1
_SMALLEST = 1e-6


def softplus_from_one(raw: Tensor) -> Tensor:
    """softplus, shifted so that 0 becomes 1: raw parameters of 0 then stand for a scale of 1."""
    return F.softplus(raw + _SHIFT)


def positive_of(raw: Tensor) -> Tensor:
    """`softplus_from_one`, kept off 0."""
    return softplus_from_one(raw).clamp(min=_SMALLEST)


def raw_of(positive: Tensor) -> Tensor:
    """The inverse of `positive_of`."""
    positive = positive.clamp(min=_SMALLEST)
    return positive + torch.log(-torch.expm1(-positive)) - _SHIFT


def box_cox(log_u: Tensor, power: float | Tensor) -> Tensor:
    r"""\( (u^p - 1) / p \) of \( \log u \), and \( \log u \) itself where the power p is 0 (Box & Cox 1964)."""
    if not isinstance(power, Tensor):
        return log_u if power == 0 else torch.expm1(power * log_u) / power
    divisor = torch.where(power == 0, 1.0, power)
    return torch.where(power == 0, log_u, torch.expm1(power * log_u) / divisor)


def log_of_box_cox(y: Tensor, power: float | Tensor) -> Tensor:
    r"""\( \log u \) of \( y = (u^p - 1) / p \), minus infinity where no u gives y."""
    if not isinstance(power, Tensor):
        return y if power == 0 else torch.log1p((power * y).clamp(min=-1)) / power
    divisor = torch.where(power == 0, 1.0, power)
    return torch.where(power == 0, y, torch.log1p((power * y).clamp(min=-1)) / divisor)


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
