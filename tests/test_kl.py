"""KL divergences against each other, torch and sampling."""

import itertools
import math

import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    Laplace,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    StudentT,
)
from torch.distributions import OneHotCategorical as TorchOneHot
from torch.distributions.kl import _KL_REGISTRY
from torch.distributions.kl import kl_divergence as torch_kl

from vaekit.distributions import OneHotCategorical, Product, UnitNormal
from vaekit.distributions.normal import LowRankNormal
from vaekit.errors import ConfigError
from vaekit.kl import as_own, gaussian_kl, kl_divergence, kl_per_dimension

F64 = torch.float64


def diagonal(*shape: int) -> Product:
    loc, log_scale = torch.randn(2, *shape, dtype=F64)
    return Product(Normal(loc, (0.5 * log_scale).exp()), 1)


def full(*shape: int) -> MultivariateNormal:
    noise = torch.randn(*shape, shape[-1], dtype=F64)
    tril = noise.tril(-1) + torch.diag_embed(0.2 + noise.diagonal(dim1=-2, dim2=-1).abs())
    return MultivariateNormal(torch.randn(*shape, dtype=F64), scale_tril=tril)


def as_full(d) -> MultivariateNormal:
    return MultivariateNormal(d.mean, scale_tril=torch.diag_embed(d.variance.sqrt())) if isinstance(d, Product) else d


@pytest.mark.parametrize(("q", "p"), list(itertools.product([diagonal, full], repeat=2)))
@pytest.mark.parametrize("prior_batch", [(), (3,)])
def test_gaussians_in_all_four_combinations(q, p, prior_batch):
    q, p = q(3, 4), p(*prior_batch, 4)
    value = kl_divergence(q, p)
    assert value.shape == (3,)
    assert kl_divergence(q, p) is not None
    torch.testing.assert_close(value, torch_kl(as_full(q), as_full(p)), rtol=1e-9, atol=1e-9)
    z = q.sample((40_000,))
    sampled = q.log_prob(z) - p.log_prob(z)
    stderr = sampled.std(0) / math.sqrt(len(z))
    assert bool(((sampled.mean(0) - value).abs() < 5 * stderr).all())


def test_the_standard_normal_form_is_the_general_one():
    # Equation 13.24, written out, equals equation 13.23 with p = N(0, I).
    q = diagonal(5, 4)
    loc, variance = q.mean, q.variance
    direct = 0.5 * (variance.sum(-1) + (loc**2).sum(-1) - 4 - variance.log().sum(-1))
    identity = torch.eye(4, dtype=F64)
    general = gaussian_kl(loc, torch.diag_embed(variance.sqrt()), torch.zeros(4, dtype=F64), identity)
    torch.testing.assert_close(direct, general, rtol=1e-12, atol=1e-12)
    prior = Product(Normal(torch.zeros(4, dtype=F64), torch.ones(4, dtype=F64)), 1)
    torch.testing.assert_close(kl_divergence(q, prior), general, rtol=1e-12, atol=1e-12)


def test_equal_distributions_have_none():
    for d in (diagonal(3, 2), full(3, 2)):
        torch.testing.assert_close(kl_divergence(d, d), torch.zeros(3, dtype=F64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("event", [(4,), (2, 3), ()])
def test_dimensions_add_up_to_the_total(event):
    q = Product(Normal(torch.randn(3, *event), torch.rand(3, *event) + 0.1), len(event))
    p = Product(Normal(torch.randn(event), torch.rand(event) + 0.1), len(event))
    per_dimension = kl_per_dimension(q, p)
    assert per_dimension.shape == (3, *event)
    total = kl_divergence(q, p)
    assert total.shape == (3,)
    torch.testing.assert_close(total, per_dimension.reshape(3, -1).sum(1))
    torch.testing.assert_close(per_dimension, torch_kl(q.base, p.base))


def test_products_of_other_families_take_torchs_table():
    logits, prior = torch.randn(3, 4, dtype=F64), torch.randn(4, dtype=F64)
    q, p = Product(Bernoulli(logits=logits), 1), Product(Bernoulli(logits=prior), 1)
    pi, rho = logits.sigmoid(), prior.sigmoid()
    expected = (pi * (pi / rho).log() + (1 - pi) * ((1 - pi) / (1 - rho)).log()).sum(-1)
    torch.testing.assert_close(kl_divergence(q, p), expected, rtol=1e-10, atol=1e-10)


def test_torchs_own_pairs_work_whole():
    q = Independent(Normal(torch.randn(3, 2), torch.ones(3, 2)), 1)
    p = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
    torch.testing.assert_close(kl_divergence(q, p), torch_kl(q, p.expand((3,))))
    low_rank = LowRankMultivariateNormal(torch.zeros(2), torch.ones(2, 1), torch.ones(2))
    assert kl_divergence(low_rank, MultivariateNormal(torch.zeros(2), torch.eye(2))) is not None


def laplace(*shape: int) -> Independent:
    return Independent(Laplace(torch.randn(*shape, dtype=F64), torch.rand(*shape, dtype=F64) + 0.3), 1)


def bits(*shape: int) -> Independent:
    return Independent(Bernoulli(logits=torch.randn(*shape, dtype=F64)), 1)


def independent(*shape: int) -> Independent:
    own = diagonal(*shape)
    return Independent(own.base, 1)


def low_rank(*shape: int) -> LowRankNormal:
    scale = torch.rand(*shape, dtype=F64) + 0.3
    return LowRankNormal(torch.randn(*shape, dtype=F64), scale, torch.randn(*shape, 2, dtype=F64), 1)


def torchs_low_rank(*shape: int) -> LowRankMultivariateNormal:
    factor, diagonal = torch.randn(*shape, 2, dtype=F64), torch.rand(*shape, dtype=F64) + 0.3
    return LowRankMultivariateNormal(torch.randn(*shape, dtype=F64), factor, diagonal)


def as_covariance(d) -> MultivariateNormal:
    matrix = d.covariance_matrix if hasattr(d, "covariance_matrix") else torch.diag_embed(d.variance)
    return MultivariateNormal(d.mean, covariance_matrix=matrix)


GAUSSIANS = [diagonal, independent, full, low_rank, torchs_low_rank]


@pytest.mark.parametrize(("q", "p"), list(itertools.product(GAUSSIANS, repeat=2)))
@pytest.mark.parametrize("prior_batch", [(), (3,)])
def test_gaussians_have_one_closed_form_whoever_wrote_them(q, p, prior_batch):
    q, p = q(3, 4), p(*prior_batch, 4)
    value = kl_divergence(q, p)
    assert value.shape == (3,)
    torch.testing.assert_close(value, torch_kl(as_covariance(q), as_covariance(p)), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("make", [independent, laplace, bits])
@pytest.mark.parametrize("prior_batch", [(), (3,)])
def test_torchs_products_have_what_ours_have(make, prior_batch):
    """The total and each dimension, in every pair of torch's class and ours."""
    q, p = make(3, 4), make(*prior_batch, 4)
    ours = [Product(d.base_dist, 1) for d in (q, p)]
    exact = torch_kl(q.base_dist, p.base_dist.expand((3, 4)))
    for one, other in ((q, p), (q, ours[1]), (ours[0], p), ours):
        torch.testing.assert_close(kl_divergence(one, other), exact.sum(-1), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(kl_per_dimension(one, other), exact, rtol=1e-10, atol=1e-10)


def test_layers_of_independence_are_one_event():
    base, prior = Normal(torch.randn(5, 2, 3), torch.rand(5, 2, 3) + 0.1), Normal(torch.zeros(2, 3), torch.ones(2, 3))
    expected = torch_kl(base, prior.expand((5, 2, 3)))
    own, unit = Product(base, 2), Product(UnitNormal(prior.loc, prior.scale), 2)
    forms = [own, Independent(base, 2), Independent(Independent(base, 1), 1), Independent(Product(base, 1), 1)]
    for q, p in itertools.product(forms, [unit, Independent(prior, 2), Independent(Independent(prior, 1), 1)]):
        torch.testing.assert_close(kl_per_dimension(q, p), expected)
        torch.testing.assert_close(kl_divergence(q, p), expected.sum((1, 2)))
    assert kl_divergence(own, unit) is not None
    assert as_own(own) is own
    blocks = MultivariateNormal(torch.randn(5, 2, 3), torch.eye(3)), MultivariateNormal(torch.zeros(2, 3), torch.eye(3))
    wrapped = [Independent(block, 1) for block in blocks]
    nested = [Independent(Independent(block, 1), 0) for block in blocks]
    total = torch_kl(blocks[0], blocks[1].expand((5, 2))).sum(1)
    for q, p in itertools.product((wrapped[0], nested[0]), (wrapped[1], nested[1])):
        torch.testing.assert_close(kl_divergence(q, p), total)
    with pytest.raises(ConfigError, match="factorised"):
        kl_per_dimension(*wrapped)


def test_single_numbers_are_products_of_no_dimensions():
    q, p = Normal(torch.randn(5), torch.rand(5) + 0.1), Normal(torch.zeros(()), torch.ones(()))
    expected = torch_kl(q, p.expand((5,)))
    for one, other in itertools.product((q, Product(q, 0), Independent(q, 0)), (p, Product(p, 0), Independent(p, 0))):
        torch.testing.assert_close(kl_divergence(one, other), expected)
        torch.testing.assert_close(kl_per_dimension(one, other), expected)


def test_low_rank_normals_of_events_with_two_dimensions():
    q, p = (
        LowRankNormal(torch.randn(*s, dtype=F64), torch.ones(*s, dtype=F64), torch.randn(*s, 2, dtype=F64), 2)
        for s in ((3, 2, 2), (2, 2))
    )
    flat = [MultivariateNormal(d.loc.flatten(-2), covariance_matrix=d.covariance_matrix) for d in (q, p)]
    torch.testing.assert_close(kl_divergence(q, p), torch_kl(flat[0], flat[1].expand((3,))))
    own = Product(Normal(torch.zeros(2, 2, dtype=F64), torch.full((2, 2), 2.0, dtype=F64)), 2)
    wide = MultivariateNormal(torch.zeros(4, dtype=F64), 4 * torch.eye(4, dtype=F64))
    for other in (own, Independent(own.base, 2)):
        torch.testing.assert_close(kl_divergence(q, other), torch_kl(flat[0], wide.expand((3,))))
        torch.testing.assert_close(kl_divergence(other, p), torch_kl(wide, flat[1]))


def test_torchs_one_hot_vectors_are_ours():
    logits, prior = torch.randn(5, 3, 4, dtype=F64), torch.randn(3, 4, dtype=F64)
    own = [OneHotCategorical(part, 1) for part in (logits, prior)]
    torchs = [Independent(TorchOneHot(logits=part), 1) for part in (logits, prior)]
    expected = torch_kl(Categorical(logits=logits), Categorical(logits=prior.expand(5, 3, 4)))
    for q, p in itertools.product((own[0], torchs[0]), (own[1], torchs[1])):
        torch.testing.assert_close(kl_divergence(q, p), expected.sum(1))
        torch.testing.assert_close(kl_per_dimension(q, p), expected)
    single = kl_divergence(TorchOneHot(logits=logits[:, 0]), TorchOneHot(logits=prior[0]))
    torch.testing.assert_close(single, expected[:, 0])
    codes = Independent(Categorical(logits=logits), 1), Independent(Categorical(logits=prior), 1)
    torch.testing.assert_close(kl_per_dimension(*codes), expected)


def test_unknown_pairs_have_no_closed_form():
    q = diagonal(3, 2)
    heavy = Product(StudentT(torch.full((2,), 4.0, dtype=F64)), 1)
    for p in (heavy, Independent(StudentT(torch.full((2,), 4.0, dtype=F64)), 1)):
        assert kl_divergence(q, p) is None
        assert kl_divergence(q, p) is None
    with pytest.raises(ConfigError, match="factorised posterior and prior"):
        kl_per_dimension(full(3, 2), q)


def test_nothing_is_registered_into_torch():
    assert all(not f.__module__.startswith("vaekit") for f in _KL_REGISTRY.values())
    assert (Product, Product) not in _KL_REGISTRY
