"""Objectives that weigh the total correlation of codes: by the batch, or by a discriminator."""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from vaekit import bounds, engine
from vaekit.bounds import LatentVariableModel
from vaekit.distributions import Product
from vaekit.engine import world
from vaekit.errors import ConfigError
from vaekit.networks import MLP
from vaekit.objectives.base import Loss, Objective, as_factorized, average

Weighting = Literal["stratified", "weighted"]


class BetaTC(Objective):
    r"""The KL split into information, total correlation and the rest, each with a weight of its own.

    Minimises \( -\mathrm{ELBO} + (\alpha-1) I_q(x; z) + (\beta-1)\, TC + (\gamma-1) \sum_j KL(q(z_j), p(z_j)) \).

    The mean KL is the sum of three parts: the information of z about x, \( TC = KL(q(z), \prod_j q(z_j)) \) of the
    aggregate posterior \( q(z) = \frac1N \sum_n q(z|x_n) \), and what its marginals differ from the prior. beta > 1
    asks for independent latents without paying in information, as `ELBO(beta=...)` does. At alpha = beta = gamma = 1 it
    is the ELBO. Use it for disentangled codes; not for log p(x), and not with small batches.

    q(z) is estimated from the batch. "stratified" weights the row's own q(z|x_n) by 1/N and the other B - 1 rows by
    (N-1)/(N(B-1)): for rows drawn without replacement, as the trainer draws them, the estimate of q(z) is unbiased.
    That of its logarithm is not: measured with N = 2,000, D = 10 and scales 0.7, a TC of 0.43 came out as 0.04, 0.28
    and 0.41 for B = 32, 128 and 512.

    "weighted" takes 1/(B N) for all rows and is biased: the expectation of its estimate lies between (B-1)/(B(N-1)) and
    1/B of q(z), for N = 5 and B = 3 between 0.17 and 0.33. Each of the D marginals and q(z) itself lose up to log N, so
    that the value reported for TC is too large by about (D-1) log N (69 instead of 0.43 in the example). It is there to
    match published results.

    References:
        Chen et al., "Isolating sources of disentanglement in variational autoencoders", 2018,
        https://arxiv.org/abs/1802.04942, equation 2 and appendix C.

    Args:
        beta: weight of the total correlation.
        alpha: weight of the information.
        gamma: weight of the marginals' distance from the prior.
        weighting: "stratified" or "weighted".

    Raises:
        ConfigError: for a negative weight, a posterior that does not factorise or cannot be reparameterised, a batch of
            one row, or before `prepare`.

    Example:
        >>> BetaTC(beta=6.0)
        BetaTC(beta=6.0, alpha=1.0, gamma=1.0, weighting='stratified')
    """

    needs_whole_batch = True

    def __init__(
        self, beta: float = 6.0, alpha: float = 1.0, gamma: float = 1.0, weighting: Weighting = "stratified"
    ) -> None:
        super().__init__()
        if not min(alpha, beta, gamma) >= 0:
            raise ConfigError(f"alpha, beta and gamma are not negative; got {alpha}, {beta} and {gamma}")
        if weighting not in ("stratified", "weighted"):
            raise ConfigError(f'weighting is "stratified" or "weighted"; got {weighting!r}')
        self.beta, self.alpha, self.gamma, self.weighting = beta, alpha, gamma, weighting

    def forward(self, model: LatentVariableModel, x: Tensor, weight: Tensor | None = None) -> Loss:
        """The loss on x of shape (B, *X); the terms of the ELBO, and `information`, `total_correlation`, `marginal_kl`.

        The three parts have shape () and are estimates from one draw per row; they add up to a sampled KL.
        """
        q, prior = as_factorized(model.posterior(x), "total correlation"), model.prior()
        z = q.rsample()
        log_likelihood = bounds.log_likelihood_at(model, z, x)
        log_q, log_p = q.log_prob(z), prior.log_prob(z)
        closed = bounds.closed_form_kl(q, prior, "auto")
        kl = log_q - log_p if closed is None else closed
        log_joint, log_marginals = self._aggregate(q, z, weight)
        information = average(log_q - log_joint, weight)
        total_correlation = average(log_joint - log_marginals, weight)
        marginal_kl = average(log_marginals - log_p, weight)
        parts = {"information": information, "total_correlation": total_correlation, "marginal_kl": marginal_kl}
        weights = (self.alpha - 1, self.beta - 1, self.gamma - 1)
        value = average(kl - log_likelihood, weight)
        value = value + sum(w * part for w, part in zip(weights, parts.values(), strict=True) if w)
        return Loss(value, {"elbo": log_likelihood - kl, "log_likelihood": log_likelihood, "kl": kl, **parts})

    def _aggregate(self, q: Product, z: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """The logarithms of q(z) and of the product of its marginals at the draws of the batch, shape (B,) each."""
        draws, own = world.gather(z), world.place_of(len(z))
        weight = None if weight is None else world.gather(weight)
        # Each draw under each row's posterior, per dimension: (B draws, B rows, D); of several processes, each has the
        # rows of its own.
        densities = q.log_prob_per_element(draws.unsqueeze(1)).flatten(2)
        log_weights = log_batch_weights(len(draws), self._rows(), self.weighting, weight).to(densities)[:, own]
        log_joint = torch.logsumexp(log_weights + densities.sum(-1), 1)
        log_marginals = torch.logsumexp(log_weights.unsqueeze(-1) + densities, 1)
        if world.size() > 1:
            parts = world.gather(torch.cat([log_joint.unsqueeze(1), log_marginals], 1).unsqueeze(0))
            over_rows = torch.logsumexp(parts, 0)[own]
            log_joint, log_marginals = over_rows[:, 0], over_rows[:, 1:]
        return log_joint, log_marginals.sum(-1)

    def _rows(self) -> float:
        if self.num_data is None:
            raise ConfigError("BetaTC needs the number of training rows: call objective.prepare(num_data) first")
        return self.num_data


def log_batch_weights(num_rows: int, num_data: float, weighting: Weighting, weight: Tensor | None = None) -> Tensor:
    r"""Logarithms of the weights of \( q(z_b|x_c) \) in the estimate of \( q(z_b) \) from a batch, shape (B, B).

    Args:
        num_rows: B.
        num_data: N, at least B (a larger B counts as N); the sum of the weights of all rows where they have some.
        weighting: see `BetaTC`.
        weight: weights of the rows of the batch, shape (B,); None weighs all alike.

    Raises:
        ConfigError: for one row, from which nothing is learnt about q(z).
    """
    if num_rows < 2:
        raise ConfigError(f"an estimate of q(z) needs batches of at least 2 rows; got {num_rows}")
    if weight is not None:
        return _log_shares(weight.double(), num_data, weighting)
    total = max(num_data, num_rows)
    if weighting == "weighted":
        return torch.full((num_rows, num_rows), -math.log(num_rows * total), dtype=torch.float64)
    weights = torch.full((num_rows, num_rows), (total - 1) / (total * (num_rows - 1)), dtype=torch.float64)
    return weights.fill_diagonal_(1 / total).log()


def _log_shares(weight: Tensor, total: float, weighting: Weighting) -> Tensor:
    r"""`log_batch_weights` for rows with weights: \( q(z) = \sum_n w_n q(z|x_n) / W \) with W the sum over all rows.

    Row b counts \( w_b / W \) under its own draw; the rest of q(z) is estimated from the other rows by their weights.
    """
    in_batch = weight.sum()
    total = torch.maximum(in_batch, in_batch.new_tensor(total))  # type: ignore[assignment]
    if weighting == "weighted":
        return (weight / (len(weight) * total)).log().expand(len(weight), -1)
    own, rest = weight / total, (in_batch - weight).clamp(min=torch.finfo(weight.dtype).tiny)
    others = ((1 - own) / rest).unsqueeze(1) * weight
    return torch.where(torch.eye(len(weight), dtype=torch.bool, device=weight.device), own, others).log()


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

    needs_whole_batch = True

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
        log_likelihood = bounds.log_likelihood_at(model, z, x)
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
            own, also = q.sample().flatten(1), q.sample().flatten(1)
            ranks = world.gather(torch.rand_like(also))
            weight = None if weight is None else world.gather(weight)
            real, other = (_by_weight(world.gather(z), weight) for z in (own, also))
            order = ranks.argsort(0)  # a permutation of its own for each dimension
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
