"""Rows far from what a model generates: log p(x) against quadrature over z, and against a closed form."""

import math
import warnings
from itertools import pairwise

import pytest
import torch
from scipy import stats
from torch import nn
from torch.distributions import Categorical, Distribution, Independent, Normal

import vaekit as vk
from vaekit.errors import UnreliableEstimateWarning
from vaekit.evaluation.estimate import FAR, NO_MASS, NOT_A_NUMBER
from vaekit.evaluation.proposals import Controlled

SHIFTS = (5.0, 20.0, 50.0, 300.0, 1000.0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def log_marginal(model, x, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreliableEstimateWarning)
        return vk.evaluation.log_marginal(model, x, **{"num_samples": 100, "generator": seeded(), **options})


@pytest.fixture(scope="module")
def fitted():
    """An MLP with one latent on three columns, which follow it with noise of scale 0.5."""
    noise = torch.randn(500, 4, generator=seeded(3))
    x = (noise[:, :1] * torch.tensor([1.0, -0.7, 0.4]) + 0.5 * noise[:, 1:]).double()
    with vk.engine.seeded(0):
        transform = vk.transforms.Standardize(3).fit(x)
        likelihood = vk.likelihoods.Normal(3)
        model, objective = vk.presets.vae(3, latent_dim=1, hidden=(32,), likelihood=likelihood, transform=transform)
    vk.Trainer(max_epochs=40, batch_size=50, progress=False, seed=0, compile="off").fit(model, objective, x)
    return model.eval(), x


@torch.no_grad()
def quadrature(model, x):
    """log p(x) by a fine grid around each of the best points of a coarse one, in float64; latents of one dimension."""
    model = model.double()
    try:
        y, log_det = model.transform.with_log_det(x)

        def joint(z):
            return model.likelihood(z.reshape(-1, 1, 1).expand(-1, len(y), 1)).log_prob(y) + model.prior().log_prob(
                z.reshape(-1, 1, 1).expand(-1, len(y), 1)
            )

        coarse = torch.linspace(-4000, 4000, 80_001, dtype=torch.float64)
        at_coarse = torch.cat([joint(part) for part in coarse.split(8_000)])
        result = []
        for i, place in enumerate(at_coarse.argmax(0).tolist()):
            fine = coarse[place] + torch.linspace(-8, 8, 16_001, dtype=torch.float64)
            values = joint(fine)[:, i]
            result.append(torch.logsumexp(values, 0) + math.log(16 / 16_000))
        return torch.stack(result) + log_det
    finally:
        model.float()


def test_rows_a_thousand_deviations_away_get_their_log_p(fitted):
    model, x = fitted
    means = []
    for shift in SHIFTS:
        rows = x[:40] + shift * x.std(0)
        found, truth = log_marginal(model, rows), quadrature(model, rows[:8])
        assert torch.isfinite(found.value).all()
        error, believed = (found.value[:8] - truth).abs(), ~found.unreliable[:8]
        assert (error <= 4 * found.stderr[:8] + 0.01 * truth.abs())[believed].all()
        assert (error <= 0.01 * truth.abs() + 0.5).all()
        means.append(found.mean)
        # What q alone says is a bound that may lie as far below as it likes; it is not believed.
        assert vk.evaluation.iwae(model, rows, num_samples=100, generator=seeded()).unreliable.all()
    assert all(after < before for before, after in pairwise(means))


def test_most_far_rows_are_believed_once_they_are_redrawn(fitted):
    model, x = fitted
    rows = x[:100] + 20 * x.std(0)
    assert log_marginal(model, rows).unreliable.double().mean() < 0.2


def test_rows_beyond_all_numbers_have_no_mass_and_a_reason(fitted):
    model, x = fitted
    rows = x[:4].clone()
    rows[1], rows[3, 2] = 1e30, -1e25
    found = log_marginal(model, rows)
    assert found.value.isneginf().tolist() == [False, True, False, True] == found.unreliable.tolist()
    assert found.reason == (None, NO_MASS, None, NO_MASS)


def test_a_network_without_numbers_is_no_row_without_mass(fitted):
    model, x = fitted
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        next(model.decoder.parameters()).fill_(math.nan)
    found = log_marginal(model, x[:3])
    model.load_state_dict(kept)
    assert found.value.isnan().all()
    assert set(found.reason) == {NOT_A_NUMBER}


def test_ordinary_rows_keep_the_draws_of_q_and_cost_nothing_more(fitted):
    model, x = fitted
    counted, decode = [], model.likelihood

    def count(z):
        counted.append(z.shape[:-1].numel())
        return decode(z)

    model.likelihood = count
    try:
        found = log_marginal(model, x[:200])
        assert sum(counted) == 200 * 100 + 1, "K draws for each row, and the one dry run"
    finally:
        del model.likelihood
    assert torch.equal(found.value, vk.evaluation.iwae(model, x[:200], num_samples=100, generator=seeded()).value)


@pytest.mark.parametrize("k", [1, 2, 7, 100, 700])
def test_far_rows_depend_on_their_own_numbers_and_the_seed(fitted, k):
    model, x = fitted
    rows = torch.cat([x[:3], *(x[:3] + shift * x.std(0) for shift in (8, 30, 300))])
    options = {"num_samples": k, "key": "content"}
    together = log_marginal(model, rows, **options)
    alone = torch.cat([log_marginal(model, rows[i : i + 1], **options).value for i in range(len(rows))])
    torch.testing.assert_close(alone, together.value, rtol=1e-4, atol=0.02)  # a search may enlarge a rounding
    assert not torch.equal(together.value[3:], log_marginal(model, rows, **options, generator=seeded(1)).value[3:])


class Lost(nn.Module):
    """p(x) = N(0, I + A A^T) with the exact posterior near the origin, and a wrong point, without a doubt, far out."""

    def __init__(self, num_latents=3, num_columns=5):
        super().__init__()
        self.weight = torch.randn(num_columns, num_latents, generator=seeded(5))
        covariance = torch.linalg.inv(torch.eye(num_latents) + self.weight.T @ self.weight)
        self.covariance, self.num_latents, self.num_columns = covariance, num_latents, num_columns

    def prior(self):
        return Independent(Normal(torch.zeros(self.num_latents), 1.0), 1)

    def likelihood(self, z):
        return Independent(Normal(z @ self.weight.T, 1.0), 1)

    def posterior(self, x):
        is_near = x.abs().amax(-1, keepdim=True) < 6
        loc = torch.where(is_near, x @ self.weight @ self.covariance, torch.full_like(x[:, :1], 40.0))
        scale = torch.where(is_near, self.covariance.diagonal().sqrt(), torch.tensor(1e-30))
        return Independent(Normal(loc, scale), 1)

    def evidence(self, x):
        covariance = torch.eye(self.num_columns) + self.weight @ self.weight.T
        normal = torch.distributions.MultivariateNormal(torch.zeros(self.num_columns).double(), covariance.double())
        return normal.log_prob(x.double())


@pytest.mark.parametrize("num_latents", [1, 3, 16, 20])
def test_a_lost_encoder_costs_far_rows_nothing(num_latents):
    model = Lost(num_latents, num_latents + 2)
    x = torch.randn(30, model.num_columns, generator=seeded(1)) + torch.tensor(SHIFTS).repeat_interleave(6)[:, None]
    found, truth = log_marginal(model, x), model.evidence(x)
    error, believed = (found.value - truth).abs(), ~found.unreliable
    assert (error <= 4 * found.stderr + 0.01 * truth.abs())[believed].all()
    assert torch.isfinite(found.value).all()
    if num_latents <= 16:  # above, the curvature is looked at along the axes alone, and these posteriors lie across
        assert (error <= 1 + 0.01 * truth.abs()).all()
        assert believed.double().mean() > 0.8


@pytest.mark.parametrize("num_samples", [12, 24, 50, 100, 1000])
@pytest.mark.parametrize("num_latents", [1, 3])
def test_intervals_of_far_rows_cover_the_truth(num_latents, num_samples):
    """93 to 97 times in 100 from K = 100 on (1,000 rows tell that to 1%); of fewer draws the intervals are too long."""
    model = Lost(num_latents, num_latents + 2)
    x = torch.randn(1000, model.num_columns, generator=seeded(1)) + 10
    found = log_marginal(model, x, num_samples=num_samples, generator=seeded(5))
    covered = ((found.value - model.evidence(x)).abs() < 1.96 * found.stderr)[~found.unreliable].double().mean()
    assert 0.93 <= covered <= (0.98 if num_samples >= 100 else 1)
    assert found.unreliable.double().mean() < 0.02


def test_the_share_of_the_prior_among_draws_takes_error_out_of_their_mean():
    """Weights that are a multiple of what is left of the mixture have no error; a control that takes all is refused."""
    log_ratio = torch.log(torch.tensor([[0.1], [0.2], [3.0], [0.6]], dtype=torch.float64).repeat(5, 1))
    exact = Controlled(1)
    for k in (slice(0, 7), slice(7, 20)):
        exact.add(2.0 + torch.log((1 - 0.2 * log_ratio[k].exp()) / 0.8), log_ratio[k])
    shift, variance = exact.found()
    plain = torch.log(((1 - 0.2 * log_ratio.exp()) / 0.8).mean())
    assert float(plain + shift) == pytest.approx(0.0, abs=1e-12)
    assert float(variance) == pytest.approx(0.0, abs=1e-12)
    noise = torch.randn(40, 1, generator=seeded(), dtype=torch.float64)
    loose, w = Controlled(1), noise.exp() * (1 + 0.5 * torch.arange(40).remainder(5).eq(4).double())[:, None]
    r = torch.arange(40).remainder(5).eq(4).double()[:, None] * 4 + 0.1
    loose.add(w.log() - 700, r.log())
    fit = stats.linregress((r - 1).numpy().ravel(), w.numpy().ravel())
    shift, variance = loose.found()
    assert float(w.mean().log() + shift) == pytest.approx(math.log(fit.intercept))
    assert float(variance) == pytest.approx((fit.intercept_stderr / fit.intercept) ** 2)
    for ratio in (torch.zeros(20, 1), torch.tensor([[3.0], [2.9]]).repeat(10, 1)):
        useless = Controlled(1)
        useless.add(ratio.double() ** 2, ratio)
        assert torch.isnan(useless.found()[0]).all()


def test_gradients_are_found_whatever_mode_the_caller_is_in():
    model, x = Lost(), torch.full((2, 5), 50.0)
    with torch.inference_mode():
        inside = log_marginal(model, x)
    torch.testing.assert_close(inside.value.clone(), log_marginal(model, x).value)


class OfCategories(nn.Module):
    """z is one of three categories: there are no slopes in z."""

    def prior(self):
        return Categorical(torch.full((3,), 1 / 3))

    def likelihood(self, z) -> Distribution:
        return Independent(Normal(z.unsqueeze(-1).expand(*z.shape, 2).float(), 1.0), 1)

    def posterior(self, x):
        return Categorical(torch.full((len(x), 3), 1 / 3))


def test_where_z_cannot_be_searched_far_rows_are_not_believed():
    x = torch.tensor([[1.0, 1.0], [40.0, 40.0]])
    found = log_marginal(OfCategories(), x)
    assert found.reason[1] == FAR
    assert found.reason[0] is None
