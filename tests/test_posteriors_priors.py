"""Posteriors and priors: conformance, parameterisations, oracles; every name has a row in the table."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from components import (
    AT_LEAST_TWO,
    AXES,
    NOT_MEMBERS,
    POSTERIORS,
    PRIORS,
    SPHERES,
    VECTORS,
    BernoulliPosterior,
    BernoulliPrior,
    rows,
    whole,
)
from scipy import stats

from vaekit import posteriors, priors
from vaekit.errors import ConfigError, ShapeError
from vaekit.testing import check_posterior, check_prior

F64 = torch.float64


@pytest.mark.parametrize("package", AXES, ids=lambda p: p.__name__)
def test_every_member_has_a_row_in_the_table(package):
    assert set(package.__all__) - NOT_MEMBERS == set(AXES[package])


@pytest.mark.parametrize(("name", "factory"), rows(POSTERIORS))
@pytest.mark.parametrize("shape", [1, 4, (2, 3)])
def test_posteriors_conform(name, factory, shape):
    if not _is_refused(name, factory, shape):
        check_posterior(factory(shape))


@pytest.mark.parametrize(("name", "factory"), rows(PRIORS))
@pytest.mark.parametrize("shape", [1, 4, (2, 3)])
def test_priors_conform(name, factory, shape):
    if not _is_refused(name, factory, shape):
        check_prior(whole(factory(shape)))


def _is_refused(name, factory, shape):
    """Whether the event has a shape that the member says it cannot take."""
    is_vector, few = isinstance(shape, int), shape == 1
    if name in AT_LEAST_TWO and few:
        error, words = ConfigError, "a flow without enough dimensions"
    elif (name in VECTORS and not is_vector) or (name in SPHERES and few):
        error, words = ShapeError, "one dimension"
    else:
        return False
    with pytest.raises(error, match=words):
        factory(shape)
    return True


def test_foreign_discrete_components_conform():
    check_posterior(BernoulliPosterior(3))
    check_prior(BernoulliPrior((3,)))


def test_the_check_finds_draws_that_do_not_repeat():
    class Restless(torch.distributions.Normal):
        def sample(self, sample_shape=()):
            noise = np.random.default_rng().normal(size=self._extended_shape(sample_shape))
            return (self.loc + self.scale * torch.as_tensor(noise, dtype=self.loc.dtype)).detach()

    class Wrong(posteriors.DiagonalNormal):
        def forward(self, params):
            product = super().forward(params)
            product.base.__class__ = Restless
            return product

    with pytest.raises(AssertionError, match="equal draws for equal seeds"):
        check_posterior(Wrong(2))


def test_the_check_finds_a_prior_with_a_batch():
    class Wrong(priors.StandardNormal):
        def forward(self):
            return super().forward().expand((2,))

    with pytest.raises(AssertionError, match=r"expected batch shape \(\)"):
        check_prior(Wrong(2))


@pytest.mark.parametrize(
    ("kind", "scale"),
    [
        ("log-variance", lambda v: torch.exp(v / 2)),
        ("exp", torch.exp),
        ("softplus", F.softplus),
        ("softplus-variance", lambda v: F.softplus(v).sqrt()),
    ],
)
def test_diagonal_normal_takes_the_scale_that_its_name_says(kind, scale):
    raw = torch.linspace(-4, 4, 5, dtype=F64)
    loc = torch.linspace(-1, 1, 5, dtype=F64)
    q = posteriors.DiagonalNormal(5, scale=kind)(torch.stack([loc, raw]))
    z = torch.linspace(2, -2, 5, dtype=F64)
    expected = stats.norm.logpdf(z.numpy(), loc.numpy(), scale(raw).numpy()).sum()
    np.testing.assert_allclose(q.log_prob(z).item(), expected, rtol=1e-12)
    assert torch.equal(q.mean, loc)


@pytest.mark.parametrize("kind", ["softplus", "softplus-variance"])
def test_a_softplus_that_rounds_to_zero_leaves_finite_numbers(kind):
    params = torch.tensor([[0.0], [-200.0]], requires_grad=True)
    q = posteriors.DiagonalNormal(1, scale=kind)(params)
    value = q.log_prob(q.rsample())
    value.backward()
    assert value.isfinite()
    assert params.grad.isfinite().all()


def test_reparameterised_draws_are_location_plus_scale_times_noise():
    # Equations 13.25-13.26: dz/dmu = 1 and dz/dsigma = (z - mu) / sigma for every draw.
    params = torch.tensor([[0.3], [0.8]], dtype=F64, requires_grad=True)
    z = posteriors.DiagonalNormal(1, scale="exp")(params).rsample()
    (gradient,) = torch.autograd.grad(z, params)
    expected = torch.stack([torch.ones_like(z), z.detach() - 0.3])  # scale = exp(v), so dz/dv = scale * eps
    torch.testing.assert_close(gradient, expected)


def test_full_normal_is_the_gaussian_of_its_cholesky_factor():
    params = torch.linspace(-1, 1, 9, dtype=F64)
    q = posteriors.FullNormal(3)(params)
    lower = np.zeros((3, 3))
    lower[np.tril_indices(3)] = params[3:].numpy()
    diagonal = np.log1p(np.exp(np.diag(lower) + np.log(np.e - 1)))
    np.fill_diagonal(lower, diagonal)
    z = np.array([0.3, -1.0, 2.0])
    expected = stats.multivariate_normal.logpdf(z, params[:3].numpy(), lower @ lower.T)
    np.testing.assert_allclose(q.log_prob(torch.tensor(z)).item(), expected, rtol=1e-12)
    np.testing.assert_allclose(q.covariance_matrix.numpy(), lower @ lower.T, rtol=1e-12)


def test_full_normal_stays_finite_where_its_diagonal_vanishes():
    params = torch.cat([torch.zeros(2), torch.tensor([-300.0, 1.0, -300.0])]).requires_grad_()
    q = posteriors.FullNormal(2)(params)
    value = q.log_prob(q.sample())
    value.backward()
    assert value.isfinite()
    assert params.grad.isfinite().all()


def test_standard_normal_follows_the_dtype_and_keeps_nothing_in_its_state():
    prior = priors.StandardNormal((2, 2))
    assert prior.state_dict() == {}
    assert prior.double()().sample().dtype == F64
    z = torch.linspace(-2, 2, 4, dtype=F64).reshape(2, 2)
    np.testing.assert_allclose(prior().log_prob(z).item(), stats.norm.logpdf(z.numpy()).sum(), rtol=1e-12)


def test_unknown_parameterisations_are_refused():
    with pytest.raises(ConfigError, match="log-variance, exp, softplus, softplus-variance; got 'log'"):
        posteriors.DiagonalNormal(2, scale="log")
