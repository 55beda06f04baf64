"""Any numbers to positive ones, and raw parameters to a diagonal Gaussian."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vaekit.distributions.normal import Normal
from vaekit.distributions.product import Product

_SHIFT = math.log(math.e - 1)  # softplus of it is 1
_SMALLEST = 1e-6
BELOW_ONE = 1 - 1e-6  # keeps what must stay above -1 away from it, where rounding would make a determinant 0


def softplus_from_one(raw: Tensor) -> Tensor:
    """softplus, shifted so that 0 becomes 1: raw parameters of 0 then stand for a scale of 1."""
    return F.softplus(raw + _SHIFT)


def positive_of(raw: Tensor) -> Tensor:
    """`softplus_from_one`, kept off 0."""
    return softplus_from_one(raw).clamp(min=_SMALLEST)


def above_minus_one(raw: Tensor) -> Tensor:
    """Any numbers to numbers above -1, with 0 at 0."""
    return BELOW_ONE * (softplus_from_one(raw) - 1)


def raw_of(positive: Tensor) -> Tensor:
    """The inverse of `positive_of`."""
    positive = positive.clamp(min=_SMALLEST)
    return positive + torch.log(-torch.expm1(-positive)) - _SHIFT


def normal_of(params: Tensor) -> Product:
    """N(mean, diag scale^2) from (mean, raw scale) side by side, shape (..., 2 D): zeros give N(0, I)."""
    loc, raw = params.chunk(2, -1)
    return Product(Normal(loc, positive_of(raw), validate_args=False), 1)


def normal_of_maps(params: Tensor) -> Product:
    """The flat N(mean, diag scale^2) from maps (mean, raw scale) side by side, shape (..., 2 C, H, W)."""
    loc, raw = (part.flatten(-3) for part in params.chunk(2, -3))
    return Product(Normal(loc, positive_of(raw), validate_args=False), 1)
