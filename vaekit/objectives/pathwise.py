"""Objectives whose gradient takes the path through z alone."""

from typing import Literal

import torch
from torch import Tensor

from vaekit import bounds
from vaekit.bounds import Draw, LatentVariableModel
from vaekit.errors import ConfigError
from vaekit.objectives.base import Loss, Objective, average, terms_of, validation_terms_of


def with_pathwise_gradient(value: Tensor, z: Tensor, draws: Draw, path: Tensor, generative: Tensor) -> Tensor:
    r"""`value` with another gradient: \( \sum_k a_k \frac{\partial \log w_k}{\partial z_k} \nabla z_k + b_k \nabla \log
    p(x, z_k) \).

    The derivative of log w with respect to z is taken at a leaf, so that nothing needs to be known of the model; the
    surrogate \( g_k \cdot z_k \) with g held fixed then carries it to the parameters of q.

    Args:
        value: the bound, shape (B,); only its numbers are used.
        z: the draws with their gradients, shape (K, B, *Z).
        draws: the log-densities at a copy of z, see `bounds.draw_at_leaf`.
        path: the factors a, shape (K, B), without gradients.
        generative: the factors b, shape (K, B), without gradients.

    Returns:
        Shape (B,).
    """
    if not draws.log_weights.requires_grad or not torch.is_grad_enabled():
        return value.detach()
    (slope,) = torch.autograd.grad(draws.log_weights.sum(), draws.z, retain_graph=True)
    moved = (slope * z).reshape(*path.shape, -1).sum(-1)
    surrogate = (path * moved + generative * (draws.log_likelihood + draws.log_prior)).sum(0)
    return value.detach() + (surrogate - surrogate.detach())


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
