"""Sticking the landing: a bound whose gradient leaves out the score of q."""

from typing import Literal

import torch
from torch import Tensor

from vaekit import bounds
from vaekit.bounds import LatentVariableModel
from vaekit.errors import ConfigError
from vaekit.objectives.base import Loss, Objective, average
from vaekit.objectives.iwae import terms_of, validation_terms_of
from vaekit.objectives.pathwise import with_pathwise_gradient


class STL(Objective):
    r"""Sticking the landing: a bound whose gradient leaves out the score of q.

    Minimises the ELBO (or the bound of `IWAE`) with \( \sum_k \tilde w_k \frac{\partial \log w_k}{\partial z_k}
    \nabla_\phi z_k \) as the gradient of q.

    Left out is the score \( \nabla_\phi \log q(z|x) \) at fixed z. For the ELBO, where every share is 1/K, its
    expectation is 0: the gradient stays right, and as q approaches p(z|x) its noise vanishes, which neither a sampled
    nor an analytic KL achieves. Use it where q can become good: small z, or flexible posteriors. Far from the optimum
    `ELBO` with its analytic KL may be less noisy.

    With `bound="iwae"` and K > 1 the score's expectation is not 0, and the gradient of q is biased (Tucker et al.
    2019); `DReG` mends that at the same cost.

    References:
        Roeder et al., "Sticking the landing", 2017, https://arxiv.org/abs/1703.09194.

    Args:
        num_samples: K, draws per row.
        bound: "elbo" or "iwae".

    Raises:
        ConfigError: for K < 1 or another bound, and on a posterior that cannot be reparameterised.

    Example:
        >>> STL(num_samples=2)
        STL(num_samples=2, bound='elbo')
    """

    can_compile = False

    def __init__(self, num_samples: int = 1, bound: Literal["elbo", "iwae"] = "elbo") -> None:
        super().__init__()
        bounds.check_arguments(num_samples)
        if bound not in ("elbo", "iwae"):
            raise ConfigError(f'bound is "elbo" or "iwae"; got {bound!r}')
        self.num_samples, self.bound = num_samples, bound
        self.selects = bound

    def extra_repr(self) -> str:
        """The arguments, for printing."""
        return f"num_samples={self.num_samples}, bound={self.bound!r}"

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on x of shape (B, *X); terms `elbo`, `log_likelihood`, `kl` (of the draws) and `iwae` per point."""
        z, draws = bounds.draw_at_leaf(model, model.posterior(x), x, self.num_samples)
        fixed, terms = draws.log_weights.detach(), terms_of(draws)
        shares = torch.softmax(fixed, 0) if self.bound == "iwae" else torch.full_like(fixed, 1 / self.num_samples)
        value = with_pathwise_gradient(terms[self.bound], z, draws, shares, shares)
        return Loss(-average(value, weight), terms)

    def validation_terms(self, model: LatentVariableModel, x: Tensor) -> dict[str, Tensor]:
        """Both bounds; the one that is minimised chooses the weights."""
        return validation_terms_of(model, x, self.num_samples)
