"""Tempered leapfrog steps as one invertible map of (z, momentum)."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from vaekit.distributions.maps import Map


class TemperedLeapfrog(Map):
    r"""K leapfrog steps of \( (z, \rho) \), after each of which the momentum is cooled.

    \[ \tilde\rho = \rho + \tfrac{\epsilon}{2} g(z), \quad z' = z + \epsilon \tilde\rho, \quad
    \rho' = \alpha_k (\tilde\rho + \tfrac{\epsilon}{2} g(z')), \quad \alpha_k = \sqrt{\beta_{k-1} / \beta_k} \]
    Each line shears or scales, so that \( \log|\det| = D \sum_k \log \alpha_k = \tfrac{D}{2} \log \beta_0 \) for any g,
    and each can be undone. The inverse temperatures rise from \( \beta_0 \) to \( \beta_K = 1 \), quadratically in the
    scale of the momentum: \( \beta_k^{-1/2} = \beta_0^{-1/2} + (1 - \beta_0^{-1/2}) k^2 / K^2 \).

    References:
        Neal, "MCMC using Hamiltonian dynamics", 2011, https://arxiv.org/abs/1206.1901, section 5.5.7.
        Caterini et al., "Hamiltonian variational auto-encoder", 2018, https://arxiv.org/abs/1805.11328, section 3.

    Args:
        force: g, the gradient in z of the log-density that the steps follow, (..., *Z) to (..., *Z).
        step_sizes: \( \epsilon \), shape Z.
        beta_0: shape (), in (0, 1].
        num_steps: K.
    """

    def __init__(self, force: Callable[[Tensor], Tensor], step_sizes: Tensor, beta_0: Tensor, num_steps: int) -> None:
        self.force, self.step_sizes, self.beta_0, self.num_steps = force, step_sizes, beta_0, num_steps
        self._shape = (2, *step_sizes.shape)
        self._place = -step_sizes.ndim - 1

    def forward(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """(z_0, rho_0), flat in the last dimension, to (z_K, rho_K), and log|det|, shape ()."""
        z, momentum = self._parts(v)
        half, force = self.step_sizes / 2, self.force(z)
        for cooling in self._coolings():
            momentum = momentum + half * force
            z = z + self.step_sizes * momentum
            force = self.force(z)  # that of the next step, too
            momentum = cooling * (momentum + half * force)
        return self._flat(z, momentum), self._log_det()

    def inverse(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """(z_K, rho_K), flat in the last dimension, to (z_0, rho_0), and log|det| of the way back, shape ()."""
        z, momentum = self._parts(v)
        half, force = self.step_sizes / 2, self.force(z)
        for cooling in reversed(self._coolings()):
            momentum = momentum / cooling - half * force
            z = z - self.step_sizes * momentum
            force = self.force(z)
            momentum = momentum - half * force
        return self._flat(z, momentum), -self._log_det()

    def _parts(self, v: Tensor) -> tuple[Tensor, ...]:
        """z and momentum, shape (..., *Z) each."""
        return v.unflatten(-1, self._shape).unbind(self._place)

    def _flat(self, z: Tensor, momentum: Tensor) -> Tensor:
        return torch.stack([z, momentum], self._place).flatten(self._place)

    def _coolings(self) -> list[Tensor]:
        r"""\( \alpha_1, \dots, \alpha_K \), each of shape ()."""
        hot = self.beta_0.rsqrt()
        scales = [hot + (1 - hot) * (k / self.num_steps) ** 2 for k in range(self.num_steps + 1)]
        return [after / before for before, after in pairwise(scales)]

    def _log_det(self) -> Tensor:
        return 0.5 * self.step_sizes.numel() * self.beta_0.log()
