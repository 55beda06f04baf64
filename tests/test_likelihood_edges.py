"""Every likelihood at the edges of its parameters, in float32: values, gradients, means and draws against float64."""

import itertools

import numpy as np
import pytest
import torch
from scipy import special, stats

from vaekit.distributions import (
    Bernoulli,
    Beta,
    ContinuousBernoulli,
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
    LogNormal,
    NegativeBinomial,
    Normal,
    OrdinalCategorical,
    Poisson,
    StudentT,
    ZeroInflated,
)
from vaekit.distributions.special import deviance
from vaekit.likelihoods import Laplace

LOG_RATES = [-100.0, -30.0, -5.0, 0.0, 3.0, 11.5, 15.0, 20.0, 30.0, 60.0, 84.0]
DISPERSIONS = [1e-4, 1e-2, 1.0, 30.0, 1e3, 1e6]
COUNTS = [0.0, 1.0, 2.0, 7.0, 300.0, 1e5, 2e6, 1e8, 1e12]
LOCS, SCALES = [-1e6, 0.0, 1e6], [1e-10, 1e-6, 1.0, 1e6, 1e10]
REALS = [-1e8, -1e6, 0.0, 0.3, 1e6, 1e8]
UNIT = [1e-30, 1e-6, 0.2, 0.5, 0.7, 0.999, 0.9999999]
ODDS = [-1e8, -1e4, -90.0, -20.0, -1.0, -1e-3, 0.0, 1e-8, 0.02999, 0.0301, 3.0, 20.0, 90.0, 1e4, 1e8]


def levels(num_levels):
    return [0.0, 1.0, num_levels // 3, num_levels - 2.0, num_levels - 1.0]


def two_logistics(num_levels):
    def make(loc, scale, weight):
        parts = (torch.stack(pair, -1) for pair in ((weight, -weight), (loc, -loc), (scale, scale / 2)))
        return DiscretizedLogisticMixture(*parts, num_levels, validate_args=False)

    return make


def three_classes(offset):
    def make(a, b):
        return OrdinalCategorical(torch.stack([a + offset, b + offset, torch.zeros_like(a) + offset], -1))

    return make


# Family: distribution of parameters, their axes, values of x.
EDGES = {
    "Poisson": (lambda l: Poisson(l, False), [LOG_RATES], COUNTS),
    "NegativeBinomial": (lambda l, a: NegativeBinomial(l, a, False), [LOG_RATES, DISPERSIONS], COUNTS),
    "ZeroInflated": (
        lambda l, a, o: ZeroInflated(NegativeBinomial(l, a, False), o, False),
        [LOG_RATES, [1e-4, 1.0, 1e3], [-1e4, -50.0, 0.0, 50.0, 1e4]],
        COUNTS,
    ),
    "StudentT": (
        lambda df, loc, scale: StudentT(df, loc, scale, validate_args=False),
        [[0.1, 1.0, 5.0, 1e3, 1e7, 1e12], LOCS, SCALES],
        [*REALS, 1e12],
    ),
    "Normal": (lambda loc, scale: Normal(loc, scale, False), [LOCS, [*SCALES, 1e-22, 1e25]], REALS),
    "Laplace": (lambda loc, scale: Laplace.family(loc, scale, False), [LOCS, SCALES], REALS),
    "LogNormal": (
        lambda loc, scale: LogNormal(loc, scale, False),
        [[-200.0, -50.0, 0.0, 50.0, 200.0], [1e-6, 1e-3, 1.0, 30.0]],
        [2e-38, 1e-6, 0.5, 1.0, 1e6, 1e38],
    ),
    "Beta": (
        lambda l, k: Beta(l, k, False),
        [[-60.0, -14.0, -9.9, -3.0, 0.0, 1.0, 5.0, 14.0, 60.0], [1e-2, 1.0, 50.0, 1e4, 1e6, 1e8]],
        UNIT,
    ),
    "ContinuousBernoulli": (
        lambda l: ContinuousBernoulli(logits=l, validate_args=False),
        [ODDS],
        [0.0, *UNIT, 1.0],
    ),
    "Bernoulli": (lambda l: Bernoulli(l, False), [ODDS], [0.0, 1.0]),
}
for n in (2, 256, 65536):
    places = [-1e4, -5.0, -1.0, -0.3, 0.0, 0.7, 1.0, 5.0, 1e4]
    EDGES[f"DiscretizedLogistic of {n}"] = (
        lambda loc, scale, n=n: DiscretizedLogistic(loc, scale, n, False),
        [places, [1e-3, 1e-2, 1.0, 100.0, 1e6]],
        levels(n),
    )
for n in (2, 256):
    EDGES[f"DiscretizedLogisticMixture of {n}"] = (
        two_logistics(n),
        [[-1e4, -5.0, -0.3, 0.0, 0.7], [1e-3, 1e-2, 1.0, 1e6], [-1e4, -30.0, 0.0, 1e4]],
        levels(n),
    )
for offset in (0.0, 1e6, -1e6):
    odds = [-1e4, -20.0, 0.0, 20.0, 1e4]
    EDGES[f"OrdinalCategorical at {offset:g}"] = (three_classes(offset), [odds, odds], [0.0, 1.0, 2.0])

SINGLE, LARGEST = torch.float32, torch.finfo(torch.float32).max


def parameters(axes):
    """Every combination of the axes' values as they are in float32, one tensor per axis."""
    columns = torch.tensor(list(itertools.product(*axes)), dtype=torch.float64).to(SINGLE).unbind(-1)
    return [column.clone() for column in columns]


def assert_near(single, double, rtol, floor):
    """Equal within `rtol` of the larger of the truth and the floor; where float32 cannot hold the truth, it says so."""
    beyond = double.abs() > LARGEST
    assert bool((~single.isfinite())[beyond].all())
    error = (single.double() - double).abs() / double.abs().clamp(min=floor)
    assert bool((error[~beyond] < rtol).all()), (single[~(error < rtol)], double[~(error < rtol)])


@pytest.mark.parametrize("name", EDGES)
def test_float32_gives_the_values_of_float64(name):
    make, axes, points = EDGES[name]
    params, x = parameters(axes), torch.tensor(points, dtype=SINGLE).unsqueeze(-1)
    single, double = make(*params).log_prob(x), make(*(p.double() for p in params)).log_prob(x.double())
    assert_near(single, double, 1e-4, 1.0)


@pytest.mark.parametrize("name", EDGES)
def test_float32_gives_the_gradients_of_float64(name):
    make, axes, points = EDGES[name]
    for x in points:
        single = [p.requires_grad_() for p in parameters(axes)]
        double = [p.detach().double().requires_grad_() for p in single]
        value, truth = (make(*p).log_prob(torch.tensor(x, dtype=SINGLE).to(p[0].dtype)) for p in (single, double))
        # float32 may not hold the value where its gradient is held against float64's.
        held = truth.detach().abs() < 1e30
        pairs = zip(
            torch.autograd.grad(value[held].sum(), single), torch.autograd.grad(truth[held].sum(), double), strict=True
        )
        for got, expected in pairs:
            fits = held & (expected.abs() < 1e30)
            error = (got.double() - expected).abs()[fits]
            allowed = 1e-2 * expected.abs()[fits].clamp(min=1e-3)
            assert bool((error <= allowed).all()), (x, [p[fits][error > allowed] for p in single])


@pytest.mark.parametrize("name", EDGES)
def test_draws_lie_in_the_support_and_have_a_finite_log_prob(name):
    make, axes, _ = EDGES[name]
    d = make(*parameters(axes))
    torch.manual_seed(0)
    x = d.sample((100,))
    assert x.isfinite().all()
    assert d.support.check(x).all()
    assert d.log_prob(x.to(SINGLE)).isfinite().all()


@pytest.mark.parametrize("name", EDGES)
def test_means_are_those_of_float64(name):
    make, axes, _ = EDGES[name]
    params = parameters(axes)
    single, double = make(*params).mean, make(*(p.double() for p in params)).mean
    known = double.isfinite() & (double.abs() < 1e38) & (double.abs() > 1e-37)
    assert bool(((single.double() - double).abs()[known] <= 1e-3 * double.abs()[known]).all())


def test_negative_binomials_of_large_counts_are_scipys():
    cases = [(1e5, 1.0, 2e6, -31.51), (1e6, 1e3, 1e8, -25.43)]
    for mean, dispersion, x, about in cases:
        log_mean = torch.tensor(mean).log()
        got = NegativeBinomial(log_mean, torch.tensor(dispersion)).log_prob(torch.tensor(x))
        mean = float(log_mean.double().exp())
        exact = stats.nbinom.logpmf(x, 1 / dispersion, 1 / (1 + dispersion * mean))
        np.testing.assert_allclose(got.item(), exact, atol=1e-3)
        assert abs(got.item() - about) < 0.06


@pytest.mark.parametrize("dispersion", [1e-4, 0.1, 1.0, 1e3])
def test_a_sum_over_five_hundred_genes_is_right(dispersion):
    torch.manual_seed(0)
    log_mean = torch.full((500,), float(np.log(1e5)))
    d = NegativeBinomial(log_mean, torch.full((500,), dispersion))
    x = d.sample()
    mean, r = np.exp(log_mean.double().numpy()), 1 / np.float64(np.float32(dispersion))
    exact = stats.nbinom.logpmf(x.double().numpy(), r, r / (r + mean)).sum()
    np.testing.assert_allclose(d.log_prob(x).sum().item(), exact, rtol=1e-6)


def test_gradients_of_large_counts_are_the_closed_forms():
    log_mean = torch.tensor([np.log(1e8), np.log(1e8), np.log(1e5)], dtype=SINGLE).requires_grad_()
    dispersion = torch.tensor([1e-4, 1.0, 1e3]).requires_grad_()
    x = torch.tensor([1.01e8, 3e9, 2e6])
    of_mean, of_dispersion = torch.autograd.grad(
        NegativeBinomial(log_mean, dispersion).log_prob(x).sum(), (log_mean, dispersion)
    )
    mean, a, k = np.exp(log_mean.detach().double().numpy()), dispersion.detach().double().numpy(), x.double().numpy()
    np.testing.assert_allclose(of_mean, (k - mean) / (1 + a * mean), rtol=1e-4)
    r = 1 / a
    of_r = special.digamma(k + r) - special.digamma(r) - np.log1p(a * mean) + (mean - k) / (mean + r)
    np.testing.assert_allclose(of_dispersion, -of_r * r**2, rtol=1e-3)
    (of_rate,) = torch.autograd.grad(Poisson(log_mean).log_prob(x).sum(), log_mean)
    np.testing.assert_allclose(of_rate, k - mean, rtol=1e-4)


def test_a_concentrated_beta_is_scipys():
    x, concentration = torch.tensor([0.3, 0.3001, 0.2999]), torch.tensor(1e7)
    logits = torch.logit(torch.tensor(0.3))
    mean = special.expit(logits.double().numpy())
    exact = stats.beta.logpdf(x.double().numpy(), 1e7 * mean, 1e7 * (1 - mean))
    np.testing.assert_allclose(Beta(logits, concentration).log_prob(x), exact, atol=2e-3)


def test_the_deviance_has_two_derivatives_and_maps():
    e = torch.linspace(-0.9, 3, 14, dtype=torch.float64).requires_grad_()

    def plain(e, fine):
        return deviance(e, torch.log1p(e), fine)

    for fine in (False, True):
        torch.testing.assert_close(plain(e, fine), e - torch.log1p(e), rtol=1e-12, atol=1e-15)
        assert torch.autograd.gradcheck(lambda e, fine=fine: plain(e, fine), e)
        assert torch.autograd.gradgradcheck(lambda e, fine=fine: plain(e, fine), e)
        mapped = torch.func.vmap(torch.func.grad(lambda e, fine=fine: plain(e, fine)))(e.detach())
        torch.testing.assert_close(mapped, (e / (1 + e)).detach())


@pytest.mark.parametrize(
    "name", ["Poisson", "NegativeBinomial", "Beta", "ContinuousBernoulli", "StudentT", "LogNormal"]
)
def test_the_compiler_takes_them_whole(name):
    make, axes, points = EDGES[name]
    x = torch.tensor(points[2], dtype=SINGLE)
    compiled = torch.compile(lambda *p: make(*p).log_prob(x), fullgraph=True, backend="aot_eager")
    params = [p.requires_grad_() for p in parameters(axes)]
    torch.testing.assert_close(compiled(*params), make(*params).log_prob(x), rtol=1e-5, atol=1e-5)
    torch.autograd.grad(compiled(*params).sum(), params)
