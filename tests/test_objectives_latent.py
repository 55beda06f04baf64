"""Objectives that shape the aggregate posterior: against quadrature, enumeration and closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch
from components import BernoulliPosterior, BernoulliPrior
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import vaekit as vk
from vaekit import VAE, Conditional, bounds, engine, likelihoods, networks, posteriors, priors, schedules
from vaekit.distributions import Product
from vaekit.errors import ConfigError
from vaekit.objectives import DIPVAE, ELBO, BetaTC, Capacity, Denoising, FactorVAE, InfoVAE
from vaekit.objectives.total_correlation import log_batch_weights

F64 = torch.float64
X = torch.linspace(-2, 2, 30, dtype=F64).reshape(6, 5)


def make(posterior=None) -> VAE:
    return VAE(
        encoder=Conditional(networks.MLP(5, (8,), "tanh"), posterior or posteriors.DiagonalNormal(3)),
        decoder=Conditional(networks.MLP(3, (8,), "tanh"), likelihoods.Normal(5, scale=0.5)),
        prior=BernoulliPrior((3,)) if isinstance(posterior, BernoulliPosterior) else priors.StandardNormal(3),
    ).double()


def loss_of(objective, model, x=X):
    with engine.seeded(4):
        return objective(model, x)


def number(value):
    return float(value.detach())


class Rows:
    """x is the mean of q(z|x) = N(x, s^2 I) in two dimensions; p(x|z) = N(z, I)."""

    def __init__(self, scale=0.5):
        self.scale = torch.tensor(scale, dtype=F64)

    def posterior(self, x):
        return Product(Normal(x, self.scale.expand_as(x), validate_args=False), 1)

    def prior(self):
        zero = torch.zeros(2, dtype=F64)
        return Product(Normal(zero, zero + 1, validate_args=False), 1)

    def likelihood(self, z):
        return Product(Normal(z, torch.ones((), dtype=F64), validate_args=False), 1)


POINTS = torch.tensor([[-1.0, -0.8], [0.2, 0.3], [1.1, 0.9]], dtype=F64)


def exact_parts(model, points):
    """Information, total correlation and marginal KL of the aggregate posterior, on a grid of 400 x 400 points."""
    axis = torch.linspace(-5, 5, 400, dtype=F64)
    cell = (axis[1] - axis[0]) ** 2
    z = torch.cartesian_prod(axis, axis)
    each = model.posterior(points).log_prob(z.unsqueeze(1))  # (G, N)
    joint = torch.logsumexp(each, 1) - math.log(len(points))
    q = joint.exp()
    margins = [
        torch.logsumexp(Normal(points[:, j], model.scale).log_prob(axis.unsqueeze(1)), 1) - math.log(len(points))
        for j in range(2)
    ]
    product = (margins[0].unsqueeze(1) + margins[1]).flatten()
    information = (each.exp() * (each - joint.unsqueeze(1))).sum(0).mean() * cell
    total_correlation = (q * (joint - product)).sum() * cell
    marginal = (q * (product - model.prior().log_prob(z))).sum() * cell
    return [float(part) for part in (information, total_correlation, marginal)]


# --- beta-TC ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_the_stratified_estimate_of_q_is_unbiased_over_all_minibatches(size):
    points = torch.tensor([-1.0, -0.4, 0.1, 0.9, 2.0], dtype=F64)
    for own, z in itertools.product(range(5), (-0.5, 0.4, 1.7)):
        densities = Normal(points, 0.4).log_prob(torch.tensor(z, dtype=F64)).exp()
        others = [n for n in range(5) if n != own]
        batches = [[own, *rest] for rest in itertools.combinations(others, size - 1)]
        means = {}
        for weighting in ("stratified", "weighted"):
            weights = log_batch_weights(size, 5, weighting)[0].exp()  # of the row in place 0: its own first
            means[weighting] = torch.stack([(weights * densities[batch]).sum() for batch in batches]).mean()
        torch.testing.assert_close(means["stratified"], densities.mean(), rtol=1e-12, atol=0)
        ratio = float(means["weighted"] / densities.mean())
        assert (size - 1) / (size * 4) - 1e-12 <= ratio <= 1 / size + 1e-12


def test_the_own_row_lies_on_the_diagonal():
    weights = log_batch_weights(4, 100, "stratified").exp()
    assert weights.diagonal().tolist() == pytest.approx([0.01] * 4)
    torch.testing.assert_close(weights.sum(1), torch.ones(4, dtype=F64))
    assert log_batch_weights(4, 100, "weighted").exp().unique().tolist() == pytest.approx([1 / 400])


def test_the_three_parts_against_quadrature():
    model, objective = Rows(), BetaTC()
    x = POINTS.repeat(400, 1)  # q(z) of the whole batch is that of the three points
    objective.prepare(len(x))
    terms = loss_of(objective, model, x).terms
    found = [float(terms[name]) for name in ("information", "total_correlation", "marginal_kl")]
    exact = exact_parts(model, POINTS)
    assert found == pytest.approx(exact, abs=0.06)  # 4 standard errors of 1,200 draws
    assert exact[1] > 0.2
    assert sum(exact) == pytest.approx(float(terms["kl"].mean()), abs=1e-3)


def test_weighted_totals_are_too_large_by_log_n_per_dimension():
    model = Rows()
    x = POINTS.repeat(10, 1)
    found = {}
    for weighting in ("stratified", "weighted"):
        objective = BetaTC(weighting=weighting)
        objective.prepare(10_000)
        found[weighting] = float(loss_of(objective, model, x).terms["total_correlation"])
    gap = found["weighted"] - found["stratified"]
    assert gap == pytest.approx(math.log(10_000), rel=0.05)  # (D - 1) log N where rows of a batch overlap


def test_parts_add_up_to_the_sampled_kl_and_enter_with_their_weights():
    model = make()
    objectives = {weights: BetaTC(*weights) for weights in [(1, 1, 1), (4, 1, 1), (1, 3, 1), (1, 1, 0.5)]}
    losses = {}
    for weights, objective in objectives.items():
        objective.prepare(50)
        losses[weights] = loss_of(objective, model)
    terms = losses[1, 1, 1].terms
    sampled = loss_of(ELBO(kl="sampled"), model).terms["kl"].mean()
    torch.testing.assert_close(terms["information"] + terms["total_correlation"] + terms["marginal_kl"], sampled)
    base = losses[1, 1, 1].value
    torch.testing.assert_close(base, loss_of(ELBO(), model).value)
    for weights, extra in [((4, 1, 1), 3 * terms["total_correlation"]), ((1, 3, 1), 2 * terms["information"])]:
        torch.testing.assert_close(losses[weights].value, base + extra)
    torch.testing.assert_close(losses[1, 1, 0.5].value, base - 0.5 * terms["marginal_kl"])


# --- DIP-VAE, InfoVAE, capacity, denoising ---------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "factor"), [("i", 10), ("ii", 1)])
def test_dip_penalties_are_those_of_numpy(kind, factor):
    model = make()
    q = model.posterior(X)
    covariance = np.cov(q.mean.detach().numpy().T, bias=True)
    if kind == "ii":
        covariance += np.diag(q.variance.detach().numpy().mean(0))
    off = (covariance**2).sum() - (np.diag(covariance) ** 2).sum()
    diagonal = ((np.diag(covariance) - 1) ** 2).sum()
    loss = loss_of(DIPVAE(kind, off_diagonal=3.0), model)
    assert number(loss.terms["off_diagonal"]) == pytest.approx(off)
    assert number(loss.terms["diagonal"]) == pytest.approx(diagonal)
    elbo = loss_of(ELBO(), model).value
    assert number(loss.value - elbo) == pytest.approx(3 * off + 3 * factor * diagonal)
    other = loss_of(DIPVAE(kind, off_diagonal=3.0, diagonal=2.0), model)
    assert number(other.value - elbo) == pytest.approx(3 * off + 2 * diagonal)


def test_info_vae_takes_the_mmd_of_the_two_sample_test():
    model = make()
    with engine.seeded(4):
        z = model.posterior(X).rsample()
        model.likelihood(z)
        from_prior = model.prior().sample((6,))
    expected = vk.evaluation.mmd(z.detach(), from_prior, bandwidth=6**0.5, num_permutations=1).value
    loss = loss_of(InfoVAE(alpha=0.3, weight=20.0), model)
    assert number(loss.terms["mmd"]) == pytest.approx(expected)
    plain = loss_of(ELBO(), model)
    value = 0.7 * plain.terms["kl"] - plain.terms["log_likelihood"]
    assert number(loss.value) == pytest.approx(number(value.mean()) + 19.3 * expected)
    torch.testing.assert_close(loss_of(InfoVAE(0.0, 1.0), model).value, plain.value)


def test_capacity_draws_the_kl_from_both_sides():
    model = make()
    plain = loss_of(ELBO(), model)
    kl = number(plain.terms["kl"].mean())
    for capacity, sign in ((kl - 0.1, 1), (kl + 0.1, -1)):
        loss = loss_of(Capacity(capacity, gamma=50.0), model)
        assert number(loss.value) == pytest.approx(50 * 0.1 - number(plain.terms["log_likelihood"].mean()))
        parameters = list(model.posterior_parameters())
        mine = torch.autograd.grad(loss.value, parameters)
        other = torch.autograd.grad(loss_of(ELBO(beta=0.0), model).value, parameters)
        divergence = torch.autograd.grad(loss_of(ELBO(), model).terms["kl"].mean(), parameters)
        for m, o, d in zip(mine, other, divergence, strict=True):
            torch.testing.assert_close(m, o + sign * 50 * d)
    objective = Capacity(schedules.Linear(0.0, 8.0, 4))
    for step in range(3):
        assert float(loss_of(objective, model).terms["capacity"]) == pytest.approx(2.0 * step)
        objective.advance()


@pytest.mark.parametrize(("corruption", "level"), [("normal", 0.7), ("mask", 0.3), ("flip", 0.3)])
def test_denoising_corrupts_the_input_of_the_encoder_alone(corruption, level):
    seen = []

    class Spy(Rows):
        def posterior(self, x):
            seen.append(x)
            return super().posterior(x)

    x = torch.cat([POINTS, torch.full((1, 2), torch.nan, dtype=F64)]).repeat(2_000, 1)
    x[3::4] = torch.nan
    corrupted = Denoising(corruption, level)._corrupted(x)
    assert bool((corrupted.isnan() == x.isnan()).all())
    x = POINTS.repeat(2_000, 1)
    loss = loss_of(Denoising(corruption, level), Spy(), x)
    (given,) = seen
    if corruption == "normal":
        assert float((given - x).std()) == pytest.approx(level, rel=0.05)
    else:
        assert float((given != x).double().mean()) == pytest.approx(level, abs=0.02)
        hit = given != x
        torch.testing.assert_close(given[hit], (1 - x if corruption == "flip" else 0 * x)[hit])
    with engine.seeded(4):
        torch.randn_like(x) if corruption == "normal" else torch.rand_like(x)
        expected = bounds.elbo_terms(Rows(), x, posterior=Rows().posterior(given))
    torch.testing.assert_close(loss.terms["log_likelihood"], expected[0])
    torch.testing.assert_close(loss.terms["kl"], expected[1])


# --- FactorVAE: the discriminator (its optimiser: test_adversary.py) --------------------------------------------------


class LogRatio(nn.Module):
    """The best discriminator there is, where q(z) is known: log q(z) - sum_j log q(z_j)."""

    in_shape = (2,)

    def __init__(self, model, points):
        super().__init__()
        self.model, self.points = model, points

    def forward(self, z):
        densities = self.model.posterior(self.points).log_prob_per_element(z.unsqueeze(1))
        size = math.log(len(self.points))
        joint, each = torch.logsumexp(densities.sum(-1), 1) - size, torch.logsumexp(densities, 1) - size
        return (joint - each.sum(-1)).unsqueeze(1)


def test_the_best_discriminator_gives_the_total_correlation():
    model, objective = Rows(), FactorVAE(gamma=3.0)
    identity = nn.Linear(1, 1).double()
    with torch.no_grad():
        identity.weight.fill_(1.0)
        identity.bias.fill_(0.0)
    objective.discriminator = nn.Sequential(LogRatio(model, POINTS), identity)
    x = POINTS.repeat(700, 1)
    loss = loss_of(objective, model, x)
    exact = exact_parts(model, POINTS)[1]
    assert float(loss.terms["total_correlation"].detach()) == pytest.approx(exact, abs=0.06)
    value = -loss.terms["elbo"].mean() + 3 * loss.terms["total_correlation"]
    torch.testing.assert_close(loss.value, value)


def test_a_trained_discriminator_finds_the_total_correlation_of_a_gaussian():
    rho, model, objective = 0.8, Rows(scale=0.01), FactorVAE(hidden=(32, 32))
    objective.build(model)
    optimizer = None
    for _ in range(500):
        noise = torch.randn(256, 2, dtype=F64)
        x = torch.stack([noise[:, 0], rho * noise[:, 0] + math.sqrt(1 - rho**2) * noise[:, 1]], 1)
        value = objective.adversary(model, x).value
        optimizer = optimizer or torch.optim.Adam(objective.adversary_parameters(), lr=5e-3)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    noise = torch.randn(5_000, 2, dtype=F64)
    x = torch.stack([noise[:, 0], rho * noise[:, 0] + math.sqrt(1 - rho**2) * noise[:, 1]], 1)
    found = float(objective(model, x).terms["total_correlation"])
    assert found == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.12)


def test_the_models_loss_does_not_reach_the_discriminator():
    model, objective = make(), FactorVAE(hidden=(8,))
    loss_of(objective, model).value.backward()
    assert all(p.grad is None for p in objective.adversary_parameters())
    model.zero_grad()
    objective.adversary(model, X).value.backward()
    assert all(p.grad is not None for p in objective.adversary_parameters())
    assert all(p.grad is None for p in model.parameters())


# --- What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", [BetaTC(), FactorVAE(), DIPVAE("ii")], ids=repr)
def test_correlated_posteriors_are_refused_by_what_needs_factorised_ones(objective):
    objective.prepare(100)
    with pytest.raises(ConfigError, match="defined for a factorised posterior"):
        objective(make(posteriors.FullNormal(3)), X)


@pytest.mark.parametrize(
    "objective", [BetaTC, lambda: DIPVAE("ii"), lambda: ELBO(free_bits=0.2)], ids=["BetaTC", "DIPVAE", "free bits"]
)
def test_torchs_products_factorise_as_ours_do(objective):
    class Torchs(Rows):
        def posterior(self, x):
            return Independent(super().posterior(x).base, 1)

        def prior(self):
            return Independent(super().prior().base, 1)

    objective = objective()
    objective.prepare(3)
    ours, torchs = (loss_of(objective, model, POINTS) for model in (Rows(), Torchs()))
    assert number(torchs.value) == pytest.approx(number(ours.value), rel=1e-9)


@pytest.mark.parametrize("objective", [BetaTC(), FactorVAE(), InfoVAE()], ids=repr)
def test_latents_without_a_path_are_refused(objective):
    objective.prepare(100)
    with pytest.raises(ConfigError, match="can be reparameterised"):
        objective(make(BernoulliPosterior(3)), X)


class LearnedPrior(nn.Module):
    """A Gaussian with learned means; as a mixture of one component its draws carry no gradients."""

    def __init__(self, as_mixture):
        super().__init__()
        self.loc, self.as_mixture = nn.Parameter(torch.full((3,), 0.5, dtype=F64)), as_mixture

    def forward(self):
        base = Product(Normal(self.loc, torch.ones_like(self.loc), validate_args=False), 1)
        if not self.as_mixture:
            return base
        one = Categorical(torch.ones(1, dtype=F64), validate_args=False)
        return MixtureSameFamily(one, base.expand((1,)), validate_args=False)


def test_the_discrepancy_moves_a_learned_prior():
    model = make()
    model.prior = LearnedPrior(as_mixture=False)
    with torch.no_grad():
        model.prior.loc.fill_(1.5)
    (gradient,) = torch.autograd.grad(loss_of(InfoVAE(alpha=1.0), model).value, [model.prior.loc])
    assert bool((gradient > 0).all()), "downhill is towards the codes, whose means are near 0"


def test_a_learned_prior_that_nothing_would_move_is_refused():
    model = make()
    model.prior = LearnedPrior(as_mixture=True)
    with pytest.raises(ConfigError, match="nothing moves a learned prior"):
        loss_of(InfoVAE(alpha=1.0), model)
    (gradient,) = torch.autograd.grad(loss_of(InfoVAE(alpha=0.0), model).value, [model.prior.loc])
    assert bool((gradient != 0).all()), "below alpha = 1 the KL moves it"


def test_what_a_batch_cannot_tell_is_refused():
    with pytest.raises(ConfigError, match="prepare"):
        BetaTC()(make(), X)
    objective = BetaTC()
    objective.prepare(100)
    with pytest.raises(ConfigError, match="at least 2 rows; got 1"):
        objective(make(), X[:1])
    with pytest.raises(ConfigError, match="at least 2 rows; got 1"):
        InfoVAE()(make(), X[:1])


@pytest.mark.parametrize(
    ("make_one", "message"),
    [
        (lambda: BetaTC(-1.0), "not negative"),
        (lambda: BetaTC(weighting="exact"), '"stratified" or "weighted"'),
        (lambda: DIPVAE("iii"), '"i" or "ii"'),
        (lambda: DIPVAE(off_diagonal=-1.0), "not negative"),
        (lambda: InfoVAE(alpha=1.5), "alpha is at most 1"),
        (lambda: InfoVAE(alpha=0.0, weight=0.5), "weight is at least 1 - alpha"),
        (lambda: InfoVAE(bandwidth=0.0), "bandwidth is positive"),
        (lambda: Capacity(-1.0), "capacity is not negative"),
        (lambda: Capacity(gamma=-1.0), "gamma is not negative"),
        (lambda: FactorVAE(gamma=-1.0), "gamma is not negative"),
        (lambda: FactorVAE(hidden=()), "at least one hidden layer"),
        (lambda: FactorVAE(adversary_learning_rate=0.0), "adversary_learning_rate is positive"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make_one, message):
    with pytest.raises(ConfigError, match=message):
        make_one()
