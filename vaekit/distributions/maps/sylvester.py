"""The Sylvester map."""

import torch
from torch import Tensor

from vaekit.distributions.maps.base import Map
from vaekit.distributions.maps.householder import reflect
from vaekit.distributions.maps.solve import solve_tanh


class Sylvester(Map):
    r"""\( y = z + Q R \tanh(S Q^T z + b) \), a planar map of M directions at once.

    Q of shape (D, M) has orthonormal columns, R and S are upper triangular with \( R_{ii} S_{ii} > -1 \); then
    \( \log|\det| = \sum_i \log(1 + h'_i R_{ii} S_{ii}) \). Q is a product of M reflections, so that it is orthonormal
    whatever its raw vectors. The way back goes through the M coordinates \( Q^T z \) from the last to the first, each
    by one equation of one unknown.

    References:
        van den Berg et al., "Sylvester normalizing flows for variational inference", 2018,
        https://arxiv.org/abs/1803.05649, equations 10-13 and section 3.2 (Householder form).

    Args:
        vectors: normals of the reflections, shape (*batch, M, D).
        right: R, shape (*batch, M, M), upper triangular.
        left: S, shape (*batch, M, M), upper triangular.
        offset: b, shape (*batch, M).
    """

    def __init__(self, vectors: Tensor, right: Tensor, left: Tensor, offset: Tensor) -> None:
        size, dims = vectors.shape[-2:]
        rows = torch.eye(size, dims, dtype=vectors.dtype, device=vectors.device).expand_as(vectors)
        for m in reversed(range(size)):
            rows = reflect(rows, vectors[..., m : m + 1, :])
        self.rows = rows  # the transpose of Q
        self.right, self.left, self.offset = right, left, offset
        self.slopes = right.diagonal(dim1=-2, dim2=-1) * left.diagonal(dim1=-2, dim2=-1)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """y, and log|det| by Sylvester's identity."""
        h = torch.tanh(_times(self.left, _times(self.rows, z)) + self.offset)
        return z + _times(self.rows.mT, _times(self.right, h)), self._log_det(h)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """z, by M searches."""
        h = self._solve(_times(self.rows, y))
        return y - _times(self.rows.mT, _times(self.right, h)), -self._log_det(h)

    def _solve(self, target: Tensor) -> Tensor:
        """The tanh at the point whose image has the coordinates `target` of shape (..., M)."""
        size = target.shape[-1]
        v: list[Tensor] = []  # coordinates of z and their tanh, from the last one back
        h: list[Tensor] = []
        for i in reversed(range(size)):
            later = range(size - 1, i, -1)
            right, left, offset, rest = self.right[..., i, :], self.left[..., i, :], self.offset[..., i], target[..., i]
            for n, j in enumerate(later):
                offset = offset + left[..., j] * v[n]
                rest = rest - right[..., j] * h[n]
            v.append(solve_tanh(rest, right[..., i], left[..., i], offset))
            h.append(torch.tanh(left[..., i] * v[-1] + offset))
        return torch.stack(h[::-1], -1)

    def _log_det(self, h: Tensor) -> Tensor:
        return torch.log1p(self.slopes * (1 - h * h)).sum(-1)


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    """A matrix, with the batch dimensions it has, times a vector of shape (..., D)."""
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)
