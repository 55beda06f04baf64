"""The thermodynamic variational objective."""

import torch
from torch import Tensor

from vaekit import bounds
from vaekit.bounds import LatentVariableModel
from vaekit.errors import ConfigError
from vaekit.objectives.base import Loss, Objective, average
from vaekit.objectives.iwae import terms_of, validation_terms_of


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

    def extra_repr(self) -> str:
        """The arguments, for printing."""
        return f"num_samples={self.num_samples}, num_intervals={self.num_intervals}, first={self.first}"

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on x of shape (B, *X); terms `tvo`, and `iwae` and the ELBO of the draws."""
        q = model.posterior(x)
        z = q.sample(torch.Size((self.num_samples,)))
        draws = bounds.Draw(z, model.likelihood(z).log_prob(x), model.prior().log_prob(z), q.log_prob(z))
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
