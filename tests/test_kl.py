"""KL divergences against each other, torch and sampling."""

import itertools
import math

import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    StudentT,
)
from torch.distributions.kl import _KL_REGISTRY
from torch.distributions.kl import kl_divergence as torch_kl

from vaekit.distributions import Product
from vaekit.errors import ConfigError
from vaekit.kl import gaussian_kl, kl_divergence, kl_per_dimension

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
