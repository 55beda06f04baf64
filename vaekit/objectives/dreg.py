"""The importance-weighted bound with a doubly reparameterised gradient."""

import torch
from torch import Tensor

from vaekit import bounds
from vaekit.bounds import LatentVariableModel
from vaekit.objectives.base import Loss, Objective, average
from vaekit.objectives.iwae import terms_of, validation_terms_of
from vaekit.objectives.pathwise import with_pathwise_gradient


class DReG(Objective):
    r"""The importance-weighted bound with a doubly reparameterised gradient.

    Minimises the bound of `IWAE`; the gradient of q is \( \sum_k \tilde w_k^2 \frac{\partial \log w_k}{\partial
    z_k} \nabla_\phi z_k \).

    \( \tilde w_k = w_k / \sum_j w_j \). The expectation is that of the plain gradient, and the noise falls as
    \( K^{-3/2} \) instead of \( K^{-1/2} \), so that the encoder learns better, not worse, with more draws; at
    q = p(z|x) there is no noise at all. The gradient of p(x, z) is that of `IWAE`. It costs one more backward pass
    through the decoder. Use it instead of `IWAE` wherever q can be reparameterised, most of all for large K; for K = 1
    it is `STL`.

    References:
        Tucker et al., "Doubly reparameterized gradient estimators for Monte Carlo objectives", 2019,
        https://arxiv.org/abs/1810.04152.

    Args:
        num_samples: K.

    Raises:
        ConfigError: for K < 1, and on a posterior that cannot be reparameterised.

    Example:
        >>> import torch, vaekit as vk
        >>> model, _ = vk.presets.vae((4,), latent_dim=2, likelihood="normal")
        >>> sorted(DReG(8)(model, torch.zeros(3, 4)).terms)
        ['elbo', 'iwae', 'kl', 'log_likelihood']
    """

    selects = "iwae"
    can_compile = False

    def __init__(self, num_samples: int = 5) -> None:
        super().__init__()
        bounds.check_arguments(num_samples)
        self.num_samples = num_samples

    def extra_repr(self) -> str:
        """The arguments, for printing."""
        return f"num_samples={self.num_samples}"

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on x of shape (B, *X); terms `iwae`, and the ELBO of the same draws with its two parts."""
        z, draws = bounds.draw_at_leaf(model, model.posterior(x), x, self.num_samples)
        shares = torch.softmax(draws.log_weights.detach(), 0)
        terms = terms_of(draws)
        bound = with_pathwise_gradient(terms["iwae"], z, draws, shares * shares, shares)
        return Loss(-average(bound, weight), terms)

    def validation_terms(self, model: LatentVariableModel, x: Tensor) -> dict[str, Tensor]:
        """The bound with the K of training chooses the weights."""
        return validation_terms_of(model, x, self.num_samples)
