"""A log-normal, rounded: masses against scipy, moments against sums, float32, draws, and what it is for."""

import numpy as np
import pytest
import torch
from scipy.special import log_ndtr
from scipy.stats import binom

from vaekit import engine, likelihoods
from vaekit.distributions import NegativeBinomial, RoundedLogNormal

F64 = torch.float64
LOC = torch.tensor([-2.0, 0.0, 0.7, 1.5, 3.0], dtype=F64).reshape(-1, 1)
SCALE = torch.tensor([0.02, 0.1, 0.5, 1.0], dtype=F64)


def expected(x, loc, scale):
    """log P(x) by scipy, on the side of the tail, where the difference of two probabilities keeps its digits."""
    low, high = (np.log(x + 0.5) - loc) / scale, (np.log(x + 1.5) - loc) / scale
    low = np.where(x == 0, -np.inf, low)
    low, high = np.where(low > 0, -high, low), np.where(low > 0, -low, high)
    near, far = log_ndtr(high), log_ndtr(low)
    with np.errstate(divide="ignore", invalid="ignore"):
        return near + np.log(-np.expm1(np.minimum(far - near, 0)))


@pytest.mark.parametrize(("dtype", "tolerance"), [(F64, 2e-6), (torch.float32, 2e-3)])
def test_log_p_is_scipys(dtype, tolerance):
    x = torch.tensor([0.0, 1.0, 2.0, 7.0, 40.0, 300.0], dtype=F64).reshape(-1, 1, 1)
    oracle = expected(x.numpy(), LOC.numpy(), SCALE.numpy())
    found = RoundedLogNormal(LOC.to(dtype), SCALE.to(dtype)).log_prob(x).double().numpy()
    seen = oracle > -1e3
    np.testing.assert_allclose(found[seen], oracle[seen], rtol=1e-4 if dtype != F64 else 1e-9, atol=tolerance)
    assert np.isfinite(found).all()


def test_narrow_steps_of_large_counts_keep_their_digits():
    x = torch.tensor([1e3, 1e5, 1e7], dtype=F64)
    d = RoundedLogNormal(torch.log(x) + 0.3, torch.tensor(0.5, dtype=F64))
    log_x = torch.log(x + 1)
    density = -0.5 * ((log_x - d.loc) / 0.5) ** 2 - np.log(0.5 * np.sqrt(2 * np.pi)) - log_x
    np.testing.assert_allclose(d.log_prob(x), density, rtol=0, atol=2e-6)
    single = RoundedLogNormal(d.loc.float(), d.scale.float()).log_prob(x.float())
    np.testing.assert_allclose(single.double(), d.log_prob(x), rtol=0, atol=2e-4)


def test_masses_sum_to_one_and_give_mean_and_variance():
    d = RoundedLogNormal(LOC, SCALE[:3])
    x = torch.arange(60_000, dtype=F64).reshape(-1, 1, 1)
    mass = d.log_prob(x).exp()
    torch.testing.assert_close(mass.sum(0), torch.ones(5, 3, dtype=F64), rtol=2e-6, atol=0)
    torch.testing.assert_close((mass * x).sum(0), d.mean, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close((mass * x**2).sum(0) - d.mean**2, d.variance, rtol=1e-4, atol=1e-8)


def test_draws_have_the_masses():
    d = RoundedLogNormal(torch.tensor(1.2), torch.tensor(0.6))
    with engine.seeded(0):
        x = d.sample((100_000,)).numpy()
    for k in range(8):
        mass = float(d.log_prob(torch.tensor(float(k))).exp())
        assert abs((x == k).mean() - mass) < 4 * np.sqrt(mass / 1e5)
    assert RoundedLogNormal(torch.tensor(1e4), torch.tensor(1.0)).sample().isfinite()


def test_gradients():
    loc = torch.tensor([0.3, 2.0, 5.0, -3.0], dtype=F64, requires_grad=True)
    scale = torch.tensor([0.3, 0.05, 1.0, 0.7], dtype=F64, requires_grad=True)
    x = torch.tensor([[0.0], [3.0], [150.0], [9000.0]], dtype=F64)
    assert torch.autograd.gradcheck(lambda m, s: RoundedLogNormal(m, s, False).log_prob(x), (loc, scale))


def test_it_fits_scores_that_hardly_vary_where_a_negative_binomial_cannot():
    """Binomials of 15 throws: half the variance of a Poisson. The best of either family, by the expected log mass."""
    k = np.arange(16)
    mass = torch.from_numpy(binom.pmf(k, 15, 0.5))
    x = torch.from_numpy(k).double()
    grid = torch.linspace(1.9, 2.3, 60, dtype=F64).reshape(-1, 1, 1)
    spread = torch.linspace(0.02, 0.5, 60, dtype=F64).reshape(-1, 1)
    ours = (RoundedLogNormal(grid, spread).log_prob(x) * mass).sum(-1).max()
    theirs = (NegativeBinomial(grid, spread).log_prob(x) * mass).sum(-1).max()
    best = float((mass * mass.log()).sum())
    assert best - 0.05 < float(ours) < best
    assert float(theirs) < best - 0.1


@pytest.mark.parametrize("scale", [0.4, "learned", "per-dimension", "network"])
def test_each_kind_of_scale_reaches_its_place(scale):
    head = likelihoods.RoundedLogNormal(2, scale=scale, min_scale=0.01).double()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    params = torch.linspace(-1, 1, 2 * head.num_params, dtype=F64).reshape(1, head.num_params, 2)
    raw = params[:, -1] if scale == "network" else getattr(head.scale_parameter, "raw", None)
    s = 0.4 if scale == 0.4 else 0.01 + np.log1p((np.e - 1) * np.exp(raw.detach().numpy()))
    value = head(params).log_prob(torch.tensor([[0.0, 2.0]], dtype=F64)).detach().numpy()
    x = np.array([[0.0, 2.0]])
    np.testing.assert_allclose(value, expected(x, params[:, 0].numpy(), s).sum(-1), rtol=1e-6)
