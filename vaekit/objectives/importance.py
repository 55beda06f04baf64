"""Objectives of importance weights: tighter bounds, and trades between bound and gradient."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from vaekit import bounds
from vaekit.bounds import Draw, LatentVariableModel
from vaekit.errors import ConfigError
from vaekit.objectives.base import Loss, Objective, average, terms_of, validation_terms_of


class IWAE(Objective):
    r"""The importance-weighted bound.

    Minimises \( -\frac1B \sum_b \log \frac1K \sum_k w_{bk} \).

    A tighter bound than the ELBO, at K times the decoder's cost. The signal-to-noise ratio of the encoder's gradient
    falls with K (Rainforth et al. 2018), which `DReG` mends; 5 to 50 are usual.
    Use it where log p(x) matters more than the time of training.

    References:
        Burda et al., "Importance weighted autoencoders", 2016, https://arxiv.org/abs/1509.00519, equation 8.

    Args:
        num_samples: K.

    Raises:
        ConfigError: for K < 1.
    """

    selects = "iwae"

    def __init__(self, num_samples: int = 5) -> None:
        super().__init__()
        bounds.check_arguments(num_samples)
        self.num_samples = num_samples

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on x of shape (B, *X); terms `iwae`, and the ELBO of the same draws with its two parts."""
        q = model.posterior(x)
        draws = bounds.draw_from(model, q, x, self.num_samples)
        bound = bounds.iwae_from_draw(draws, reparameterized=q.has_rsample)
        return Loss(-average(bound, weight), {**terms_of(draws), "iwae": bound})

    def validation_terms(self, model: LatentVariableModel, x: Tensor) -> dict[str, Tensor]:
        """The bound with the K of training chooses the weights: a model fitted by IWAE has a loose ELBO."""
        return validation_terms_of(model, x, self.num_samples)


class MIWAE(Objective):
    r"""Several importance-weighted bounds, averaged.

    Minimises \( -\frac1M \sum_m \log \frac1K \sum_k w_{mk} \): T = M K draws in M groups of K.

    Averaging over groups raises the signal-to-noise ratio of the encoder's gradient by \( \sqrt M \), where more draws
    in one group would lower it; the bound is that of K draws. M = 1 is `IWAE`, K = 1 the `ELBO` with a sampled KL. Use
    it where many draws are affordable and the encoder suffers under `IWAE`; where q can be reparameterised, `DReG` is
    the better cure.

    References:
        Rainforth et al., "Tighter variational bounds are not necessarily better", 2018,
        https://arxiv.org/abs/1802.04537, section 5.

    Args:
        num_samples: T, all draws per row.
        num_groups: M, a divisor of T.

    Raises:
        ConfigError: for M < 1 or T < 1, or an M that does not divide T.

    Example:
        >>> MIWAE(num_samples=64, num_groups=8)
        MIWAE(num_samples=64, num_groups=8)
    """

    selects = "iwae"
    log_densities = Objective.log_densities | {"miwae"}

    def __init__(self, num_samples: int = 10, num_groups: int = 2) -> None:
        super().__init__()
        check_groups(num_samples, num_groups)
        self.num_samples, self.num_groups = num_samples, num_groups

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on x of shape (B, *X); terms `miwae`, and `iwae` and the ELBO of all draws."""
        q = model.posterior(x)
        draws = bounds.draw_from(model, q, x, self.num_samples)
        bound = mean_over_groups(draws, self.num_groups, reparameterized=q.has_rsample)
        return Loss(-average(bound, weight), {**terms_of(draws), "miwae": bound})

    def validation_terms(self, model: LatentVariableModel, x: Tensor) -> dict[str, Tensor]:
        """The bound with all draws chooses the weights."""
        return validation_terms_of(model, x, self.num_samples)


def check_groups(num_samples: int, num_groups: int) -> None:
    """Raise a `ConfigError` unless the draws make that many equal groups."""
    bounds.check_arguments(num_samples)
    if num_groups < 1 or num_samples % num_groups:
        raise ConfigError(
            f"num_groups is at least 1 and divides num_samples; got {num_groups} groups of {num_samples} draws"
        )


def mean_over_groups(draws: Draw, num_groups: int, *, reparameterized: bool) -> Tensor:
    """The importance-weighted bound of each group of draws, averaged over the M groups: shape (B,)."""
    grouped = Draw(*(part.unflatten(0, (-1, num_groups)) for part in draws))  # (K, M, B)
    return bounds.iwae_from_draw(grouped, reparameterized=reparameterized).mean(0)


class CIWAE(Objective):
    r"""A mixture of the ELBO and the importance-weighted bound.

    Minimises \( -\gamma\, \mathrm{ELBO} - (1 - \gamma)\, \mathrm{IWAE}_K \), both of the same K draws.

    The ELBO keeps a signal for the encoder that the tighter bound lacks, the tighter bound the better decoder. Use it
    as a cheap compromise; the weight \( \gamma \) (beta in the paper) has to be found by trial.

    References:
        Rainforth et al., "Tighter variational bounds are not necessarily better", 2018,
        https://arxiv.org/abs/1802.04537, section 5.

    Args:
        num_samples: K.
        elbo_weight: gamma in [0, 1]; 0 is `IWAE`, 1 the `ELBO` with a sampled KL.

    Raises:
        ConfigError: for K < 1 or a weight outside [0, 1].

    Example:
        >>> CIWAE(num_samples=64, elbo_weight=0.05)
        CIWAE(num_samples=64, elbo_weight=0.05)
    """

    selects = "iwae"
    log_densities = Objective.log_densities | {"ciwae"}

    def __init__(self, num_samples: int = 5, elbo_weight: float = 0.5) -> None:
        super().__init__()
        bounds.check_arguments(num_samples)
        if not 0 <= elbo_weight <= 1:
            raise ConfigError(f"elbo_weight lies in [0, 1]; got {elbo_weight}")
        self.num_samples, self.elbo_weight = num_samples, elbo_weight

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on x of shape (B, *X); terms `ciwae`, `iwae`, and the ELBO with its two parts."""
        q = model.posterior(x)
        draws = bounds.draw_from(model, q, x, self.num_samples)
        elbo = bounds.elbo_from_draw(draws, reparameterized=q.has_rsample)
        iwae = bounds.iwae_from_draw(draws, reparameterized=q.has_rsample)
        bound = self.elbo_weight * elbo + (1 - self.elbo_weight) * iwae
        return Loss(-average(bound, weight), {**terms_of(draws), "ciwae": bound})

    def validation_terms(self, model: LatentVariableModel, x: Tensor) -> dict[str, Tensor]:
        """The bound with the K of training chooses the weights."""
        return validation_terms_of(model, x, self.num_samples)


class PIWAE(Objective):
    r"""The tighter bound for the decoder, the better signal for the encoder.

    Moves p(x, z) by the gradient of \( \mathrm{IWAE}_T \) and q by that of `MIWAE` with M groups, of the same
    draws.

    The generative model gains from a tight bound, its posterior loses by it: each half of the parameters
    (`model.generative_parameters()` and `model.posterior_parameters()`) gets the objective that suits it. The value is
    the bound of all T = M K draws; its gradient is no gradient of one function. Two backward passes. Use it as `MIWAE`,
    where log p(x) matters most.

    References:
        Rainforth et al., "Tighter variational bounds are not necessarily better", 2018,
        https://arxiv.org/abs/1802.04537, section 5.

    Args:
        num_samples: T, all draws per row.
        num_groups: M, a divisor of T.

    Raises:
        ConfigError: for M < 1 or T < 1, an M that does not divide T, and on a model that does not say which parameters
            are those of q.

    Example:
        >>> PIWAE(num_samples=64, num_groups=8)
        PIWAE(num_samples=64, num_groups=8)
    """

    selects = "iwae"
    can_compile = False
    log_densities = Objective.log_densities | {"miwae"}

    def __init__(self, num_samples: int = 10, num_groups: int = 2) -> None:
        super().__init__()
        check_groups(num_samples, num_groups)
        self.num_samples, self.num_groups = num_samples, num_groups

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on x of shape (B, *X); terms `iwae` and `miwae`, and the ELBO of all draws."""
        halves = _halves(model)
        q = model.posterior(x)
        draws = bounds.draw_from(model, q, x, self.num_samples)
        tight = bounds.iwae_from_draw(draws, reparameterized=q.has_rsample)
        grouped = mean_over_groups(draws, self.num_groups, reparameterized=q.has_rsample)
        value = -average(tight, weight).detach()
        if torch.is_grad_enabled():
            for parameters, bound in zip(halves, (grouped, tight), strict=True):
                value = value + _with_gradient_of(-average(bound, weight), parameters)
        return Loss(value, {**terms_of(draws), "miwae": grouped})

    def validation_terms(self, model: LatentVariableModel, x: Tensor) -> dict[str, Tensor]:
        """The bound with all draws chooses the weights."""
        return validation_terms_of(model, x, self.num_samples)


def _halves(model: Any) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The trainable parameters of q, and all others."""
    try:
        halves = model.posterior_parameters(), model.generative_parameters()
    except AttributeError as error:
        raise ConfigError(
            "PIWAE gives q another gradient than p(x, z) and needs a model with posterior_parameters() and "
            f"generative_parameters(), such as VAE; {type(model).__name__} lacks them. Use MIWAE or DReG."
        ) from error
    posterior, generative = ([p for p in half if p.requires_grad] for half in halves)
    return posterior, generative


def _with_gradient_of(loss: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    """Zero, with the gradient of `loss` for these parameters and for nothing else."""
    if not parameters:
        return torch.zeros_like(loss)
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    pairs = zip(gradients, parameters, strict=True)
    linear = torch.stack([(g * p).sum() for g, p in pairs if g is not None]).sum()
    return linear - linear.detach()


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

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on x of shape (B, *X); terms `renyi`, `iwae`, and the ELBO with its two parts."""
        q = model.posterior(x)
        draws = bounds.draw_from(model, q, x, self.num_samples)
        bound = bounds.renyi_from_draw(draws, self.alpha, reparameterized=q.has_rsample)
        return Loss(-average(bound, weight), {**terms_of(draws), "renyi": bound})

    def validation_terms(self, model: LatentVariableModel, x: Tensor) -> dict[str, Tensor]:
        """The importance-weighted bound chooses the weights, whatever alpha is."""
        return validation_terms_of(model, x, self.num_samples)


class TVO(Objective):
    r"""The thermodynamic variational objective.

    Minimises \( -\sum_j (\beta_{j+1} - \beta_j)\, E_{\pi_{\beta_j}}[\log w] \), \( \pi_\beta \propto q^{1-\beta}
    p(x, z)^\beta \).

    The integral of \( E_{\pi_\beta}[\log w] \) over beta from 0 to 1 is log p(x), and the integrand rises: the sum over
    left ends of the J intervals is a lower bound, J = 1 the ELBO. The expectations are taken by weighting the same K
    draws with \( w^\beta \); for any draws the value then lies between their ELBO and their `IWAE` bound.

    The gradient is a covariance under \( \pi_\beta \) and takes nothing from the path of z: use it for discrete
    latents, with many draws (K = 20 and more; the weighting is biased for few). With latents that can be
    reparameterised `DReG` is usually less noisy.

    References:
        Masrani et al., "The thermodynamic variational objective", 2019, https://arxiv.org/abs/1907.00031.

    Args:
        num_samples: K, at least 2: the covariance of a single draw is 0.
        num_intervals: J. The first one ends at `first`, the ends of the others are spaced evenly in log beta.
        first: the smallest beta above 0, in (0, 1).

    Raises:
        ConfigError: for K < 2, J < 1, or `first` outside (0, 1).

    Example:
        >>> TVO(num_samples=20).betas.tolist()
        [0.0, 0.02500..., 0.15811..., 1.0]
    """

    selects = "iwae"
    log_densities = Objective.log_densities | {"tvo"}

    def __init__(self, num_samples: int = 10, num_intervals: int = 3, first: float = 0.025) -> None:
        super().__init__()
        if num_samples < 2:
            raise ConfigError(f"num_samples is at least 2: the gradient is a covariance over draws; got {num_samples}")
        if num_intervals < 1:
            raise ConfigError(f"num_intervals is at least 1; got {num_intervals}")
        if not 0 < first < 1:
            raise ConfigError(f"first lies in (0, 1); got {first}")
        self.num_samples, self.num_intervals, self.first = num_samples, num_intervals, first
        powers = torch.linspace(1, 0, num_intervals) if num_intervals > 1 else torch.zeros(1)
        self.register_buffer("betas", torch.cat([torch.zeros(1), first**powers]), persistent=False)
        self.betas: Tensor

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on x of shape (B, *X); terms `tvo`, and `iwae` and the ELBO of the draws."""
        q = model.posterior(x)
        z = q.sample(torch.Size((self.num_samples,)))
        draws = bounds.Draw(z, bounds.log_likelihood_at(model, z, x), model.prior().log_prob(z), q.log_prob(z))
        log_w, log_joint = draws.log_weights, draws.log_likelihood + draws.log_prior
        beta = self.betas.to(log_w).reshape(-1, 1, 1)
        left, widths = beta[:-1], beta.diff(dim=0)
        fixed = log_w.detach()
        shares = torch.softmax(left * fixed, 1)  # (J, K, B): the draws as draws from pi_beta
        mean = (shares * fixed).sum(1, keepdim=True)
        # E[grad log w] + Cov(grad log pi_beta, log w); values of `score` do not matter.
        score = (1 - left) * draws.log_posterior + left * log_joint
        surrogate = (widths * shares * (log_w + (fixed - mean) * score)).sum((0, 1))
        bound = (widths * mean).sum((0, 1)) + (surrogate - surrogate.detach())
        return Loss(-average(bound, weight), {**terms_of(draws), "tvo": bound})

    def validation_terms(self, model: LatentVariableModel, x: Tensor) -> dict[str, Tensor]:
        """The importance-weighted bound of as many draws chooses the weights."""
        return validation_terms_of(model, x, self.num_samples)
