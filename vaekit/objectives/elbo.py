"""The evidence lower bound."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit import bounds
from vaekit.bounds import KLMode, LatentVariableModel
from vaekit.errors import ConfigError
from vaekit.kl import kl_per_dimension
from vaekit.objectives.base import Loss, Objective, average


class ELBO(Objective):
    r"""The evidence lower bound.

    Minimises \( -\frac1B \sum_b E_q[\log p(x_b|z)] - \beta\, KL(q(z|x_b), p(z)) \) with M draws of z per point.

    Equations 13.21, 13.22 and 13.27; beta = 1 is the bound on log p(x), another beta trades rate for distortion and its
    value bounds nothing (the reported term `elbo` is the bound at beta = 1 all the same). KL warm-up is a schedule:
    `beta=schedules.Linear(0, 1, 10_000)`.

    Use it first; where log p(x) matters more than time, `IWAE` and `DReG` follow a tighter bound.

    With `free_bits` the KL term becomes \( \sum_j \max(\lambda, \frac1B \sum_b KL_j(x_b)) \): no dimension gains from a
    KL below lambda nats, so none collapses early.

    References:
        Kingma & Welling, "Auto-encoding variational Bayes", 2014, https://arxiv.org/abs/1312.6114, equation 10.
        Higgins et al., "beta-VAE", 2017, https://openreview.net/forum?id=Sy2fzU9gl (`beta`).
        Kingma et al., "Improved variational inference with inverse autoregressive flow", 2016,
        https://arxiv.org/abs/1606.04934, appendix C.8 (`free_bits`).

    Args:
        num_samples: M, draws of z per point.
        beta: weight of the KL, a number or a schedule of the update count.
        kl: "auto", "analytic" or "sampled"; see `bounds.elbo_terms`.
        free_bits: lambda in nats per latent dimension; None or 0 leaves the KL as it is.

    Raises:
        ConfigError: for M < 1, a negative beta or negative free bits.

    Example:
        >>> ELBO(beta=4.0)
        ELBO(num_samples=1, beta=4.0, kl='auto', free_bits=None)
    """

    def __init__(
        self,
        num_samples: int = 1,
        beta: float | Callable[[Tensor], Tensor] = 1.0,
        kl: KLMode = "auto",
        free_bits: float | None = None,
    ) -> None:
        super().__init__()
        bounds.check_arguments(num_samples, kl)
        if not callable(beta) and beta < 0:
            raise ConfigError(f"beta is not negative; got {beta}")
        if free_bits is not None and free_bits < 0:
            raise ConfigError(f"free_bits is not negative; got {free_bits}")
        self.num_samples, self.beta, self.kl, self.free_bits = num_samples, beta, kl, free_bits
        # Running means of the two terms: the baseline of the score function with one draw (bounds.elbo_terms).
        self.register_buffer("baseline", torch.zeros(2))
        # Those of the last batch. The baseline moves in `advance`, not in the forward pass: a compiled backward pass
        # may read it anew and would find it changed.
        self.register_buffer("latest", torch.zeros(2))
        self.baseline: Tensor
        self.latest: Tensor
        self._has_latest = False

    def extra_repr(self) -> str:
        """The arguments, for printing."""
        return f"num_samples={self.num_samples}, beta={self.beta}, kl={self.kl!r}, free_bits={self.free_bits}"

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on x of shape (B, *X); terms `elbo`, `log_likelihood`, `kl` per point, and `beta`."""
        q = model.posterior(x)
        baseline = None if q.has_rsample else (self.baseline[0], self.baseline[1])
        log_likelihood, kl = bounds.elbo_terms(model, x, self.num_samples, self.kl, baseline=baseline, posterior=q)
        if self.training and self.num_samples == 1 and not q.has_rsample:
            self._note(average(log_likelihood, weight), average(kl, weight))
        beta = self.beta(self.step) if callable(self.beta) else self.beta
        elbo = log_likelihood - kl
        if self.free_bits:
            value = beta * self._with_free_bits(q, model.prior(), weight) - average(log_likelihood, weight)
        elif not callable(self.beta) and self.beta == 1:
            value = -average(elbo, weight)
        else:
            value = average(beta * kl - log_likelihood, weight)
        terms = {"elbo": elbo, "log_likelihood": log_likelihood, "kl": kl}
        if callable(self.beta):
            terms["beta"] = torch.as_tensor(beta)
        return Loss(value, terms)

    def _with_free_bits(self, q: Distribution, prior: Distribution, weight: Tensor | None) -> Tensor:
        assert self.free_bits is not None
        per_dimension = average(kl_per_dimension(q, prior), weight)
        return per_dimension.clamp(min=self.free_bits).sum()

    def _note(self, log_likelihood: Tensor, kl: Tensor) -> None:
        self._has_latest = True
        with torch.no_grad():
            self.latest.copy_(torch.stack([log_likelihood, kl]))

    def advance(self) -> None:
        """Called after each update of the parameters: the baseline follows the batches."""
        if self._has_latest:
            self.baseline.lerp_(self.latest, torch.where(self.step == 0, 1.0, 0.1))
        super().advance()
