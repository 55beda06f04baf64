"""Standard errors that hold what they say, and the warning where they cannot: normal log-weights of known variance."""

import math
import warnings

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from vaekit.distributions import Product
from vaekit.errors import UnreliableEstimateWarning
from vaekit.evaluation import bias_trend, iwae, log_marginal
from vaekit.evaluation.weights import TailIndex, generalized_pareto_index, tail_length


class Shifted:
    """z ~ N(0, 1), x ~ N(z, 1); q is the exact posterior moved by delta of its standard deviations.

    Then log w = log p(x) - delta eps - delta^2 / 2 with eps ~ N(0, 1): log-weights of variance delta^2, exactly normal.
    """

    def __init__(self, variance):
        self.delta = math.sqrt(variance)

    def posterior(self, x):
        scale = torch.full_like(x, math.sqrt(0.5))
        return Product(Normal(x / 2 + self.delta * scale, scale), 1)

    def prior(self):
        return Product(Normal(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)), 1)

    def likelihood(self, z):
        return Product(Normal(z, torch.ones_like(z)), 1)

    def log_prob(self, x):
        return MultivariateNormal(torch.zeros(1).double(), 2 * torch.eye(1).double()).log_prob(x)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def coverage(estimate, truth):
    return float(((estimate.value - truth).abs() < 1.96 * estimate.stderr).double().mean())


@pytest.mark.parametrize(("variance", "k"), [(0.25, 1000), (1.0, 1000), (1.0, 3000), (0.25, 100)])
def test_intervals_cover_the_truth_and_nothing_warns(variance, k):
    """1,000 repetitions: the 95% interval covers 93 to 97 times in 100."""
    model, x = Shifted(variance), torch.full((1000, 1), 0.7, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimate = log_marginal(model, x, num_samples=k, generator=seeded(1))
    assert 0.93 <= coverage(estimate, model.log_prob(x[:1])) <= 0.97
    assert float(estimate.unreliable.double().mean()) < 0.03


def test_the_warning_fires_where_coverage_is_lost_although_the_ess_looks_well():
    model, x = Shifted(4.0), torch.full((1000, 1), 0.7, dtype=torch.float64)
    with pytest.warns(UnreliableEstimateWarning, match="of 1000 points .* Raise num_samples"):
        estimate = log_marginal(model, x, num_samples=5000, generator=seeded(1))
    assert coverage(estimate, model.log_prob(x[:1])) < 0.93
    assert float(estimate.ess.median()) > 80
    assert float(estimate.unreliable.double().mean()) > 0.4


def test_few_effective_samples_warn():
    x = torch.full((20, 1), 0.7, dtype=torch.float64)
    with pytest.warns(UnreliableEstimateWarning):
        log_marginal(Shifted(9.0), x, num_samples=20, generator=seeded())


def test_a_bound_is_not_warned_about_and_exact_weights_are_reliable():
    x = torch.full((20, 1), 0.7, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        iwae(Shifted(9.0), x, num_samples=20, generator=seeded())
        exact = log_marginal(Shifted(0.0), x, num_samples=500, generator=seeded())
        log_marginal(Shifted(0.0), x, num_samples=1, generator=seeded())
    assert not exact.unreliable.any()


@pytest.mark.parametrize("k", [-0.4, 0.2, 0.5, 1.0])
def test_pareto_index_of_pareto_draws(k):
    """Inverse of the distribution function: ((1 - u)^-k - 1) / k; the estimate's error is about (1 + k) / sqrt(M)."""
    u = torch.rand(1000, 200, generator=seeded(), dtype=torch.float64)
    index = generalized_pareto_index(((1 - u).pow(-k) - 1).div(k).sort(0).values)
    assert float(index.mean()) == pytest.approx(k, abs=0.02)
    assert float(index.std()) < 1.3 * (1 + abs(k)) / math.sqrt(1000)


def test_tail_index_does_not_depend_on_the_blocks():
    log_weights = 2 * torch.randn(300, 6, generator=seeded(), dtype=torch.float64)
    whole, parts = TailIndex(6, 300), TailIndex(6, 300)
    whole.add(slice(0, 6), log_weights)
    for rows in (slice(0, 4), slice(4, 6)):
        for part in log_weights[:, rows].split([100, 1, 199]):
            parts.add(rows, part)
    torch.testing.assert_close(whole.index, parts.index, rtol=0, atol=0)
    assert torch.isfinite(whole.index).all()
    assert tail_length(300) == 52
    assert torch.isnan(TailIndex(3, 20).index).all(), "no tail to speak of"


def test_impossible_and_equal_weights_have_no_index():
    tails = TailIndex(3, 100)
    log_weights = torch.randn(100, 3, generator=seeded(), dtype=torch.float64)
    log_weights[:, 0], log_weights[:, 1] = -math.inf, 2.5
    tails.add(slice(0, 3), log_weights)
    assert torch.isnan(tails.index[:2]).all()
    assert torch.isfinite(tails.index[2])


def test_bias_trend_rises_to_log_p_like_the_variance_over_2k():
    """For large K the bias of the bound is -var(w) / (2 K mean(w)^2): here -(e^delta^2 - 1) / (2 K)."""
    model, x = Shifted(0.5), torch.full((400, 1), 0.7, dtype=torch.float64)
    trend = bias_trend(model, x, num_samples=(1, 10, 100, 1000), generator=seeded())
    truth = model.log_prob(x[:1])
    bias = [float((trend[k].value - truth).mean()) for k in (1, 10, 100)]
    assert bias[0] == pytest.approx(-0.25, abs=4 * trend[1].mean_stderr)
    assert bias[1] == pytest.approx(-math.expm1(0.5) / 20, abs=4 * trend[10].mean_stderr + 0.004)
    assert bias[2] == pytest.approx(-math.expm1(0.5) / 200, abs=4 * trend[100].mean_stderr + 4e-4)
    assert [trend[k].num_samples for k in trend] == [1, 10, 100, 1000]
    one = iwae(model, x, num_samples=1000, generator=seeded())
    torch.testing.assert_close(trend[1000].value, one.value)
    torch.testing.assert_close(trend[1000].stderr, one.stderr)
