"""Low-rank normal and Laplace posteriors: against scipy, equation 13.23 and torch's classes."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch.distributions import LowRankMultivariateNormal, MultivariateNormal

from vaekit import kl, posteriors, priors
from vaekit.distributions import LowRankNormal, Normal, Product
from vaekit.distributions.links import to_scale
from vaekit.errors import ConfigError

F64 = torch.float64


def low_rank(*batch, event=(4,), rank=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    head = posteriors.LowRankNormal(event, rank)
    return head(torch.randn(*batch, *head.param_shape, generator=generator, dtype=F64))


def test_low_rank_normal_is_the_gaussian_of_its_covariance():
    params = torch.linspace(-1, 1, 12, dtype=F64).reshape(4, 3)
    q = posteriors.LowRankNormal(3, rank=2)(params)
    covariance = np.diag(np.exp(params[1].numpy())) + params[2:].numpy().T @ params[2:].numpy()
    np.testing.assert_allclose(q.covariance_matrix.numpy(), covariance, rtol=1e-12)
    np.testing.assert_allclose(q.variance.numpy(), np.diag(covariance), rtol=1e-12)
    exact = stats.multivariate_normal(params[0].numpy(), covariance)
    z = np.array([[0.3, -1.0, 2.0], [-4.0, 0.1, 0.7]])
    np.testing.assert_allclose(q.log_prob(torch.tensor(z)).numpy(), exact.logpdf(z), rtol=1e-12)
    np.testing.assert_allclose(q.entropy().item(), exact.entropy(), rtol=1e-12)


def test_low_rank_draws_have_the_covariance():
    q = low_rank(rank=2)
    torch.manual_seed(0)
    z = q.sample((200_000,))
    torch.testing.assert_close(torch.cov(z.T), q.covariance_matrix, atol=0.05, rtol=0.02)


def test_low_rank_events_of_several_dimensions_are_flat_ones():
    q, flat = low_rank(3, event=(2, 2)), low_rank(3, event=(4,))
    z = torch.randn(5, 3, 2, 2, dtype=F64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(q.log_prob(z), flat.log_prob(z.flatten(-2)))
    torch.testing.assert_close(q.expand((5, 3)).log_prob(z), q.log_prob(z))


@pytest.mark.parametrize("rank", [1, 2, 6])
def test_low_rank_kl_is_that_of_equation_13_23(rank):
    q = low_rank(3, rank=rank)
    tril = torch.linalg.cholesky(q.covariance_matrix)
    generator = torch.Generator().manual_seed(1)
    loc, scale = torch.randn(4, generator=generator, dtype=F64), torch.rand(4, generator=generator, dtype=F64) + 0.1
    for p in (priors.StandardNormal(4).double()(), Product(Normal(loc, scale), 1)):
        expected = kl.gaussian_kl(q.loc, tril, p.base.loc, torch.diag_embed(p.base.scale))
        torch.testing.assert_close(kl.kl_divergence(q, p), expected, rtol=1e-12, atol=1e-12)
    full = MultivariateNormal(loc, scale_tril=torch.linalg.cholesky(tril[0] @ tril[0].T + torch.diag(scale)))
    expected = kl.gaussian_kl(q.loc, tril, full.loc, full.scale_tril)
    torch.testing.assert_close(kl.kl_divergence(q, full), expected, rtol=1e-10, atol=1e-12)


def test_low_rank_density_does_not_cancel_in_float32():
    generator = torch.Generator().manual_seed(0)
    factor = 3 * torch.randn(8, 2, generator=generator, dtype=F64)
    arguments = torch.zeros(8, dtype=F64), torch.full((8,), 1e-3, dtype=F64), factor
    exact = LowRankNormal(*arguments, 1)
    z = exact.rsample((200,))
    single = [argument.float() for argument in arguments]
    gap = (LowRankNormal(*single, 1).log_prob(z.float()).double() - exact.log_prob(z)).abs().max()
    theirs = LowRankMultivariateNormal(single[0], single[2], single[1].square())
    their_gap = (theirs.log_prob(z.float()).double() - exact.log_prob(z)).abs().max()
    assert gap < 0.05, "rounding of z / sigma alone"
    assert their_gap > 10 * gap


def test_laplace_is_scipys_and_its_kl_the_integral():
    loc, raw = 0.4, -0.3
    for kind, scale in (("exp", np.exp(raw)), ("softplus", np.log1p(np.exp(raw)))):
        q = posteriors.Laplace(1, scale=kind)(torch.tensor([[loc], [raw]], dtype=F64))
        exact = stats.laplace(loc, scale)
        z = torch.tensor([[-3.0], [0.4], [2.0]], dtype=F64)
        np.testing.assert_allclose(q.log_prob(z).numpy(), exact.logpdf(z[:, 0].numpy()), rtol=1e-12)
        np.testing.assert_allclose(q.variance.item(), exact.var(), rtol=1e-12)
        divergence = integrate.quad(
            lambda t, d=exact: d.pdf(t) * (d.logpdf(t) - stats.norm.logpdf(t)), -40, 40, points=[loc]
        )
        closed = kl.kl_divergence(q, priors.StandardNormal(1).double()())
        np.testing.assert_allclose(closed.item(), divergence[0], rtol=1e-7)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="rank of at least 1; got 0. DiagonalNormal"):
        posteriors.LowRankNormal(3, rank=0)
    with pytest.raises(ConfigError, match="Laplace expects scale in exp, softplus; got 'log-variance'"):
        posteriors.Laplace(3, scale="log-variance")


LINKS = {
    "log-variance": (lambda v: torch.exp(0.5 * v), 0.5),
    "exp": (torch.exp, 1.0),
    "softplus": (torch.nn.functional.softplus, 1.0),
    "softplus-variance": (lambda v: torch.nn.functional.softplus(v).sqrt(), 0.5),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", LINKS)
def test_scales_do_not_underflow(kind, dtype):
    """The variance stays a normal number, log sigma keeps its slope, and ordinary scales are those of the formula."""
    link, slope = LINKS[kind]
    far = torch.tensor([-1e30, -3000.0, -800.0], dtype=dtype, requires_grad=True)
    scale = to_scale(far, kind)
    assert (scale.square() >= torch.finfo(dtype).tiny).all()
    assert (scale < 1e-18).all()
    (gradient,) = torch.autograd.grad(scale.log().sum(), far)
    torch.testing.assert_close(gradient, torch.full_like(gradient, slope))
    ordinary = torch.linspace(-40, 20, 500, dtype=dtype, requires_grad=True)
    assert torch.equal(to_scale(ordinary, kind), link(ordinary))
    gradients = [torch.autograd.grad(f(ordinary).sum(), ordinary)[0] for f in (link, lambda v: to_scale(v, kind))]
    assert torch.equal(*gradients)
    assert torch.isnan(to_scale(torch.tensor([torch.nan], dtype=dtype), kind)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "head",
    [
        *(posteriors.DiagonalNormal(2, scale=kind) for kind in LINKS),
        *(posteriors.Laplace(2, scale=kind) for kind in ("exp", "softplus")),
        posteriors.LowRankNormal(2, rank=1),
    ],
    ids=str,
)
def test_posteriors_of_the_least_scale_have_numbers_and_gradients(head, dtype):
    """With mean 0 the draws are exact: log q = -log sigma + const for each dimension, whatever the scale."""
    params = torch.zeros(3, *head.param_shape, dtype=dtype)
    params[:, 1] = -3000.0
    params.requires_grad_()
    q = head(params)
    torch.manual_seed(0)
    log_prob = q.log_prob(q.rsample())
    divergence = kl.kl_divergence(q, _standard(dtype))
    assert torch.isfinite(log_prob).all()
    assert (log_prob > 2 * 40).all()
    assert torch.isfinite(divergence).all()
    (gradient,) = torch.autograd.grad(divergence.sum(), params)
    assert torch.isfinite(gradient).all()
    assert (gradient[:, 1] < -0.4).all(), "the divergence widens q again"


def _standard(dtype):
    return Product(Normal(torch.zeros(2, dtype=dtype), torch.ones(2, dtype=dtype)), 1)


def test_one_row_without_numbers_leaves_the_others_theirs():
    params = torch.zeros(2, *posteriors.LowRankNormal(3, rank=1).param_shape)
    params[0, 2] = torch.nan
    q = posteriors.LowRankNormal(3, rank=1)(params)
    log_prob = q.log_prob(torch.zeros(3))
    assert torch.isnan(log_prob[0])
    assert torch.isfinite(log_prob[1])
