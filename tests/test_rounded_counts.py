"""A log-normal, rounded: masses against scipy, moments against sums, float32, draws, and what it is for."""

import numpy as np
import pytest
import torch
from scipy.special import log_ndtr
from scipy.stats import binom, norm

from vaekit import engine, likelihoods, networks
from vaekit.data import Dataset
from vaekit.distributions import NegativeBinomial, RoundedLogNormal
from vaekit.distributions.rounded import POWERS
from vaekit.errors import ConfigError
from vaekit.presets.parts import columns_seen
from vaekit.recipes.powers import best_power, powers_of

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


# --- Other powers than the logarithm ---------------------------------------------------------------------------------


def bent(u, power, centre):
    return np.log(u / centre) if power == 0 else ((u / centre) ** power - 1) / power


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("centre", [1.0, 5.0])
def test_each_power_has_the_masses_of_a_normal_between_its_edges(power, centre):
    loc, scale = torch.tensor([-1.0, 0.0, 0.4], dtype=F64).reshape(-1, 1), torch.tensor([0.1, 0.6], dtype=F64)
    d = RoundedLogNormal(loc, scale, power=power, centre=centre)
    x = np.arange(20_000.0).reshape(-1, 1, 1)
    edges = [(bent(x + step, power, centre) - loc.numpy()) / scale.numpy() for step in (0.5, 1.5)]
    edges[0][0] = -np.inf
    mass = norm.cdf(edges[1]) - norm.cdf(edges[0])
    found = d.log_prob(torch.from_numpy(x)).exp()
    np.testing.assert_allclose(found, mass, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.sum(0), np.ones((3, 2)), rtol=0, atol=2e-6)
    np.testing.assert_allclose(d.mean, (mass * x).sum(0), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(d.variance, (mass * x**2).sum(0) - (mass * x).sum(0) ** 2, rtol=1e-4, atol=1e-8)
    with engine.seeded(0):
        drawn = d.sample((40_000,)).numpy()
    for k in range(6):
        stderr = np.sqrt(mass[k] * (1 - mass[k]) / 40_000)
        assert (np.abs((drawn == k).mean(0) - mass[k]) < 4.5 * stderr + 1e-4).all()


def test_large_counts_of_other_powers_keep_their_digits_in_float32():
    x = torch.tensor([1e3, 1e5, 1e6], dtype=F64)
    for power in POWERS[1:]:
        d = RoundedLogNormal(torch.full_like(x, 0.2), torch.tensor(0.4, dtype=F64), power=power, centre=x + 1)
        single = RoundedLogNormal(d.loc.float(), d.scale.float(), power=power, centre=(x + 1).float())
        density = norm.logpdf(0.0, 0.2, 0.4) - np.log(x.numpy() + 1)  # at the centre each power has the slope 1 / c
        np.testing.assert_allclose(d.log_prob(x), density, rtol=0, atol=2e-3)
        np.testing.assert_allclose(single.log_prob(x.float()), d.log_prob(x), rtol=0, atol=5e-4)


def test_each_element_has_its_own_power():
    power, centre = POWERS, (1.0, 4.0, 6.0, 9.0)
    head = likelihoods.RoundedLogNormal(4, scale=0.4, power=power, centre=centre).double()
    x = torch.tensor([[0.0, 3.0, 7.0, 12.0]], dtype=F64)
    whole = head(torch.full((1, 1, 4), 0.1, dtype=F64))
    for i in range(4):
        one = RoundedLogNormal(torch.tensor([0.1], dtype=F64), torch.tensor(0.4), power=power[i], centre=centre[i])
        torch.testing.assert_close(whole.base.log_prob(x)[:, i], one.log_prob(x[:, i]))
        torch.testing.assert_close(whole.base.mean[:, i], one.mean)
        torch.testing.assert_close(whole.base.variance[:, i], one.variance)
    repeated = whole.expand((3,))
    assert repeated.log_prob(x).shape == (3,)


def test_gradients_of_other_powers():
    loc = torch.tensor([0.3, -0.2, 0.5], dtype=F64, requires_grad=True)
    scale = torch.tensor([0.3, 0.05, 1.0], dtype=F64, requires_grad=True)
    power = torch.tensor([0.25, 0.5, 1.0], dtype=F64)
    x = torch.tensor([[0.0], [3.0], [150.0]], dtype=F64)

    def log_prob(m, s):
        return RoundedLogNormal(m, s, False, power=power, centre=4.0).log_prob(x)

    assert torch.autograd.gradcheck(log_prob, (loc, scale))


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ({"power": 0.3}, "power is one of 0, 0.25, 0.5, 1; got 0.3"),
        ({"centre": 0.0}, "centre is positive"),
        ({"power": (0.5,)}, r"one number for each of 2 element\(s\)"),
    ],
)
def test_other_powers_are_refused(bad, match):
    with pytest.raises(ConfigError, match=match):
        likelihoods.RoundedLogNormal(2, **bad)


def test_the_cells_choose_the_power():
    """Log-normal counts keep the logarithm, and a Poisson gets a root or more: tails as heavy as the cells' own."""
    rng = np.random.default_rng(0)
    log_normal = np.round(np.exp(rng.normal(1.5, 0.9, 3000)) - 1).clip(0)
    assert best_power(log_normal) == (0.0, 1.0)
    small = rng.poisson(3.0, 3000).astype(float)
    small[::7] = np.nan
    power, centre = best_power(small)
    assert power >= 0.5
    assert centre == 4.0
    assert best_power(rng.negative_binomial(1, 1 / 6, 3000).astype(float))[0] == 0.25
    assert best_power(np.full(50, 3.0)) == best_power(np.full(50, np.nan)) == (0.0, 1.0)


def test_the_power_chosen_is_that_of_the_largest_likelihood():
    """By a grid over location and scale."""
    x = np.random.default_rng(1).poisson(4.0, 500).astype(float)
    counts, num = np.unique(x, return_counts=True)
    best = {}
    for power in POWERS:
        centre = 1.0 if power == 0 else 1.0 + round(x.mean())
        y = bent(x + 1, power, centre)
        loc, scale = np.meshgrid(y.mean() + np.linspace(-0.2, 0.2, 41) * y.std(), y.std() * np.linspace(0.7, 1.3, 41))
        d = RoundedLogNormal(torch.from_numpy(loc), torch.from_numpy(scale), power=power, centre=centre)
        best[power] = max(sum(n * d.log_prob(torch.tensor(k)) for k, n in zip(counts, num, strict=True)).flatten())
    assert best_power(x)[0] == max(best, key=best.get)


def test_weights_of_rows_count_for_the_power():
    rng = np.random.default_rng(2)
    log_normal = np.round(np.exp(rng.normal(1.5, 0.9, 1000)) - 1).clip(0)
    x = np.concatenate([rng.poisson(6.0, 1000), log_normal])[:, None]
    of_first = Dataset(x, columns=("n",), kind="table", weights=np.repeat([1.0, 0.0], 1000))
    of_second = Dataset(x, columns=("n",), kind="table", weights=np.repeat([0.0, 1.0], 1000))
    assert powers_of(of_first, (0,)) == ((0.5,), (1.0 + round(float(x[:1000].mean())),))
    assert powers_of(of_second, (0,)) == ((0.0,), (1.0,))


def test_the_encoder_sees_counts_by_the_powers_of_the_head():
    counts = likelihoods.RoundedLogNormal(2, missing="observed-only", power=(0.5, 0.0), centre=(4.0, 1.0))
    head = likelihoods.Columns(3, [counts, likelihoods.Normal(1, missing="observed-only")], [(2, 0), (1,)])
    seen = columns_seen(head)
    assert (seen["logarithms"], seen["powers"], seen["centres"]) == ((0, 2), (0.0, 0.5), (1.0, 4.0))
    front = networks.ColumnsInput(torch.nn.Identity(), **seen)
    inputs = front(torch.tensor([[7.0, 0.3, 15.0]]))[0]
    np.testing.assert_allclose(inputs[:3], [np.log(8), 0.3, bent(16.0, 0.5, 4.0)], rtol=1e-6)
    assert "powers" not in columns_seen(likelihoods.Columns(1, [likelihoods.RoundedLogNormal(1)], [(0,)]))
    with pytest.raises(ConfigError, match="one power and one centre for each of the logarithms"):
        networks.ColumnsInput(torch.nn.Identity(), (0, 0), logarithms=(0, 1), powers=(0.5,))
