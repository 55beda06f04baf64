"""Standard errors that hold what they say, and the warning where they cannot: normal log-weights of known variance."""

import math
import warnings

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from vaekit import posteriors
from vaekit.distributions import Product
from vaekit.errors import UnreliableEstimateWarning
from vaekit.evaluation import ais, bias_trend, elbo, iwae, log_marginal
from vaekit.evaluation.estimate import HEAVY, HOLES, LARGE, NARROW, NO_MASS, NOT_A_NUMBER, SPREAD, TOO_FEW, UNRESOLVED
from vaekit.evaluation.weights import Spread, TailIndex, Weights, generalized_pareto_index, tail_length


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


class Widened(Shifted):
    """q has the exact posterior's mean and its variance times a factor: log w is a multiple of chi-squared(1)."""

    def __init__(self, factor):
        self.factor = factor

    def posterior(self, x):
        return Product(Normal(x / 2, torch.full_like(x, math.sqrt(0.5 * self.factor))), 1)


SHAPES = {f"variance {variance:g}": Shifted(variance) for variance in (0.25, 1.0, 2.0, 4.0, 9.0)}
WIDE = {f"{factor:g} times as wide": Widened(factor) for factor in (1.5, 4.0)}
NARROWED = {f"{factor:g} times as wide": Widened(factor) for factor in (0.3, 0.1, 0.01, 1e-4, 1e-10)}
WITHIN_A_NAT = [*list(SHAPES)[:3], *WIDE]


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


def judged(name, k, num_rows=2000, seed=1):
    """Coverage of the 95% intervals of rows without a warning (NaN where those are at most 2 in 100), share warned."""
    model, x = (SHAPES | WIDE)[name], torch.full((num_rows, 1), 0.7, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreliableEstimateWarning)
        estimate = log_marginal(model, x, num_samples=k, generator=seeded(seed))
    covered = (estimate.value - model.log_prob(x[:1])).abs() < 1.96 * estimate.stderr
    bad = estimate.unreliable
    few = int((~bad).sum()) <= 0.02 * num_rows
    return math.nan if few else float(covered[~bad].double().mean()), float(bad.double().mean())


@pytest.mark.parametrize("k", [2, 5, 12, 24, 100])
@pytest.mark.parametrize("name", ["variance 0.25", "variance 1", "variance 4", "4 times as wide"])
def test_rows_without_a_warning_are_covered(name, k):
    covered, warned = judged(name, k)
    assert math.isnan(covered) or 0.92 <= covered <= 0.98
    assert warned == (
        pytest.approx(1, abs=0.001) if k < 12 else pytest.approx(0, abs=0.1 if name in WITHIN_A_NAT else 1)
    )


@pytest.mark.parametrize("k", [24, 100, 1000])
@pytest.mark.parametrize("name", NARROWED)
def test_a_narrow_q_is_marked_from_a_nat_on_and_its_rows_get_draws_of_their_own(name, k):
    """KL(q, p) = (r - 1 - log r) / 2 is 0.25, 0.7, 1.8, 4.1 and 11 nats."""
    model, x = NARROWED[name], torch.full((300, 1), 0.7, dtype=torch.float64)
    marked = iwae(model, x, num_samples=k, generator=seeded()).doubts[NARROW]
    assert marked.double().mean() > 0.99 if model.factor <= 0.01 else marked.double().mean() < 0.05
    if model.factor <= 0.01:
        found = log_marginal(model, x, num_samples=k, generator=seeded())
        assert coverage(found, model.log_prob(x[:1])) > 0.925
        assert (found.value - model.log_prob(x[:1])).abs().max() < 0.5
        assert float(found.unreliable.double().mean()) <= 0.1


class Heads:
    """z ~ N(0, I_2), x|z ~ N(z, I); q is what a head makes of raw parameters whose scales are moved by `shift`."""

    def __init__(self, head, shift):
        self.head = head
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.params = 0.3 * torch.randn(head.param_shape)
        (self.params[1] if self.params.ndim == 2 else self.params[2:4]).add_(shift)

    def prior(self):
        return Product(Normal(torch.zeros(2), torch.ones(2)), 1)

    def posterior(self, x):
        return self.head(self.params.expand(len(x), *self.params.shape))

    def likelihood(self, z):
        return torch.distributions.Independent(Normal(z, torch.ones_like(z), validate_args=True), 1)


NAMES = ("DiagonalNormal", "LowRankNormal", "Planar", "InverseAutoregressive", "Sylvester", "Householder", "Radial")


@pytest.mark.parametrize("shift", [-1000.0, -100.0, -14.0, 180.0])
@pytest.mark.parametrize("name", [*NAMES, "FullNormal", "Laplace", "Spline"])
def test_no_head_is_far_off_without_a_word(name, shift):
    x = torch.randn(6, 2, generator=seeded())
    truth = Normal(0.0, math.sqrt(2)).log_prob(x).sum(-1)
    model = Heads(getattr(posteriors, name)(2), shift)
    found = log_marginal(model, x, num_samples=100, generator=seeded())
    error = (found.value - truth).abs()
    assert bool((found.unreliable | (error < 4 * found.stderr + 0.01 * truth.abs() + 0.3)).all())
    assert not bool((found.value > truth + 5).any())
    lower = iwae(model, x, num_samples=100, generator=seeded())
    assert bool((lower.unreliable | ((lower.value - truth).abs() < 1.5)).all())
    assert not bool((lower.value > truth + 5).any())


@pytest.mark.parametrize("raw", [-1000.0, -100.0, -30.0, 0.0])
def test_the_diagonal_of_a_low_rank_normal_stays_resolved_beside_its_columns(raw):
    params = (0.3 * torch.randn(5, 4, 2, generator=seeded())).index_fill(1, torch.tensor([1]), raw).requires_grad_()
    q = posteriors.LowRankNormal(2)(params)
    z = q.sample((200,))
    log_q = q.log_prob(z)
    (gradient,) = torch.autograd.grad(log_q.sum(), params)
    exact = MultivariateNormal(q.loc.double(), q.covariance_matrix.double()).log_prob(z.double())
    assert float((log_q - exact).detach().abs().max()) < 0.02
    assert gradient.isfinite().all()


@pytest.mark.parametrize("tangent", [1.0, 8.0, 1000.0])
def test_draws_at_the_rim_of_the_ball_keep_a_density_that_is_theirs(tangent):
    """A mean at the rim with a scale below rounding: log q(z) stays what draws of a normal distribution have."""
    params = torch.tensor([[[tangent, tangent], [-40.0, -40.0]]])
    q = posteriors.WrappedNormal(2)(params)
    v = q.log_prob(q.sample((500,))) - q.log_prob(q.loc)
    assert float(v.min()) > -60
    assert q.scale.max() < (1e-3 if tangent == 1 else 10)


class Holed(Product):
    """Normals whose log-density is NaN where z > 1."""

    def __init__(self, base, z):
        super().__init__(base, 1)
        self.z = z

    def log_prob(self, value):
        return torch.where(self.z[..., 0] > 1, math.nan, super().log_prob(value))


class WithHoles(Shifted):
    def likelihood(self, z):
        return Holed(Normal(z, torch.ones_like(z)), z)


@pytest.mark.parametrize("model", [WithHoles(0.0), Shifted(0.0)])
def test_chains_say_where_p_of_x_given_z_is_no_number(model):
    x = torch.full((4, 1), 0.7, dtype=torch.float64)
    found = ais(model, x, num_chains=16, num_steps=20, num_leapfrog=3, generator=seeded())
    has_holes = isinstance(model, WithHoles)
    assert bool((found.unreliable == has_holes).all())
    assert (HOLES in found.reasons) == has_holes
    assert log_marginal(model, x, num_samples=100, generator=seeded()).unreliable.all() == has_holes


@pytest.mark.slow
@pytest.mark.parametrize("k", [2, 3, 5, 10, 12, 15, 20, 24, 25, 50, 100, 1000, 10_000])
@pytest.mark.parametrize("name", [*SHAPES, *WIDE])
def test_rows_without_a_warning_are_covered_for_any_number_of_draws(name, k):
    covered, warned = judged(name, k)
    assert math.isnan(covered) or 0.925 <= covered <= 0.975  # half a percent is the error of 2,000 rows
    assert warned <= 0.1 or k < 100 or name not in WITHIN_A_NAT


def test_spread_does_not_depend_on_the_blocks_and_is_the_variance_of_normal_log_weights():
    log_weights = 1.5 * torch.randn(2000, 6, generator=seeded(), dtype=torch.float64)
    whole, parts = Spread(6, 2000), Spread(6, 2000)
    whole.add(slice(0, 6), log_weights)
    for rows in (slice(0, 4), slice(4, 6)):
        for part in log_weights[:, rows].split([100, 1, 1899]):
            parts.add(rows, part)
    torch.testing.assert_close(whole.variance, parts.variance, rtol=0, atol=0)
    torch.testing.assert_close(whole.below, parts.below, rtol=0, atol=0)
    assert float(whole.variance.mean()) == pytest.approx(2.25, rel=0.1)
    assert torch.isnan(Spread(3, 1).variance).all()


class Broken(Shifted):
    """log p(x|z) of each row is what `values` says, whatever z is, or of half of the draws where `half` is set."""

    def __init__(self, *values, half=False):
        super().__init__(1.0)
        self.values, self.half = torch.tensor(values, dtype=torch.float64), half

    def likelihood(self, z):
        return Fixed(super().likelihood(z), self.values, (z[..., 0] > 0) & self.half)


ROWS = torch.tensor([[0.71], [0.72], [0.73], [0.74]], dtype=torch.float64)  # rows that have a value, by their number


class Fixed(Product):
    """A product of normals whose log-density is given for some rows, but for places where it is that of the normals."""

    def __init__(self, own, values, kept):
        super().__init__(own.base, own.event_ndims)
        self.values, self.kept = values, kept

    def log_prob(self, value):
        own, is_row = super().log_prob(value), (value - ROWS[:, 0]).abs() < 1e-6
        fixed = torch.where(is_row.any(-1), self.values[is_row.double().argmax(-1)], own)
        return torch.where(self.kept, own, fixed)


@pytest.mark.parametrize(("k", "half"), [(1, False), (5, False), (50, False), (200, False), (50, True), (200, True)])
def test_rows_without_a_number_are_unreliable_and_say_why(k, half):
    """NaN or +inf among the weights: NaN; no mass at any draw: -inf. The other rows keep their numbers."""
    inf, x = math.inf, ROWS
    model = Broken(math.nan, inf, -inf, -2.0, half=half)
    found = log_marginal(model, x, num_samples=k, generator=seeded(3))
    assert torch.isnan(found.value[:2]).all()
    assert math.isfinite(found.value[2]) if half else found.value[2] == -inf
    assert math.isfinite(found.value[3])
    lost = ~torch.isfinite(found.value)
    assert found.unreliable[lost].all()
    reasons = [NO_MASS if value == -inf else NOT_A_NUMBER for value in found.value[lost].tolist()]
    assert [text for text, bad in zip(found.reason, lost.tolist(), strict=True) if bad] == reasons
    if not half:
        assert found.reason[:3] == (NOT_A_NUMBER, NOT_A_NUMBER, NO_MASS)
        assert torch.isnan(found.max_weight[2])
        lower = elbo(model, x, num_samples=k, generator=seeded())
        assert lower.unreliable.tolist() == [True, True, True, False]
    assert found.summary()["reasons"] == {text: int(rows.sum()) for text, rows in found.reasons.items()}


@pytest.mark.parametrize(("model", "k", "reason"), [(Shifted(1.0), 5, TOO_FEW), (Shifted(9.0), 5000, SPREAD)])
def test_rows_that_are_not_to_be_believed_say_why(model, k, reason):
    found = iwae(model, torch.full((5, 1), 0.7, dtype=torch.float64), num_samples=k, generator=seeded())
    assert reason in found.reasons
    assert found.reasons[reason].all()


def test_a_heavy_tail_says_so():
    """q of a tenth of the variance: weights without a variance, since the density of q falls so fast."""
    found = iwae(Widened(0.1), torch.full((50, 1), 0.7, dtype=torch.float64), num_samples=2000, generator=seeded())
    assert float(found.reasons[HEAVY].double().mean()) > 0.5


def test_half_of_the_draws_without_mass_leave_the_old_rule():
    weights = Weights(1, 20)
    log_weights = torch.full((20, 1), -math.inf, dtype=torch.float64)
    log_weights[0] = 1.0
    weights.add(slice(0, 1), log_weights)
    found = iwae(Shifted(0.0), torch.zeros(1, 1, dtype=torch.float64), num_samples=20)
    odd = type(found)(
        value=weights.sums.log_mean(20),
        stderr=weights.stderr(),
        num_samples=20,
        method="iwae",
        quantity="density",
        terms=weights.terms(),
        **weights.summary(),
    )
    assert odd.reason == (LARGE,)
    assert float(odd.stderr) == pytest.approx(1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_that_differ_by_rounding_alone_are_not_believed(dtype):
    class Point(Shifted):
        def posterior(self, x):
            scale = torch.full_like(x, 1e-19 if x[0] > 0 else 0.5)
            return Product(Normal(x + 1, scale.to(dtype)), 1)

    x = torch.tensor([[0.5]], dtype=dtype)
    found = log_marginal(Point(1.0), x, num_samples=100, generator=seeded())
    assert found.reason == (UNRESOLVED,)
    assert UNRESOLVED not in log_marginal(Point(1.0), -x, num_samples=100, generator=seeded()).reasons
