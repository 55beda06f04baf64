"""Gradients along the path of z: no noise at the exact posterior, and the expectation of the plain gradient.

As for the score function, the rows of one batch are replicates with parameters of their own.
"""

import pytest
import torch
from components import BernoulliPosterior, BernoulliPrior
from torch.distributions import Normal

from vaekit import VAE, Conditional, bounds, engine, likelihoods, networks
from vaekit.distributions import Product
from vaekit.errors import ConfigError
from vaekit.objectives import ELBO, IWAE, STL, DReG

F64 = torch.float64
SLOPE = torch.tensor([1.0, -0.5, 0.3, 0.8], dtype=F64)
X = torch.tensor([0.4, -1.0, 0.8, 0.2], dtype=F64)
NOISE = 0.6


class Line:
    """One latent, x|z ~ N(z w + b, 0.6^2 I); q(z|x) = N(m, s^2) with m, log s and b per row."""

    def __init__(self, loc, log_scale, rows):
        self.q = torch.tensor([loc, log_scale], dtype=F64).expand(rows, -1).clone().requires_grad_()
        self.bias = torch.zeros(rows, 4, dtype=F64).requires_grad_()

    @classmethod
    def exact(cls, rows):
        precision = 1 + SLOPE.square().sum() / NOISE**2
        return cls(float(X @ SLOPE / NOISE**2 / precision), float(-0.5 * precision.log()), rows)

    def posterior(self, x):
        return Product(Normal(self.q[:, :1], self.q[:, 1:].exp(), validate_args=False), 1)

    def prior(self):
        zero = torch.zeros(1, dtype=F64)
        return Product(Normal(zero, zero + 1, validate_args=False), 1)

    def likelihood(self, z):
        return Product(Normal(z * SLOPE + self.bias, torch.tensor(NOISE, dtype=F64), validate_args=False), 1)

    def gradients(self, objective):
        value = objective(self, X.expand(len(self.q), 4)).value * len(self.q)
        return torch.autograd.grad(value, (self.q, self.bias))


def agree(first, second):
    """Means over the rows within 4 standard errors of their difference."""
    for a, b in zip(first, second, strict=True):
        error = ((a.var(0) + b.var(0)) / len(a)).sqrt()
        assert float(error.max()) < 0.1
        if bool(((a.mean(0) - b.mean(0)).abs() > 4 * error).any()):
            return False
    return True


@pytest.mark.parametrize("objective", [STL(1), STL(4), STL(4, bound="iwae"), DReG(1), DReG(6)], ids=repr)
def test_the_gradient_of_q_is_zero_at_the_exact_posterior(objective):
    gradient, _ = Line.exact(200).gradients(objective)
    assert float(gradient.abs().max()) < 1e-10
    plain, _ = Line.exact(200).gradients(IWAE(objective.num_samples))
    assert float(plain.std(0).min()) > 0.05  # the score alone is noise


@pytest.mark.parametrize(
    ("objective", "plain"),
    [
        (STL(1), ELBO(1, kl="sampled")),
        (STL(3), ELBO(3)),
        (STL(1, bound="iwae"), IWAE(1)),
        (DReG(1), IWAE(1)),
        (DReG(5), IWAE(5)),
    ],
    ids=repr,
)
def test_the_expectation_is_that_of_the_plain_gradient(objective, plain):
    assert agree(Line(-0.3, -0.2, 40_000).gradients(objective), Line(-0.3, -0.2, 40_000).gradients(plain))


def test_without_the_score_the_gradient_of_iwae_is_biased():
    first, second = (Line(-0.3, -0.2, 40_000).gradients(o) for o in (STL(5, bound="iwae"), IWAE(5)))
    assert not agree(first[:1], second[:1])
    assert agree(first[1:], second[1:])  # that of p(x, z) is right


def test_double_reparameterisation_lowers_the_noise():
    noisy, _ = Line(0.1, -0.7, 4_000).gradients(IWAE(50))
    quiet, _ = Line(0.1, -0.7, 4_000).gradients(DReG(50))
    assert bool((quiet.std(0) < 0.2 * noisy.std(0)).all())


@pytest.mark.parametrize("objective", [STL(3), STL(3, bound="iwae"), DReG(3)], ids=repr)
def test_values_are_those_of_the_bounds(objective):
    model, x = Line(-0.3, -0.2, 7), X.expand(7, 4)
    with engine.seeded(1):
        weights = bounds.log_weights(model, x, 3)
    with engine.seeded(1):
        loss = objective(model, x)
    torch.testing.assert_close(loss.terms["elbo"], weights.mean(0))
    torch.testing.assert_close(loss.terms["iwae"], bounds.log_mean_exp(weights))
    torch.testing.assert_close(loss.value, -loss.terms[objective.selects].mean())
    with engine.seeded(1), torch.no_grad():
        assert torch.equal(objective(model, x).value, loss.value.detach())


@pytest.mark.parametrize("objective", [STL(), DReG()], ids=repr)
def test_latents_without_a_path_are_refused(objective):
    model = VAE(
        encoder=Conditional(networks.MLP(5, (8,)), BernoulliPosterior(3)),
        decoder=Conditional(networks.MLP(3, (8,)), likelihoods.Normal(5)),
        prior=BernoulliPrior((3,)),
    )
    with pytest.raises(ConfigError, match="can be reparameterised"):
        objective(model, torch.zeros(2, 5))


def test_other_settings_are_refused():
    with pytest.raises(ConfigError, match="num_samples is at least 1"):
        DReG(0)
    with pytest.raises(ConfigError, match="num_samples is at least 1"):
        STL(0)
    with pytest.raises(ConfigError, match='"elbo" or "iwae"; got \'vr\''):
        STL(bound="vr")
