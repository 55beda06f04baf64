"""Objectives: what they minimise, in terms of the bounds; schedules, free bits, state."""

import copy

import pytest
import torch
from components import OBJECTIVES, BernoulliPosterior, BernoulliPrior, rows
from torch.distributions import Normal

from vaekit import VAE, Conditional, bounds, kl, likelihoods, networks, posteriors, priors, schedules
from vaekit.distributions import Product
from vaekit.errors import ConfigError
from vaekit.objectives import ELBO, IWAE, Loss, Objective
from vaekit.testing import check_objective

F64 = torch.float64


def make(posterior=None, dtype=F64) -> VAE:
    return VAE(
        encoder=Conditional(networks.MLP(5, (8,), "tanh"), posterior or posteriors.DiagonalNormal(3)),
        decoder=Conditional(networks.MLP(3, (8,), "tanh"), likelihoods.Normal(5, scale=0.5)),
        prior=BernoulliPrior((3,)) if isinstance(posterior, BernoulliPosterior) else priors.StandardNormal(3),
    ).to(dtype)


def seeded(function, *arguments):
    torch.manual_seed(4)
    return function(*arguments)


X = torch.linspace(-2, 2, 30, dtype=F64).reshape(6, 5)


@pytest.mark.parametrize(("name", "factory"), rows(OBJECTIVES))
def test_conformance(name, factory):
    check_objective(factory())
    check_objective(factory(), make())


@pytest.mark.parametrize("objective", [ELBO(), ELBO(num_samples=3), IWAE(4)])
def test_conformance_on_latents_that_cannot_be_reparameterised(objective):
    check_objective(objective, make(BernoulliPosterior(3)))


def test_the_check_finds_an_objective_that_forgets_the_encoder():
    class Deaf(Objective):
        def forward(self, model, x):
            z = model.posterior(x).sample()
            log_likelihood = model.likelihood(z).log_prob(x)
            return Loss(-log_likelihood.mean(), {"log_likelihood": log_likelihood})

    with pytest.raises(AssertionError, match="a gradient of value for encoder"):
        check_objective(Deaf())


def test_the_check_finds_terms_with_the_wrong_sign():
    class Backwards(ELBO):
        def forward(self, model, x):
            value, terms = super().forward(model, x)
            return Loss(value, terms | {"elbo": -terms["elbo"]})

    with pytest.raises(AssertionError, match="elbo = log_likelihood - kl, with natural signs"):
        check_objective(Backwards())


# --- ELBO ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "analytic", "sampled"])
@pytest.mark.parametrize("num_samples", [1, 4])
@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
def test_the_value_is_beta_kl_minus_log_likelihood(mode, num_samples, beta):
    model = make()
    log_likelihood, divergence = seeded(bounds.elbo_terms, model, X, num_samples, mode)
    loss = seeded(ELBO(num_samples, beta=beta, kl=mode), model, X)
    torch.testing.assert_close(loss.value, -(log_likelihood - beta * divergence).mean())
    assert loss.terms.keys() == {"elbo", "log_likelihood", "kl"}
    torch.testing.assert_close(loss.terms["log_likelihood"], log_likelihood)
    torch.testing.assert_close(loss.terms["kl"], divergence)
    torch.testing.assert_close(loss.terms["elbo"], log_likelihood - divergence)  # the bound, whatever beta is


def test_beta_reaches_the_gradient():
    model = make()
    parameters = list(model.posterior_parameters())
    gradients = [
        torch.cat([g.flatten() for g in torch.autograd.grad(seeded(ELBO(beta=b), model, X).value, parameters)])
        for b in (0.0, 1.0, 1000.0)
    ]
    torch.testing.assert_close(gradients[2] - gradients[0], 1000 * (gradients[1] - gradients[0]))
    assert float((gradients[1] - gradients[0]).norm()) > 1e-3


def test_a_schedule_follows_the_step():
    model, objective = make(), ELBO(beta=schedules.Linear(0.0, 2.0, 4))
    for step in range(6):
        log_likelihood, divergence = seeded(bounds.elbo_terms, model, X)
        loss = seeded(objective, model, X)
        beta = min(step / 2, 2.0)
        assert float(loss.terms["beta"]) == pytest.approx(beta)
        torch.testing.assert_close(loss.value, (beta * divergence - log_likelihood).mean())
        torch.testing.assert_close(objective.validation_terms(model, X)["kl"], divergence)
        assert int(objective.step) == step
        objective.advance()


def test_the_step_is_part_of_the_state():
    objective = ELBO(beta=schedules.Linear(0.0, 1.0, 10))
    for _ in range(7):
        objective.advance()
    fresh = ELBO(beta=schedules.Linear(0.0, 1.0, 10))
    fresh.load_state_dict(objective.state_dict())
    assert float(fresh(make(), X).terms["beta"]) == pytest.approx(0.7)


def test_free_bits_leave_no_gradient_below_the_floor():
    model = make()
    per_dimension = kl.kl_per_dimension(model.posterior(X), model.prior()).mean(0).detach()
    for floor in (0.0, float(per_dimension.sort().values[1]) + 1e-6, 100.0):
        loss = seeded(ELBO(free_bits=floor), model, X)
        log_likelihood, divergence = seeded(bounds.elbo_terms, model, X)
        expected = per_dimension.clamp(min=floor).sum() - log_likelihood.mean()
        torch.testing.assert_close(loss.value, expected)
        torch.testing.assert_close(loss.terms["kl"], divergence)
        torch.testing.assert_close(loss.terms["elbo"], log_likelihood - divergence)
    parameters = list(model.posterior_parameters())
    covered = torch.autograd.grad(seeded(ELBO(free_bits=100.0), model, X).value, parameters)
    without = torch.autograd.grad(seeded(ELBO(beta=0.0), model, X).value, parameters)
    for a, b in zip(covered, without, strict=True):
        torch.testing.assert_close(a, b)
    with pytest.raises(ConfigError, match="factorised"):
        ELBO(free_bits=0.1)(make(posteriors.FullNormal(3)), X)


def test_the_running_baseline_is_state_and_learns_only_in_training():
    model, objective = make(BernoulliPosterior(3)), ELBO()
    objective.eval()
    objective(model, X)
    objective.advance()
    assert objective.state_dict()["baseline"].tolist() == [0.0, 0.0]
    objective = ELBO()
    terms = {name: float(term.detach().mean()) for name, term in objective(model, X).terms.items()}
    assert objective.baseline.tolist() == [0.0, 0.0], "it moves with the update, not in the forward pass"
    objective.advance()
    expected = [terms["log_likelihood"], terms["kl"]]
    assert objective.baseline.tolist() == pytest.approx(expected, rel=1e-5)
    second = copy.deepcopy(objective)
    terms = {name: float(term.detach().mean()) for name, term in second(model, X).terms.items()}
    second.advance()
    moved = [0.9 * expected[0] + 0.1 * terms["log_likelihood"], 0.9 * expected[1] + 0.1 * terms["kl"]]
    assert second.baseline.tolist() == pytest.approx(moved, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_an_objective_follows_the_dtype_of_the_model(dtype):
    for objective in (ELBO().to(dtype), ELBO(beta=schedules.Linear(0, 1, 3)), IWAE(2).to(dtype)):
        model = make(BernoulliPosterior(3), dtype)
        loss = objective(model, X.to(dtype))
        objective.advance()
        loss = objective(model, X.to(dtype))
        assert loss.value.dtype == dtype


# --- IWAE ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_samples", [1, 3, 10])
def test_iwae_is_minus_its_bound(num_samples):
    model = make()
    bound = seeded(bounds.iwae, model, X, num_samples)
    draw = seeded(bounds.draw, model, X, num_samples)
    objective = IWAE(num_samples)
    loss = seeded(objective, model, X)
    torch.testing.assert_close(loss.value, -bound.mean())
    torch.testing.assert_close(loss.terms["iwae"], bound)
    torch.testing.assert_close(loss.terms["elbo"], draw.log_weights.mean(0))
    torch.testing.assert_close(loss.terms["elbo"], loss.terms["log_likelihood"] - loss.terms["kl"])
    assert bool((loss.terms["iwae"] >= loss.terms["elbo"] - 1e-12).all())
    terms = seeded(objective.validation_terms, model, X)
    assert terms.keys() == loss.terms.keys()
    assert objective.selects in terms
    torch.testing.assert_close(terms["iwae"], bound)


@pytest.mark.parametrize("objective", [ELBO(num_samples=5), IWAE(5)])
def test_the_number_of_samples_is_honoured_exactly(objective):
    rows = []

    class Foreign:
        def posterior(self, x):
            return Product(Normal(x[:, :2], torch.ones((), dtype=F64)), 1)

        def prior(self):
            return Product(Normal(torch.zeros(2, dtype=F64), torch.ones(2, dtype=F64)), 1)

        def likelihood(self, z):
            rows.append(z[..., 0].numel())
            return Product(Normal(z.sum(-1, keepdim=True).expand(*z.shape[:-1], 5), torch.ones((), dtype=F64)), 1)

    loss = objective(Foreign(), X)
    assert sum(rows) == 5 * len(X)
    assert loss.terms["elbo"].shape == (6,)


# --- A bare loop, and errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", [ELBO(), IWAE(3)])
def test_a_bare_loop_learns(objective):
    model = make(dtype=torch.float32)
    x = torch.randn(64, 1) @ torch.randn(1, 5) + 0.1 * torch.randn(64, 5)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    values = []
    for _ in range(150):
        optimiser.zero_grad()
        loss = objective(model, x)
        loss.value.backward()
        optimiser.step()
        objective.advance()
        values.append(loss.value.item())
    assert sum(values[-10:]) < sum(values[:10]) - 10  # at least one nat per datum
    assert int(objective.step) == 150


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="num_samples is at least 1; got 0"):
        ELBO(num_samples=0)
    with pytest.raises(ConfigError, match="num_samples is at least 1; got 0"):
        IWAE(0)
    with pytest.raises(ConfigError, match="beta is not negative; got -1"):
        ELBO(beta=-1.0)
    with pytest.raises(ConfigError, match="free_bits is not negative"):
        ELBO(free_bits=-0.1)
    with pytest.raises(ConfigError, match="kl is"):
        ELBO(kl="exact")(make(), X)


def test_objectives_print_their_arguments():
    assert repr(ELBO(beta=4.0)) == "ELBO(num_samples=1, beta=4.0, kl='auto', free_bits=None)"
    assert repr(IWAE(7)) == "IWAE(num_samples=7)"
