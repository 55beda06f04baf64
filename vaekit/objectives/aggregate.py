"""Objectives that draw the aggregate posterior to the prior: its moments, or a distance."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit import bounds
from vaekit.bounds import LatentVariableModel
from vaekit.engine import world
from vaekit.errors import ConfigError
from vaekit.kernels import gaussian_kernel, unbiased_mmd, weighted_mmd
from vaekit.objectives.base import Loss, Objective, as_factorized, average, average_of_all


class DIPVAE(Objective):
    r"""Moments of the aggregate posterior drawn to those of independent unit variables.

    Minimises \( -\mathrm{ELBO} + \lambda_{od} \sum_{i \ne j} C_{ij}^2 + \lambda_d \sum_i (C_{ii} - 1)^2 \).

    C is, over a batch, the covariance of the means E[z|x] ("i"), or that of z itself under the aggregate posterior,
    \( E[\mathrm{Var}(z|x)] + \mathrm{Cov}(E[z|x]) \) ("ii"). The diagonal draws the variances to 1: use it with a
    standard normal prior. "i" suits codes of which every dimension is used; where some are not, their means have
    variance 0, and "ii" is the better choice. Cheaper and steadier than a total correlation, but it sees linear
    dependence alone. Use batches much larger than D, or C is mostly noise.

    References:
        Kumar et al., "Variational inference of disentangled latent concepts from unlabeled observations", 2018,
        https://arxiv.org/abs/1711.00848, equations 6 and 7.

    Args:
        kind: "i" or "ii".
        off_diagonal: weight of the covariances.
        diagonal: weight of the variances' distance from 1; the paper takes ten times `off_diagonal` for "i" and as
            much for "ii", which is what None does.

    Raises:
        ConfigError: for another kind, a negative weight, a posterior without a mean, or for "ii" one that does not
            factorise.

    Example:
        >>> DIPVAE("i", off_diagonal=5.0)
        DIPVAE(kind='i', off_diagonal=5.0, diagonal=None)
    """

    needs_whole_batch = True

    def __init__(
        self, kind: Literal["i", "ii"] = "ii", off_diagonal: float = 10.0, diagonal: float | None = None
    ) -> None:
        super().__init__()
        if kind not in ("i", "ii"):
            raise ConfigError(f'kind is "i" or "ii"; got {kind!r}')
        if not off_diagonal >= 0 or (diagonal is not None and not diagonal >= 0):
            raise ConfigError(f"off_diagonal and diagonal are not negative; got {off_diagonal} and {diagonal}")
        self.kind, self.off_diagonal, self.diagonal = kind, off_diagonal, diagonal

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on x of shape (B, *X); the terms of the ELBO, and `off_diagonal` and `diagonal`, the two sums."""
        q = model.posterior(x)
        log_likelihood, kl = bounds.elbo_terms(model, x, posterior=q)
        covariance = self._covariance(q, weight)
        variances = covariance.diagonal()
        off_diagonal = covariance.square().sum() - variances.square().sum()
        diagonal = (variances - 1).square().sum()
        factor = self.diagonal if self.diagonal is not None else self.off_diagonal * (10 if self.kind == "i" else 1)
        value = average(kl - log_likelihood, weight) + self.off_diagonal * off_diagonal + factor * diagonal
        terms = {"elbo": log_likelihood - kl, "log_likelihood": log_likelihood, "kl": kl}
        return Loss(value, {**terms, "off_diagonal": off_diagonal, "diagonal": diagonal})

    def _covariance(self, q: Distribution, weight: Tensor | None) -> Tensor:
        """C of shape (D, D)."""
        try:
            means = q.mean.flatten(1)
        except NotImplementedError as error:
            raise ConfigError(f"DIPVAE needs a posterior with a mean; {type(q).__name__} has none") from error
        weights = None if weight is None else world.gather(weight.to(means))
        means = world.gather(means)
        centered = means - average(means, weights)
        weighted = centered if weights is None else centered * weights.unsqueeze(1)
        total = means.new_tensor(len(means)) if weights is None else weights.sum()
        covariance = weighted.T @ centered / total.clamp(min=torch.finfo(means.dtype).tiny)
        if self.kind == "i":
            return covariance
        variances = as_factorized(q, "DIPVAE of the second kind").variance
        return covariance + torch.diag(average_of_all(variances.flatten(1), weight))


class InfoVAE(Objective):
    r"""An ELBO whose KL is partly replaced by the distance of the aggregate posterior from the prior.

    Minimises \( -E_q[\log p(x|z)] + (1-\alpha)\, KL(q(z|x), p(z)) + (\alpha+\lambda-1)\, \mathrm{MMD}^2(q(z), p(z))
    \).

    The KL holds each q(z|x) near the prior and so costs information about x; the discrepancy asks it of the aggregate
    posterior q(z) alone. alpha = 0, lambda = 1 is the ELBO; alpha = 1 has no KL at all (an "MMD-VAE"). Use it where
    codes collapse, or must fill the prior well. The MMD is the unbiased estimate between one draw from q per row and as
    many from the prior, with a Gaussian kernel; it is small (at most 2), hence the large lambda, and sees little in
    many dimensions.

    References:
        Zhao et al., "InfoVAE: balancing learning and inference in variational autoencoders", 2019,
        https://arxiv.org/abs/1706.02262.

    Args:
        alpha: share of the KL that is left out, at most 1.
        weight: lambda, at least 1 - alpha.
        bandwidth: h of the kernel; None takes the root mean squared distance of two draws from a standard normal,
            \( \sqrt{2D} \).

    Raises:
        ConfigError: for alpha above 1, a lambda below 1 - alpha, a bandwidth that is not positive, a posterior that
            cannot be reparameterised, a batch of one row, or a learned prior that nothing would move (alpha = 1, and
            no reparameterised draws).

    Example:
        >>> InfoVAE(alpha=1.0, weight=100.0)
        InfoVAE(alpha=1.0, weight=100.0, bandwidth=None)
    """

    needs_whole_batch = True

    def __init__(self, alpha: float = 0.5, weight: float = 100.0, bandwidth: float | None = None) -> None:
        super().__init__()
        if not alpha <= 1:
            raise ConfigError(f"alpha is at most 1, or the KL would be rewarded; got {alpha}")
        if not weight >= 1 - alpha:
            raise ConfigError(f"weight is at least 1 - alpha, or the discrepancy would be rewarded; got {weight}")
        if bandwidth is not None and not bandwidth > 0:
            raise ConfigError(f"bandwidth is positive; got {bandwidth}")
        self.alpha, self.weight, self.bandwidth = alpha, weight, bandwidth

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on x of shape (B, *X); the terms of the ELBO, and `mmd` of shape ()."""
        if world.size() == 1 and len(x) < 2:
            raise ConfigError(f"the discrepancy from the prior needs batches of at least 2 rows; got {len(x)}")
        q, prior = model.posterior(x), model.prior()
        if not q.has_rsample:
            raise ConfigError(f"the gradient of InfoVAE needs a posterior that can be reparameterised; {q} cannot")
        z = q.rsample()
        log_likelihood = bounds.log_likelihood_at(model, z, x)
        closed = bounds.closed_form_kl(q, prior, "auto")
        kl = q.log_prob(z) - prior.log_prob(z) if closed is None else closed
        discrepancy = self._mmd(z, self._from_prior(prior, q.batch_shape[len(prior.batch_shape) :]), weight)
        value = average((1 - self.alpha) * kl - log_likelihood, weight) + (self.alpha + self.weight - 1) * discrepancy
        terms = {"elbo": log_likelihood - kl, "log_likelihood": log_likelihood, "kl": kl, "mmd": discrepancy}
        return Loss(value, terms)

    def _from_prior(self, prior: Distribution, shape: torch.Size) -> Tensor:
        """Draws from the prior, with their gradients where it is learned and has a path for them."""
        if prior.has_rsample:
            return prior.rsample(shape)
        draws = prior.sample(shape)
        if self.alpha == 1 and prior.log_prob(draws).requires_grad:
            raise ConfigError(
                "InfoVAE at alpha = 1 has no KL, so that nothing moves a learned prior that cannot be reparameterised; "
                f"{prior} cannot. Use alpha < 1, or a fixed prior."
            )
        return draws

    def _mmd(self, z: Tensor, from_prior: Tensor, weight: Tensor | None) -> Tensor:
        """The squared discrepancy of two samples of shape (B, *Z), shape ()."""
        z, from_prior = world.gather(z), world.gather(from_prior)
        weight = None if weight is None else world.gather(weight)
        pooled = torch.cat([z, from_prior]).flatten(1)
        bandwidth = self.bandwidth or math.sqrt(2 * pooled.shape[1])
        squared = (pooled.unsqueeze(1) - pooled).square().sum(-1)
        kernel = gaussian_kernel(squared, bandwidth)
        if weight is not None:
            return weighted_mmd(kernel, weight.to(z))
        in_first = torch.cat([pooled.new_ones(len(z), 1), pooled.new_zeros(len(z), 1)])
        return unbiased_mmd(kernel, in_first).squeeze(0)
