"""The evidence lower bound, and what changes its KL or the data that its posterior sees."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit import bounds
from vaekit.bounds import KLMode, LatentVariableModel
from vaekit.errors import ConfigError
from vaekit.kl import kl_per_dimension
from vaekit.objectives.base import Loss, Objective, average, average_of_all


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
        self.needs_whole_batch = bool(free_bits)
        # Running means of the two terms: the baseline of the score function with one draw (bounds.elbo_terms).
        self.register_buffer("baseline", torch.zeros(2))
        # Those of the last batch. The baseline moves in `advance`, not in the forward pass: a compiled backward pass
        # may read it anew and would find it changed.
        self.register_buffer("latest", torch.zeros(2))
        self.baseline: Tensor
        self.latest: Tensor
        self._has_latest = False

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
        per_dimension = average_of_all(kl_per_dimension(q, prior), weight)
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

    needs_whole_batch = True

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

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on x of shape (B, *X); terms `elbo`, `log_likelihood`, `kl` per point, and `capacity`."""
        log_likelihood, kl = bounds.elbo_terms(model, x, self.num_samples, self.kl)
        capacity = torch.as_tensor(self.capacity(self.step) if callable(self.capacity) else self.capacity).to(kl)
        value = self.gamma * (average_of_all(kl, weight) - capacity).abs() - average(log_likelihood, weight)
        terms = {"elbo": log_likelihood - kl, "log_likelihood": log_likelihood, "kl": kl, "capacity": capacity}
        return Loss(value, terms)


_KINDS = ("normal", "mask", "flip")


class Denoising(Objective):
    r"""An ELBO whose posterior sees corrupted data.

    Minimises \( -E_{\tilde x}[ E_{q(z|\tilde x)}[\log p(x|z)] - KL(q(z|\tilde x), p(z)) ] \), \( \tilde x \) a
    corruption of x.

    What is bounded: for each \( \tilde x \) the bracket is an ELBO of the clean x, with \( q(z|\tilde x) \) as its
    posterior; so is its mean, and the value never exceeds log p(x) of the clean data. It is looser than the bound whose
    posterior is the mixture of \( q(z|\tilde x) \) over the corruptions of x, whose density has no closed form. The
    term `elbo` while training is this bound, validation uses q(z|x) of the clean x.

    Use it where the encoder overfits, or has to bear noise later on. Not where every nat of log p(x) counts and data
    are plenty.

    References:
        Im et al., "Denoising criterion for variational auto-encoding framework", 2017,
        https://arxiv.org/abs/1511.06406.

    Args:
        corruption: "normal" adds noise of standard deviation `level`, "mask" sets elements to 0 with probability
            `level`, "flip" takes x to 1 - x with probability `level` (for bits).
        level: how much, not negative; a probability for "mask" and "flip".
        num_samples: draws of z per row.
        kl: "auto", "analytic" or "sampled"; see `bounds.elbo_terms`.

    Raises:
        ConfigError: for another corruption, a level that it does not take, or less than one draw.

    Example:
        >>> Denoising("flip", level=0.05)
        Denoising(corruption='flip', level=0.05, num_samples=1, kl='auto')
    """

    def __init__(
        self,
        corruption: Literal["normal", "mask", "flip"] = "mask",
        level: float = 0.1,
        num_samples: int = 1,
        kl: KLMode = "auto",
    ) -> None:
        super().__init__()
        bounds.check_arguments(num_samples, kl)
        if corruption not in _KINDS:
            raise ConfigError(f"corruption is one of {', '.join(_KINDS)}; got {corruption!r}")
        if not level >= 0 or (corruption != "normal" and level > 1):
            raise ConfigError(f"level is not negative, and at most 1 where it is a probability; got {level}")
        self.corruption, self.level, self.num_samples, self.kl = corruption, level, num_samples, kl

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on x of shape (B, *X); terms `elbo`, `log_likelihood`, `kl` of the clean x with the corrupted q."""
        q = model.posterior(self._corrupted(x))
        log_likelihood, kl = bounds.elbo_terms(model, x, self.num_samples, self.kl, posterior=q)
        value = average(kl - log_likelihood, weight)
        return Loss(value, {"elbo": log_likelihood - kl, "log_likelihood": log_likelihood, "kl": kl})

    def _corrupted(self, x: Tensor) -> Tensor:
        """A draw of the corruption; elements that were not observed (NaN) stay so."""
        if self.corruption == "normal":
            return x + self.level * torch.randn_like(x)
        hit = torch.rand_like(x) < self.level
        return torch.where(hit & ~torch.isnan(x), 1 - x if self.corruption == "flip" else torch.zeros_like(x), x)
