"""Maps of a whole vector: Householder reflections, planar, radial and Sylvester maps."""

import torch
from torch import Tensor

from vaekit.distributions.links import above_minus_one
from vaekit.distributions.maps.base import Map

_STEPS = 60


def solve_tanh(target: Tensor, gain: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
    r"""The t with \( t + g \tanh(s t + c) = \text{target} \), for \( g s > -1 \), where the left side rises.

    t lies within |g| of the target. Newton's steps within that bracket, which each step narrows, and its middle where
    a step leaves it or gains too little; no gradients are kept. One more step at the solution then carries the
    gradients of the implicit function to all arguments.

    Args:
        target: the right side, shape (...).
        gain: g, broadcastable.
        slope: s, broadcastable.
        offset: c, broadcastable.

    Returns:
        t, shape (...), with first derivatives.
    """
    with torch.no_grad():
        t = _solution(*torch.broadcast_tensors(target, gain, slope, offset))
    value, rise = _left(t, gain, slope, offset)
    return t - (value - target) / rise.detach()


def _left(t: Tensor, gain: Tensor, slope: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """The left side and its derivative, kept away from zero."""
    h = torch.tanh(slope * t + offset)
    rise = 1 + gain * slope * (1 - h * h)
    return t + gain * h, rise.clamp(min=torch.finfo(t.dtype).eps)


def _solution(target: Tensor, gain: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
    low, high = target - gain.abs(), target + gain.abs()
    rounding = 4 * torch.finfo(target.dtype).eps * (target.abs() + gain.abs())
    t, before = target, torch.full_like(target, torch.inf)
    for _ in range(_STEPS):
        value, rise = _left(t, gain, slope, offset)
        error = value - target
        solved = error.abs() <= rounding
        if not torch.compiler.is_compiling() and bool(solved.all()):
            break
        low, high = torch.where(error < 0, t, low), torch.where(error > 0, t, high)
        step = t - error / rise
        slow = (step <= low) | (step >= high) | (error.abs() > 0.5 * before)
        t = torch.where(solved, t, torch.where(slow, 0.5 * (low + high), step))
        before = error.abs()
    return t


def reflect(z: Tensor, v: Tensor) -> Tensor:
    r"""\( z - 2 v (v \cdot z) / |v|^2 \): the mirror image of z, shape (..., D), in the plane through 0 of normal v."""
    square = (v * v).sum(-1, keepdim=True).clamp(min=torch.finfo(v.dtype).tiny)
    return z - 2 * v * ((v * z).sum(-1, keepdim=True) / square)


class Reflection(Map):
    r"""\( y = (I - 2 v v^T / |v|^2)\, z \), a Householder matrix: orthogonal, and its own inverse.

    Args:
        v: normal of the mirror, shape (*batch, D).
    """

    is_affine = is_orthogonal = True

    def __init__(self, v: Tensor) -> None:
        self.v = v

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The mirror image; volumes stay as they are."""
        return reflect(z, self.v), z.new_zeros(())

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The same once more."""
        return self.forward(y)


class Planar(Map):
    r"""\( y = z + u \tanh(w \cdot z + b) \), which pushes points away from the plane \( w \cdot z = -b \) or to it.

    It can be inverted where \( w \cdot u > -1 \); u is moved along w until it is:
    \( \hat u = u + (m(w \cdot u) - w \cdot u)\, w / |w|^2 \) with \( m(a) = \log(1 + e^{a + c}) - 1 \), whose c makes
    m(0) = 0, so that small u and w leave z as it is (Rezende & Mohamed have c = 0). The way back is one equation of one
    unknown, for \( w \cdot z \).

    References:
        Rezende & Mohamed, "Variational inference with normalizing flows", 2015, https://arxiv.org/abs/1505.05770,
        equations 10-12 and appendix A.1.

    Args:
        u: shape (*batch, D), any numbers.
        w: shape (*batch, D).
        b: shape (*batch).
    """

    def __init__(self, u: Tensor, w: Tensor, b: Tensor) -> None:
        along = (w * u).sum(-1)
        self.gain = above_minus_one(along)  # w . u after the correction
        square = (w * w).sum(-1).clamp(min=torch.finfo(w.dtype).tiny)
        self.u = u + ((self.gain - along) / square).unsqueeze(-1) * w
        self.w, self.b = w, b

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """y, and log|det| by the matrix determinant lemma."""
        h = torch.tanh((self.w * z).sum(-1) + self.b)
        return z + self.u * h.unsqueeze(-1), self._log_det(h)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """z, by a search along w."""
        along = solve_tanh((self.w * y).sum(-1), self.gain, torch.ones_like(self.b), self.b)
        h = torch.tanh(along + self.b)
        return y - self.u * h.unsqueeze(-1), -self._log_det(h)

    def _log_det(self, h: Tensor) -> Tensor:
        return torch.log1p(self.gain * (1 - h * h))


class Radial(Map):
    r"""\( y = z + \frac{\beta}{\alpha + r} (z - z_0) \) with \( r = |z - z_0| \): pushes points away from \( z_0 \)
    (\( \beta > 0 \)) or towards it.

    It can be inverted where \( \beta > -\alpha \). The way back is a quadratic equation for r.

    References:
        Rezende & Mohamed, "Variational inference with normalizing flows", 2015, https://arxiv.org/abs/1505.05770,
        equation 14 and appendix A.2.

    Args:
        center: \( z_0 \), shape (*batch, D).
        alpha: \( \alpha > 0 \), shape (*batch).
        ratio: \( \beta / \alpha > -1 \), shape (*batch).
    """

    def __init__(self, center: Tensor, alpha: Tensor, ratio: Tensor) -> None:
        self.center, self.alpha, self.beta = center, alpha, ratio * alpha

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """y, and log|det|: D - 1 directions are stretched by 1 + beta h, the radial one by another factor."""
        offset = z - self.center
        r = _norm(offset)
        stretch = self.beta / (self.alpha + r)
        return z + stretch.unsqueeze(-1) * offset, self._log_det(r, stretch, z.shape[-1])

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """z, from the positive root of r^2 + (alpha + beta - R) r - alpha R = 0 with R = |y - z_0|."""
        offset = y - self.center
        distance = _norm(offset)
        half = 0.5 * (distance - self.alpha - self.beta)
        root = torch.sqrt(half * half + self.alpha * distance)
        # The form without a difference of large numbers, on either side.
        r = torch.where(half >= 0, half + root, self.alpha * distance / (root - half.clamp(max=0)))
        stretch = self.beta / (self.alpha + r)
        z = self.center + offset / (1 + stretch).unsqueeze(-1)
        return z, -self._log_det(r, stretch, y.shape[-1])

    def _log_det(self, r: Tensor, stretch: Tensor, size: int) -> Tensor:
        radial = torch.log1p(stretch * self.alpha / (self.alpha + r))
        return (size - 1) * torch.log1p(stretch) + radial


def _norm(offset: Tensor) -> Tensor:
    """The length, whose gradient is finite at 0, too."""
    square = (offset * offset).sum(-1)
    return torch.sqrt(square + torch.finfo(square.dtype).tiny)


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
