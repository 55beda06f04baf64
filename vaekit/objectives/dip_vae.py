"""Moments of the aggregate posterior drawn to those of independent unit variables."""

from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit import bounds
from vaekit.bounds import LatentVariableModel
from vaekit.errors import ConfigError
from vaekit.objectives.base import Loss, Objective, average
from vaekit.objectives.factorized import as_factorized


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

    def __init__(
        self, kind: Literal["i", "ii"] = "ii", off_diagonal: float = 10.0, diagonal: float | None = None
    ) -> None:
        super().__init__()
        if kind not in ("i", "ii"):
            raise ConfigError(f'kind is "i" or "ii"; got {kind!r}')
        if not off_diagonal >= 0 or (diagonal is not None and not diagonal >= 0):
            raise ConfigError(f"off_diagonal and diagonal are not negative; got {off_diagonal} and {diagonal}")
        self.kind, self.off_diagonal, self.diagonal = kind, off_diagonal, diagonal

    def extra_repr(self) -> str:
        """The arguments, for printing."""
        return f"kind={self.kind!r}, off_diagonal={self.off_diagonal}, diagonal={self.diagonal}"

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
        centered = means - average(means, weight)
        weighted = centered if weight is None else centered * weight.to(means).unsqueeze(1)
        covariance = weighted.T @ centered / (len(means) if weight is None else weight.sum())
        if self.kind == "i":
            return covariance
        variances = as_factorized(q, "DIPVAE of the second kind").variance
        return covariance + torch.diag(average(variances.flatten(1), weight))
