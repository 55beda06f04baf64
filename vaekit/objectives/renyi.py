"""The variational Renyi bound."""

import math

from torch import Tensor

from vaekit import bounds
from vaekit.bounds import LatentVariableModel
from vaekit.errors import ConfigError
from vaekit.objectives.base import Loss, Objective, average
from vaekit.objectives.iwae import terms_of, validation_terms_of


class Renyi(Objective):
    r"""The variational Renyi bound.

    Minimises \( -\frac{1}{1-\alpha} \log \frac1K \sum_k w_k^{1-\alpha} \).

    alpha = 0 is `IWAE`, alpha = 1 the `ELBO` with a sampled KL. For the same draws the value falls with alpha, so that
    for every alpha >= 0 it bounds log p(x) from below in expectation. For alpha < 0 the exact quantity lies above
    log p(x), but its estimate by K draws need not: that bounds nothing. Small alpha lets q cover the mass of p(z|x),
    large alpha draws it to one mode. Use it to move between the ELBO and `IWAE`; where |1 - alpha| is large, few draws
    decide and the gradient is noisy.

    References:
        Li & Turner, "Renyi divergence variational inference", 2016, https://arxiv.org/abs/1602.02311.

    Args:
        alpha: the order.
        num_samples: K.

    Raises:
        ConfigError: for K < 1 or an order that is not finite.

    Example:
        >>> Renyi(alpha=0.5)
        Renyi(alpha=0.5, num_samples=5)
    """

    selects = "iwae"
    log_densities = Objective.log_densities | {"renyi"}

    def __init__(self, alpha: float = 0.5, num_samples: int = 5) -> None:
        super().__init__()
        bounds.check_arguments(num_samples)
        if not math.isfinite(alpha):
            raise ConfigError(f"alpha is a finite number; got {alpha}")
        self.alpha, self.num_samples = alpha, num_samples

    def extra_repr(self) -> str:
        """The arguments, for printing."""
        return f"alpha={self.alpha}, num_samples={self.num_samples}"

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on x of shape (B, *X); terms `renyi`, `iwae`, and the ELBO with its two parts."""
        q = model.posterior(x)
        draws = bounds.draw_from(model, q, x, self.num_samples)
        bound = bounds.renyi_from_draw(draws, self.alpha, reparameterized=q.has_rsample)
        return Loss(-average(bound, weight), {**terms_of(draws), "renyi": bound})

    def validation_terms(self, model: LatentVariableModel, x: Tensor) -> dict[str, Tensor]:
        """The importance-weighted bound chooses the weights, whatever alpha is."""
        return validation_terms_of(model, x, self.num_samples)
