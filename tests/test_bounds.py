"""Bounds on log p(x) where log p(x) is known exactly, and gradients where they are."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from vaekit import VAE, Conditional, bounds, kl, likelihoods, networks, posteriors, priors
from vaekit.distributions import Product
from vaekit.errors import ConfigError

F64 = torch.float64


class LinearGaussian:
    """z ~ N(0, I), x|z ~ N(W z + b, s2 I): a foreign model, no nn.Module, whose posterior and log p(x) are known.

    q is the exact posterior where `q` is None, otherwise what the given function makes of x.
    """

    def __init__(self, num_latents=2, num_columns=4, variance=0.3, q=None):
        self.weight = torch.randn(num_columns, num_latents, dtype=F64)
        self.bias = torch.randn(num_columns, dtype=F64)
        self.variance, self.q = variance, q
        self.rows_decoded = 0

    def prior(self):
        size = self.weight.shape[1]
        return Product(Normal(torch.zeros(size, dtype=F64), torch.ones(size, dtype=F64)), 1)

    def likelihood(self, z):
        self.rows_decoded += z[..., 0].numel()
        scale = torch.tensor(math.sqrt(self.variance), dtype=F64)
        return Product(Normal(z @ self.weight.T + self.bias, scale), 1)

    def exact_posterior(self, x):
        size = self.weight.shape[1]
        precision = torch.eye(size, dtype=F64) + self.weight.T @ self.weight / self.variance
        loc = torch.linalg.solve(precision, self.weight.T @ (x - self.bias).T / self.variance).T
        return MultivariateNormal(loc, precision_matrix=precision.expand(len(x), size, size))

    def posterior(self, x):
        return self.exact_posterior(x) if self.q is None else self.q(x)

    def log_marginal(self, x):
        covariance = self.weight @ self.weight.T + self.variance * torch.eye(len(self.bias), dtype=F64)
        return MultivariateNormal(self.bias, covariance).log_prob(x)


def crude(x):
    """A posterior that is wrong, but not by much."""
    return Product(Normal(0.3 * x[:, :2], torch.full((len(x), 2), 0.6, dtype=F64)), 1)


def expected_log_likelihood(model, q, x):
    """E_q[log p(x|z)] of a linear-Gaussian model, in closed form."""
    covariance = torch.diag_embed(q.variance) if isinstance(q, Product) else q.covariance_matrix
    at_mean = model.likelihood(q.mean).log_prob(x)
    spread = torch.einsum("ij,bjk,ik->b", model.weight, covariance, model.weight)
    return at_mean - 0.5 * spread / model.variance


X = torch.linspace(-2, 2, 12, dtype=F64).reshape(3, 4)


def test_a_foreign_object_is_a_model():
    assert isinstance(LinearGaussian(), bounds.LatentVariableModel)
    assert not isinstance(object(), bounds.LatentVariableModel)


@pytest.mark.parametrize("make", ["diagonal", "full"])
def test_log_p_is_elbo_plus_the_divergence_from_the_exact_posterior(make):
    # Equation 13.12, with every term in closed form.
    model = LinearGaussian(q=crude)
    q = crude(X)
    if make == "full":
        tril = torch.tensor([[0.5, 0.0], [0.3, 0.9]], dtype=F64).expand(3, 2, 2)
        q = MultivariateNormal(q.mean, scale_tril=tril)
    elbo = expected_log_likelihood(model, q, X) - kl.kl_divergence(q, model.prior())
    gap = kl.kl_divergence(q, model.exact_posterior(X))
    torch.testing.assert_close(elbo + gap, model.log_marginal(X), rtol=1e-12, atol=1e-12)
    # and what the library estimates is that elbo
    model.q = lambda x: q
    for mode in ("analytic", "sampled"):
        terms = torch.stack([bounds.elbo(model, X, num_samples=50, kl=mode) for _ in range(200)])
        stderr = terms.std(0) / math.sqrt(len(terms))
        assert bool(((terms.mean(0) - elbo).abs() < 5 * stderr).all())


def test_the_least_divergence_from_the_posterior_is_the_greatest_elbo():
    # Equations 13.11, 13.13 and 13.14: log p(x) does not depend on q, so that what moves q moves both by as much.
    model = LinearGaussian()
    mean, raw = (part.clone().requires_grad_() for part in (crude(X).mean, crude(X).stddev.log()))
    q = Product(Normal(mean, raw.exp()), 1)
    elbo = expected_log_likelihood(model, q, X) - kl.kl_divergence(q, model.prior())
    gap = kl.kl_divergence(q, model.exact_posterior(X))
    up = torch.autograd.grad(elbo.sum(), (mean, raw), retain_graph=True)
    down = torch.autograd.grad(gap.sum(), (mean, raw))
    for a, b in zip(up, down, strict=True):
        assert float(a.abs().max()) > 0.01
        torch.testing.assert_close(a, -b, rtol=1e-10, atol=1e-12)
    exact = model.exact_posterior(X)
    best = expected_log_likelihood(model, exact, X) - kl.kl_divergence(exact, model.prior())
    assert bool((best > elbo).all())
    torch.testing.assert_close(best, model.log_marginal(X), rtol=1e-12, atol=1e-12)


def test_the_bounds_are_ordered_and_importance_weights_average_to_p():
    model = LinearGaussian()
    exact = model.exact_posterior(X)
    model.q = lambda x: Product(Normal(exact.mean + 0.1, 1.5 * exact.stddev), 1)
    log_p = model.log_marginal(X)
    weights = bounds.log_weights(model, X, 64_000)
    previous = None
    for num_samples in (1, 4, 16, 64):
        values = bounds.log_mean_exp(weights.reshape(num_samples, -1, 3)).reshape(-1, 3)
        mean, stderr = values.mean(0), values.std(0) / math.sqrt(len(values))
        assert bool((mean < log_p + 5 * stderr).all())
        if previous is not None:
            assert bool((mean > previous).all())
        previous = mean
    torch.testing.assert_close(bounds.log_mean_exp(weights), log_p, rtol=0, atol=0.03)


def test_iwae_is_the_log_of_the_mean_weight_and_not_a_weighted_mean():
    model = LinearGaussian(q=crude)
    torch.manual_seed(5)
    value = bounds.iwae(model, X, 7)
    torch.manual_seed(5)
    draw = bounds.draw(model, X, 7)
    assert draw.z.shape == (7, 3, 2)
    weights = (draw.log_likelihood + draw.log_prior - draw.log_posterior).exp()
    torch.testing.assert_close(value, weights.mean(0).log(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(draw.log_weights.exp(), weights, rtol=1e-10, atol=0)
    torch.testing.assert_close(draw.log_likelihood, model.likelihood(draw.z).log_prob(X))


def test_iwae_with_one_sample_is_the_elbo_with_a_sampled_divergence():
    model = LinearGaussian(q=crude)
    torch.manual_seed(5)
    value = bounds.iwae(model, X, 1)
    torch.manual_seed(5)
    torch.testing.assert_close(value, bounds.elbo(model, X, 1, kl="sampled"), rtol=1e-12, atol=1e-12)


def test_at_the_exact_posterior_every_weight_is_p_of_x():
    model = LinearGaussian()
    log_p = model.log_marginal(X)
    weights = bounds.log_weights(model, X, 100)
    assert float(weights.std(0).max()) < 1e-10
    torch.testing.assert_close(weights, log_p.expand(100, 3), rtol=0, atol=1e-10)
    for _ in range(5):  # no variance with the sampled divergence, some with the closed form
        torch.testing.assert_close(bounds.elbo(model, X, kl="sampled"), log_p, rtol=0, atol=1e-10)
        torch.testing.assert_close(bounds.iwae(model, X, 3), log_p, rtol=0, atol=1e-10)
    assert float((bounds.elbo(model, X, kl="analytic") - log_p).abs().max()) > 1e-3


@pytest.mark.parametrize("num_samples", [1, 2, 5, 250])
def test_the_number_of_samples_is_honoured_exactly(num_samples):
    model = LinearGaussian(q=crude)
    for function in (
        lambda: bounds.elbo_terms(model, X, num_samples),
        lambda: bounds.elbo_terms(model, X, num_samples, "sampled"),
        lambda: bounds.iwae(model, X, num_samples),
        lambda: bounds.log_weights(model, X, num_samples),
    ):
        model.rows_decoded = 0
        function()
        assert model.rows_decoded == num_samples * len(X)


def test_settings_that_make_no_sense_are_refused():
    model = LinearGaussian(q=crude)
    for function in (bounds.elbo, bounds.iwae, bounds.draw, bounds.log_weights):
        with pytest.raises(ConfigError, match="num_samples is at least 1; got 0"):
            function(model, X, 0)
    with pytest.raises(ConfigError, match='kl is "auto", "analytic" or "sampled"; got \'exact\''):
        bounds.elbo(model, X, kl="exact")


def test_a_pair_without_a_closed_form_is_sampled_or_refused():
    heavy = torch.distributions.StudentT(torch.full((2,), 5.0, dtype=F64))

    class HeavyPrior(LinearGaussian):
        def prior(self):
            return Product(heavy, 1)

    model = HeavyPrior(q=crude)
    with pytest.raises(ConfigError, match=r"no closed form.*kl=\"sampled\""):
        bounds.elbo(model, X, kl="analytic")
    torch.manual_seed(3)
    automatic = bounds.elbo_terms(model, X, 8)
    torch.manual_seed(3)
    sampled = bounds.elbo_terms(model, X, 8, "sampled")
    torch.manual_seed(3)
    z = bounds.draw(model, X, 8).z
    divergence = (crude(X).log_prob(z) - Product(heavy, 1).log_prob(z)).mean(0)
    for terms in (automatic, sampled):
        torch.testing.assert_close(terms[1], divergence, rtol=1e-12, atol=1e-12)


def test_auto_takes_the_closed_form_where_there_is_one():
    model = LinearGaussian(q=crude)
    exact = kl.kl_divergence(crude(X), model.prior())
    assert torch.equal(bounds.elbo_terms(model, X)[1], exact)
    assert not torch.equal(bounds.elbo_terms(model, X, kl="sampled")[1], exact)


# --- A small VAE against quadrature ----------------------------------------------------------------------------------

HEADS = [
    likelihoods.Bernoulli(3),
    likelihoods.ContinuousBernoulli(3),
    likelihoods.Normal(3, scale=0.5),
    likelihoods.Laplace(3, scale="network"),
    likelihoods.Categorical(3, 4),
    likelihoods.DiscretizedLogistic(3, num_levels=8),
    likelihoods.DiscretizedLogisticMixture(3, num_components=2, num_levels=8),
    likelihoods.DiscretizedLogisticMixture((3, 1, 1), num_components=2, num_levels=8),
    likelihoods.StudentT(3, df="network"),
    likelihoods.LogNormal(3),
    likelihoods.Beta(3),
    likelihoods.Poisson(3),
    likelihoods.NegativeBinomial(3, dispersion="network"),
    likelihoods.ZeroInflatedNegativeBinomial(3),
]


@pytest.mark.parametrize("head", HEADS, ids=lambda h: type(h).__name__)
@pytest.mark.parametrize("num_latents", [1, 2])
def test_log_p_agrees_with_quadrature_over_the_latents(head, num_latents):
    model = VAE(
        encoder=Conditional(networks.MLP(head.event_shape, (6,), "tanh"), posteriors.DiagonalNormal(num_latents)),
        decoder=Conditional(networks.MLP(num_latents, (8,), "tanh"), head),
        prior=priors.StandardNormal(num_latents),
    ).double()
    x = model.sample(4)
    points = 2001 if num_latents == 1 else 161
    axis = torch.linspace(-8, 8, points, dtype=F64)
    grid = torch.cartesian_prod(*[axis] * num_latents).reshape(-1, num_latents)
    with torch.no_grad():
        joint = model.likelihood(grid.unsqueeze(1)).log_prob(x) + model.prior().log_prob(grid).unsqueeze(1)
        exact = joint.logsumexp(0) + num_latents * math.log(16 / (points - 1))
        weights = bounds.log_weights(model, x, 40_000)
    ratio = (weights - exact).exp()
    stderr = ratio.std(0) / math.sqrt(len(ratio))
    assert float(stderr.max()) < 0.1
    assert bool(((ratio.mean(0) - 1).abs() < 5 * stderr).all())


def test_a_fixed_scale_makes_half_the_squared_error_plus_lambda_times_the_divergence():
    # Equation 13.28: the two objectives differ by the factor lambda and a constant, so their gradients agree.
    variance = 0.4
    model = VAE(
        encoder=Conditional(networks.MLP(5, (6,), "tanh"), posteriors.DiagonalNormal(2)),
        decoder=Conditional(networks.MLP(2, (6,), "tanh"), likelihoods.Normal(5, scale=math.sqrt(variance))),
        prior=priors.StandardNormal(2),
    ).double()
    x = torch.randn(7, 5, dtype=F64)
    torch.manual_seed(8)
    left = -variance * bounds.elbo(model, x).mean()
    torch.manual_seed(8)
    q = model.posterior(x)
    z = q.rsample((1,))
    squared = 0.5 * ((model.likelihood(z).mean - x) ** 2).sum(-1).mean()
    right = squared + variance * kl.kl_divergence(q, model.prior()).mean()
    parameters = list(model.parameters())
    for a, b in zip(torch.autograd.grad(left, parameters), torch.autograd.grad(right, parameters), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    constant = 0.5 * variance * 5 * math.log(2 * math.pi * variance)
    torch.testing.assert_close(left, right + constant, rtol=1e-10, atol=1e-10)
