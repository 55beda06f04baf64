"""A KL held at a capacity that grows while training."""

from collections.abc import Callable

import torch
from torch import Tensor

from vaekit import bounds
from vaekit.bounds import KLMode, LatentVariableModel
from vaekit.errors import ConfigError
from vaekit.objectives.base import Loss, Objective, average


class Capacity(Objective):
    r"""A KL held at a capacity that grows while training.

    Minimises \( -\frac1B \sum_b E_q[\log p(x_b|z)] + \gamma\, \lvert \frac1B \sum_b KL(q(z|x_b), p(z)) - C \rvert
    \).

    The rate is held at C nats; with a schedule such as `capacity=schedules.Linear(0, 25, 100_000)` the code opens
    slowly, and factors of variation enter it in the order of what they explain. Use it for disentangled codes at a rate
    that one chooses. Not for log p(x): once C exceeds what pays, the KL is bought at a loss. The reported `elbo`
    counts the KL in full.

    References:
        Burgess et al., "Understanding disentangling in beta-VAE", 2018, https://arxiv.org/abs/1804.03599, equation 8.

    Args:
        capacity: C in nats, a number or a schedule of the update count.
        gamma: weight of the distance from C.
        num_samples: draws of z per row.
        kl: "auto", "analytic" or "sampled"; see `bounds.elbo_terms`.

    Raises:
        ConfigError: for a negative capacity or gamma, or less than one draw.

    Example:
        >>> Capacity(capacity=10.0, gamma=100.0)
        Capacity(capacity=10.0, gamma=100.0, num_samples=1, kl='auto')
    """

    def __init__(
        self,
        capacity: float | Callable[[Tensor], Tensor] = 25.0,
        gamma: float = 1000.0,
        num_samples: int = 1,
        kl: KLMode = "auto",
    ) -> None:
        super().__init__()
        bounds.check_arguments(num_samples, kl)
        if not callable(capacity) and not capacity >= 0:
            raise ConfigError(f"capacity is not negative, for no KL is; got {capacity}")
        if not gamma >= 0:
            raise ConfigError(f"gamma is not negative; got {gamma}")
        self.capacity, self.gamma, self.num_samples, self.kl = capacity, gamma, num_samples, kl

    def extra_repr(self) -> str:
        """The arguments, for printing."""
        return f"capacity={self.capacity}, gamma={self.gamma}, num_samples={self.num_samples}, kl={self.kl!r}"

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on x of shape (B, *X); terms `elbo`, `log_likelihood`, `kl` per point, and `capacity`."""
        log_likelihood, kl = bounds.elbo_terms(model, x, self.num_samples, self.kl)
        capacity = torch.as_tensor(self.capacity(self.step) if callable(self.capacity) else self.capacity).to(kl)
        value = self.gamma * (average(kl, weight) - capacity).abs() - average(log_likelihood, weight)
        terms = {"elbo": log_likelihood - kl, "log_likelihood": log_likelihood, "kl": kl, "capacity": capacity}
        return Loss(value, terms)
