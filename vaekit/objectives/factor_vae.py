"""Total correlation estimated by a discriminator between codes and codes with shuffled dimensions."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from vaekit import bounds, engine
from vaekit.bounds import LatentVariableModel
from vaekit.errors import ConfigError
from vaekit.networks import MLP
from vaekit.objectives.base import Loss, Objective, average
from vaekit.objectives.factorized import as_factorized


def _by_weight(z: Tensor, weight: Tensor | None) -> Tensor:
    """Draws from q(z) where rows have weights: rows of z, drawn by these; without weights z itself."""
    return z if weight is None else z[torch.multinomial(weight.to(z), len(z), replacement=True)]


class FactorVAE(Objective):
    r"""Total correlation estimated by a discriminator between codes and codes with shuffled dimensions.

    Minimises \( -\mathrm{ELBO} + \gamma\, E_{q(z)}[\log D(z) - \log(1 - D(z))] \), an estimate of gamma times the
    total correlation.

    D tells draws of the aggregate posterior q(z) from draws whose dimensions are shuffled over the batch, that is from
    \( \prod_j q(z_j) \); at its optimum the log-odds are the logarithm of their ratio. It is the objective's adversary:
    the trainer moves it by Adam (betas 0.5 and 0.9) after each update of the model, on the same batch. In a loop of
    one's own, call `build(model)` first, and minimise `adversary(model, x).value` over `adversary_parameters()`
    likewise.

    Use it for disentangled codes where batches are too small for `BetaTC`. The reported `total_correlation` is as good
    as D: it lags while D is young and is no bound.

    References:
        Kim & Mnih, "Disentangling by factorising", 2018, https://arxiv.org/abs/1802.05983, equations 2 and 3.

    Args:
        gamma: weight of the total correlation.
        hidden: widths of D's hidden layers (leaky ReLU 0.2); the paper takes (1000,) * 6.
        adversary_learning_rate: of D.

    Raises:
        ConfigError: for a negative gamma, a learning rate that is not positive, or a posterior that does not factorise
            or cannot be reparameterised.

    Example:
        >>> import vaekit as vk
        >>> model, _ = vk.presets.vae((4,), latent_dim=3, likelihood="normal")
        >>> objective = FactorVAE(gamma=6.4, hidden=(16,))
        >>> objective.build(model)
        >>> [tuple(p.shape) for p in objective.adversary_parameters()]
        [(16, 3), (16,), (1, 16), (1,)]
    """

    def __init__(
        self, gamma: float = 10.0, hidden: Sequence[int] = (256, 256, 256), adversary_learning_rate: float = 1e-4
    ) -> None:
        super().__init__()
        if not gamma >= 0:
            raise ConfigError(f"gamma is not negative; got {gamma}")
        if not adversary_learning_rate > 0:
            raise ConfigError(f"adversary_learning_rate is positive; got {adversary_learning_rate}")
        if not hidden:
            raise ConfigError("the discriminator needs at least one hidden layer; got hidden=()")
        self.gamma, self.hidden, self.adversary_learning_rate = gamma, tuple(hidden), adversary_learning_rate
        self.discriminator: nn.Sequential | None = None

    def extra_repr(self) -> str:
        """The arguments, for printing."""
        rate = self.adversary_learning_rate
        return f"gamma={self.gamma}, hidden={self.hidden}, adversary_learning_rate={rate}"

    def build(self, model: LatentVariableModel) -> None:
        """Make a discriminator for the z of this model, unless there is one."""
        size = model.prior().event_shape.numel()
        if self.discriminator is None or self.discriminator[0].in_shape != (size,):
            trunk = MLP(size, self.hidden, activation="leaky-relu")
            fresh = nn.Sequential(trunk, nn.Linear(self.hidden[-1], 1))
            self.discriminator = fresh.to(engine.model_device(model), engine.model_dtype(model))

    def adversary_parameters(self) -> Iterable[nn.Parameter]:
        """The parameters of the discriminator; none before `build`."""
        return () if self.discriminator is None else self.discriminator.parameters()

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on x of shape (B, *X); the terms of the ELBO, and `total_correlation` of shape ()."""
        q, prior = as_factorized(model.posterior(x), "total correlation"), model.prior()
        z = q.rsample()
        log_likelihood = model.likelihood(z).log_prob(x)
        closed = bounds.closed_form_kl(q, prior, "auto")
        kl = q.log_prob(z) - prior.log_prob(z) if closed is None else closed
        discriminator = self._discriminator(model, z)
        frozen = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
        log_odds = functional_call(discriminator, frozen, (z.flatten(1),)).squeeze(1)
        total_correlation = average(log_odds, weight)
        value = average(kl - log_likelihood, weight) + self.gamma * total_correlation
        terms = {"elbo": log_likelihood - kl, "log_likelihood": log_likelihood, "kl": kl}
        return Loss(value, {**terms, "total_correlation": total_correlation})

    def adversary(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The cross-entropy of D on draws of q(z), against draws with shuffled dimensions; both terms of shape ()."""
        with torch.no_grad():
            q = as_factorized(model.posterior(x), "total correlation")
            real, other = (_by_weight(z, weight) for z in (q.sample().flatten(1), q.sample().flatten(1)))
            order = torch.rand_like(other).argsort(0)  # a permutation of its own for each dimension
            shuffled = other.gather(0, order)
        discriminator = self._discriminator(model, real)
        from_real, from_shuffled = discriminator(real).squeeze(1), discriminator(shuffled).squeeze(1)
        value = 0.5 * (F.softplus(-from_real) + F.softplus(from_shuffled)).mean()
        accuracy = 0.5 * ((from_real > 0).to(value) + (from_shuffled <= 0).to(value)).mean()
        return Loss(value, {"discriminator_loss": value, "discriminator_accuracy": accuracy})

    def _discriminator(self, model: LatentVariableModel, z: Tensor) -> nn.Sequential:
        """The discriminator, in the dtype of z: a model that is no module does not tell its own."""
        self.build(model)
        assert self.discriminator is not None
        if self.discriminator[1].weight.dtype != z.dtype:
            self.discriminator.to(z)
        return self.discriminator
