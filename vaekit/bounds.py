r"""Bounds on log p(x): the protocol of a latent-variable model, importance weights, ELBO and IWAE.

\( \log p(x) = \mathrm{ELBO} + KL(q(z|x), p(z|x)) \) (equations 13.3, 13.4 and 13.12 of chapter 13 of "Neural Networks
and Deep Learning"), and with importance weights \( w_k = p(x|z_k) p(z_k) / q(z_k|x) \), \( z_k \sim q \),
\[ E[\log w] \le E[\log \tfrac1K \sum_k w_k] \le \log p(x). \]
Training and evaluation share this file; nothing else computes an importance weight. Everything is in model space and in
nats; x has shape (B, *X), z has shape (K, B, *Z), weights have shape (K, B).

References:
    Kingma & Welling, "Auto-encoding variational Bayes", 2014, https://arxiv.org/abs/1312.6114.
    Burda et al., "Importance weighted autoencoders", 2016, https://arxiv.org/abs/1509.00519.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit.distributions.support import log_prob_at
from vaekit.errors import ConfigError
from vaekit.kl import kl_divergence
from vaekit.shapes import check_count

KLMode = Literal["auto", "analytic", "sampled"]

METHODS = ("posterior", "prior", "likelihood")
"""What a model has that can be asked for log p(x) and for bounds on it."""

__all__ = [
    "METHODS",
    "Draw",
    "LatentVariableModel",
    "draw",
    "elbo",
    "elbo_terms",
    "iwae",
    "log_mean_exp",
    "log_weights",
]


@runtime_checkable
class LatentVariableModel(Protocol):
    """The whole interface that objectives, evaluation, plots and exports use. Any object with these methods works."""

    def posterior(self, x: Tensor) -> Distribution:
        """q(z|x) for x of shape (B, *X): batch shape (B,), event shape Z."""
        ...

    def prior(self) -> Distribution:
        """p(z): batch shape () (or (B,) when conditioned), event shape Z."""
        ...

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x|z) for z of shape (..., *Z): batch shape (...), event shape X."""
        ...


class Draw(NamedTuple):
    """K draws from q(z|x) per point and the three log-densities there."""

    z: Tensor
    """Shape (K, B, *Z)."""
    log_likelihood: Tensor
    """log p(x|z), shape (K, B)."""
    log_prior: Tensor
    """log p(z), shape (K, B)."""
    log_posterior: Tensor
    """log q(z|x), shape (K, B)."""

    @property
    def log_weights(self) -> Tensor:
        """log w = log p(x|z) + log p(z) - log q(z|x), shape (K, B)."""
        return self.log_likelihood + self.log_prior - self.log_posterior


def check_arguments(num_samples: int, kl: str = "auto") -> None:
    """Raise a `ConfigError` unless `num_samples` is a count of at least one draw and `kl` is a known word."""
    check_count(num_samples, "num_samples")
    if kl not in ("auto", "analytic", "sampled"):
        raise ConfigError(f'kl is "auto", "analytic" or "sampled"; got {kl!r}')


def _sample(q: Distribution, num_samples: int) -> Tensor:
    """Reparameterised where the distribution can be (13.25), plain draws elsewhere."""
    shape = torch.Size((num_samples,))
    return q.rsample(shape) if q.has_rsample else q.sample(shape)


def log_likelihood_at(model: LatentVariableModel, z: Tensor, x: Tensor) -> Tensor:
    """log p(x|z) for z of shape (..., B, *Z) and x of shape (B, *X): shape (..., B), in nats.

    Where the bounds of the support move with z, an x outside them gives -inf, whether or not torch would raise. So does
    NaN where z is NaN, whether or not the model would raise.
    """
    try:
        return log_prob_at(model.likelihood(z), x)
    except ValueError:
        event_ndims = len(model.prior().event_shape)
        return _despite_nan(lambda v: log_prob_at(model.likelihood(v), x), z, event_ndims)


def log_prob_of(p: Distribution, z: Tensor) -> Tensor:
    """log p(z) for z of shape (..., *Z): shape (...), in nats; NaN where z is, whether or not torch would raise."""
    try:
        result: Tensor = p.log_prob(z)
        return result
    except ValueError:
        return _despite_nan(p.log_prob, z, len(p.event_shape))


def _despite_nan(ask: Callable[[Tensor], Tensor], z: Tensor, event_ndims: int) -> Tensor:
    """What is asked of z, and NaN where z is: torch refuses all of z for the sake of one. To be called in `except`."""
    lead = z.shape[: z.ndim - event_ndims]
    values = z.reshape(*lead, -1)
    is_lost = values.isnan().any(-1)
    if not bool(is_lost.any()):
        raise
    if bool(is_lost.all()):
        return values.new_full(lead, torch.nan)
    filled = torch.where(is_lost.unsqueeze(-1), values[~is_lost][0], values).reshape(z.shape)
    return torch.where(is_lost, torch.nan, ask(filled))


def draw_from(model: LatentVariableModel, q: Distribution, x: Tensor, num_samples: int) -> Draw:
    """`draw` with the posterior of x already at hand."""
    z = _sample(q, num_samples)
    return Draw(z, log_likelihood_at(model, z, x), log_prob_of(model.prior(), z), q.log_prob(z))


def draw_at_leaf(model: LatentVariableModel, q: Distribution, x: Tensor, num_samples: int) -> tuple[Tensor, Draw]:
    """Reparameterised draws, and the three log-densities at a copy of them that is cut off from q.

    Through the copy, the `z` of the `Draw`, derivatives with respect to z alone are at hand: the density of q then
    gives no path to the parameters that z itself depends on.

    Returns:
        The draws with their gradients, shape (K, B, *Z), and the `Draw` at the copy.

    Raises:
        ConfigError: if q cannot be reparameterised.
    """
    check_arguments(num_samples)
    if not q.has_rsample:
        raise ConfigError(
            f"a gradient along the path of z needs a posterior that can be reparameterised; {q} cannot. "
            "ELBO and IWAE take the score function there."
        )
    z = _sample(q, num_samples)
    leaf = z.detach().requires_grad_()
    return z, Draw(leaf, log_likelihood_at(model, leaf, x), model.prior().log_prob(leaf), q.log_prob(leaf))


def draw(model: LatentVariableModel, x: Tensor, num_samples: int) -> Draw:
    """K draws from q(z|x) for each row of x, with gradients where q can be reparameterised.

    Args:
        model: the model.
        x: data in model space, shape (B, *X).
        num_samples: K, honoured exactly.

    Returns:
        z of shape (K, B, *Z) and three log-densities of shape (K, B), in nats.

    Raises:
        ConfigError: if K < 1.
    """
    check_arguments(num_samples)
    return draw_from(model, model.posterior(x), x, num_samples)


def log_weights(model: LatentVariableModel, x: Tensor, num_samples: int) -> Tensor:
    """Importance weights log w of K draws, shape (K, B), in nats. See `draw`."""
    return draw(model, x, num_samples).log_weights


def log_mean_exp(values: Tensor) -> Tensor:
    """log of the mean of exp(values) over the first dimension: (K, B) to (B,)."""
    return torch.logsumexp(values, 0) - math.log(len(values))


def _mean(values: Tensor) -> Tensor:
    """The mean over draws, (K, B) to (B,); of a single draw by a view, whose gradient costs nothing."""
    return values.squeeze(0) if len(values) == 1 else values.mean(0)


def _leave_one_out(total: Tensor, part: Tensor) -> Tensor:
    """The mean of the K - 1 other values, per value."""
    return (total - part) / (len(part) - 1)


def _with_score_term(values: Tensor, log_posterior: Tensor, baseline: Tensor | None) -> Tensor:
    """The mean over K, whose gradient is right although z carries none: value + score term - its detached copy.

    The score term is (f - b) log q(z|x), with f held fixed (Williams 1992). The baseline b of a draw is the mean of the
    other draws, which are independent of it; for one draw it is `baseline`, or 0.
    """
    f = values.detach()
    if len(f) > 1:
        b = _leave_one_out(f.sum(0), f)
    else:
        b = torch.zeros_like(f) if baseline is None else baseline
    score = (f - b) * log_posterior
    return (values + score - score.detach()).mean(0)


def closed_form_kl(q: Distribution, prior: Distribution, kl: KLMode) -> Tensor | None:
    """KL(q, p) in closed form, shape (B,), or None where the draws have to give it; see `elbo_terms` for `kl`.

    Raises:
        ConfigError: if "analytic" is asked for and there is no closed form.
    """
    divergence = None if kl == "sampled" else kl_divergence(q, prior)
    if divergence is None and kl == "analytic":
        raise ConfigError(f'no closed form is known for KL({q}, {prior}); use kl="sampled" or kl="auto"')
    return divergence


def elbo_terms(
    model: LatentVariableModel,
    x: Tensor,
    num_samples: int = 1,
    kl: KLMode = "auto",
    *,
    baseline: tuple[Tensor, Tensor] | None = None,
    posterior: Distribution | None = None,
) -> tuple[Tensor, Tensor]:
    r"""The two terms of the ELBO, \( E_q[\log p(x|z)] \) and \( KL(q(z|x), p(z)) \) (equations 13.21-13.22, 13.27).

    Gradients are exact in expectation for every posterior: by reparameterisation, or by the score function where
    `has_rsample` is False.

    Args:
        model: the model.
        x: data in model space, shape (B, *X).
        num_samples: M, draws per row.
        kl: "analytic" needs a closed form; "sampled" averages log q - log p over the draws and is the one whose ELBO
            has no variance at the exact posterior; "auto" takes the closed form where there is one.
        baseline: for one draw without reparameterisation, the running means of the two terms, shape ().
        posterior: q(z|x) where it is at hand already.

    Returns:
        (log-likelihood, KL), each of shape (B,), in nats.

    Raises:
        ConfigError: if M < 1, or "analytic" is asked for and there is no closed form.
    """
    check_arguments(num_samples, kl)
    q, prior = model.posterior(x) if posterior is None else posterior, model.prior()
    divergence = closed_form_kl(q, prior, kl)
    z = _sample(q, num_samples)
    log_likelihood = log_likelihood_at(model, z, x)
    if divergence is not None and q.has_rsample:
        return _mean(log_likelihood), divergence
    log_posterior = q.log_prob(z)
    sampled = None if divergence is not None else log_posterior - prior.log_prob(z)
    if q.has_rsample:
        assert sampled is not None
        return _mean(log_likelihood), _mean(sampled)
    baselines = (None, None) if baseline is None else baseline
    expected = _with_score_term(log_likelihood, log_posterior, baselines[0])
    if sampled is not None:
        divergence = _with_score_term(sampled, log_posterior, baselines[1])
    assert divergence is not None
    return expected, divergence


def elbo(model: LatentVariableModel, x: Tensor, num_samples: int = 1, kl: KLMode = "auto") -> Tensor:
    """The evidence lower bound per row, shape (B,), in nats: the difference of `elbo_terms`."""
    log_likelihood, divergence = elbo_terms(model, x, num_samples, kl)
    return log_likelihood - divergence


def elbo_from_draw(draws: Draw, *, reparameterized: bool) -> Tensor:
    """The mean of log w per row, shape (B,): the ELBO with a sampled KL, with a score term where z has no gradient."""
    if reparameterized:
        return _mean(draws.log_weights)
    return _with_score_term(draws.log_weights, draws.log_posterior, None)


def renyi_from_draw(draws: Draw, alpha: float, *, reparameterized: bool) -> Tensor:
    r"""\( \frac{1}{1-\alpha} \log \frac1K \sum_k w_k^{1-\alpha} \) per row, shape (B,); the mean of log w at alpha = 1.

    Where z carries no gradient, a score term is added. The baseline of draw k is the bound of the other K - 1 draws
    (after Mnih & Rezende 2016, which takes their geometric mean for w_k instead); any function of the others leaves the
    gradient unbiased.
    """

    def bound(weights: Tensor) -> Tensor:
        return weights.mean(0) if alpha == 1 else log_mean_exp((1 - alpha) * weights) / (1 - alpha)

    value = bound(draws.log_weights)
    if reparameterized:
        return value
    fixed = draws.log_weights.detach()
    signal = bound(fixed).expand_as(fixed)
    if len(fixed) > 1:
        others = torch.stack([bound(fixed[torch.arange(len(fixed)) != k]) for k in range(len(fixed))])
        signal = signal - others
    score = (signal * draws.log_posterior).sum(0)
    return value + score - score.detach()


def iwae_from_draw(draws: Draw, *, reparameterized: bool) -> Tensor:
    r"""\( \log \frac1K \sum_k w_k \) per row, shape (B,), with a score term where z carries no gradient."""
    return renyi_from_draw(draws, 0.0, reparameterized=reparameterized)


def iwae(model: LatentVariableModel, x: Tensor, num_samples: int) -> Tensor:
    r"""The importance-weighted bound \( L_K = \log \frac1K \sum_k w_k \) per row (Burda et al. 2016, equation 8).

    Args:
        model: the model.
        x: data in model space, shape (B, *X).
        num_samples: K. K = 1 is the ELBO with a sampled KL; larger K are tighter in expectation.

    Returns:
        Shape (B,), in nats.

    Raises:
        ConfigError: if K < 1.
    """
    check_arguments(num_samples)
    q = model.posterior(x)
    return iwae_from_draw(draw_from(model, q, x, num_samples), reparameterized=q.has_rsample)
