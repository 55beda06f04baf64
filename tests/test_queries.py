"""Holes, conditions and odd cells, held against conditional distributions that are known."""

import math
import warnings

import numpy as np
import pytest
import torch
from known_models import LinearGaussian
from scipy import integrate, optimize, stats
from torch.distributions import Categorical, MultivariateNormal, Normal, Uniform

import vaekit as vk
from vaekit import likelihoods, queries, transforms
from vaekit.distributions import Columns, OrdinalCategorical, Product
from vaekit.errors import ConfigError, DataError, ShapeError, SupportError, UnreliableEstimateWarning
from vaekit.models.view import View
from vaekit.queries.alone import row_of
from vaekit.queries.weighted import quantiles, resampled

F64 = torch.float64


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


class Holed(LinearGaussian):
    """The linear Gaussian model, whose q(z | observed cells) is exact, or wider by a factor."""

    def __init__(self, wider=1.0, missing="observed-only", transform=None, **how):
        super().__init__(**how)
        self.wider, self.missing, self.transform = wider, missing, transform

    def posterior(self, x):
        observed = (~x.isnan()).double()
        outer = torch.einsum("dk,nd,dl->nkl", self.w, observed, self.w) / self.noise**2
        covariance = torch.linalg.inv(torch.eye(self.w.shape[1], dtype=F64) + outer)
        loc = torch.einsum("nkl,nl->nk", covariance, (x - self.b).nan_to_num() @ self.w / self.noise**2)
        return MultivariateNormal(loc, self.wider**2 * covariance)

    def likelihood(self, z):
        base = Normal(z @ self.w.T + self.b, torch.tensor(self.noise, dtype=F64), validate_args=False)
        return Product(base, 1, missing=self.missing)

    def conditional(self, row):
        """Mean and covariance of the hidden cells of a row given the others."""
        hidden = row.isnan()
        covariance = self.w @ self.w.T + self.noise**2 * torch.eye(len(self.b), dtype=F64)
        cross = covariance[hidden][:, ~hidden] @ torch.linalg.pinv(covariance[~hidden][:, ~hidden])
        mean = self.b[hidden] + cross @ (row - self.b)[~hidden]
        return mean, covariance[hidden][:, hidden] - cross @ covariance[~hidden][:, hidden]


def with_holes(model, n=6):
    x = model.sample(n)
    x[0, 1] = x[1, 0] = x[1, 3] = torch.nan
    x[2] = torch.nan
    return x


# --- Fills -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wider", [1.0, 1.5])
def test_fills_and_intervals_are_those_of_the_conditional_normal(wider):
    model = Holed(wider)
    x = with_holes(model)
    found = queries.impute(model, x, 20_000, generator=noise())
    median = queries.impute(model, x, 20_000, statistic="median", generator=noise(1))
    for i in range(3):
        hidden = x[i].isnan()
        mean, covariance = model.conditional(x[i])
        sd = covariance.diagonal().sqrt()
        assert bool(((found.filled[i][hidden] - mean) / sd).abs().max() < 5 * wider / math.sqrt(20_000))
        assert bool(((median.filled[i][hidden] - mean) / sd).abs().max() < 0.06)
        assert bool(((found.lower[i][hidden] - (mean - 1.96 * sd)) / sd).abs().max() < 0.12)
        assert bool(((found.upper[i][hidden] - (mean + 1.96 * sd)) / sd).abs().max() < 0.12)
    half = queries.impute(model, x, 20_000, level=0.5, generator=noise())
    width = (half.upper - half.lower)[0, 1]
    assert float(width) == pytest.approx(2 * 0.6745 * math.sqrt(model.conditional(x[0])[1].item()), rel=0.05)


def test_what_was_observed_comes_back_bit_for_bit():
    model = Holed()
    x = with_holes(model)
    found = queries.impute(model, x, 50, 2, generator=noise())
    observed = ~x.isnan()
    assert bool((found.filled[observed] == x[observed]).all())
    assert bool((found.draws[:, observed] == x[observed]).all())
    assert not bool(found.filled.isnan().any())
    assert not bool(found.draws.isnan().any())
    assert bool(found.lower[observed].isnan().all())
    assert bool((found.lower < found.upper)[~observed].all())
    assert found.ess[:3].isfinite().all()
    assert bool(found.ess[3:].isnan().all())
    assert float(found.ess[0]) == pytest.approx(50, rel=1e-9), "q is exact, so that all draws weigh alike"
    assert found.num_filled == 8
    whole = queries.impute(model, x[3:], 10, 3)
    assert bool((whole.filled == x[3:]).all())
    assert whole.num_filled == 0
    assert whole.draws.shape == (3, 3, 5)


def test_draws_have_the_joint_distribution_of_the_hidden_cells():
    model = Holed(1.3)
    x = with_holes(model)
    draws = queries.impute(model, x, 5_000, 2_500, generator=noise()).draws
    for i in (1, 2):
        hidden = x[i].isnan()
        mean, covariance = model.conditional(x[i])
        found = draws[:, i][:, hidden]
        assert bool(((found.mean(0) - mean) / covariance.diagonal().sqrt()).abs().max() < 5 / math.sqrt(2_500))
        scale = covariance.diagonal().sqrt()
        assert bool(((found.T.cov() - covariance) / scale.outer(scale)).abs().max() < 0.12)


def test_a_row_is_answered_alike_alone_and_among_others():
    model = Holed(1.5)
    x = with_holes(model, 70)
    x[66:, 2] = torch.nan
    order = torch.randperm(70, generator=noise(3))
    for ask in (
        lambda rows: queries.impute(model, rows, 20, generator=noise()).filled,
        lambda rows: queries.impute(model, rows, 20, generator=noise()).upper,
        lambda rows: queries.impute(model, rows, 20, 3, generator=noise()).draws.transpose(0, 1),
        lambda rows: queries.score_elements(model, rows, 20, generator=noise()).surprisal,
        lambda rows: queries.score_elements(model, rows, 20, generator=noise()).lower,
        lambda rows: queries.sample_given(model, rows, 4, num_samples=64, generator=noise()),
    ):
        whole = ask(x)
        torch.testing.assert_close(ask(x[order]), whole[order], rtol=1e-9, atol=1e-9, equal_nan=True)
        torch.testing.assert_close(ask(x[[1]])[0], whole[1], rtol=1e-9, atol=1e-9, equal_nan=True)
        torch.testing.assert_close(ask(x[[68]])[0], whole[68], rtol=1e-9, atol=1e-9, equal_nan=True)


def test_equal_rows_get_equal_fills_and_draws_of_their_own():
    model = Holed()
    x = with_holes(model)[[1, 1, 2, 2]]
    found = queries.impute(model, x, 30, 5, generator=noise())
    assert bool((found.filled[0] == found.filled[1]).all())
    assert bool((found.filled[2] == found.filled[3]).all())
    assert not bool((found.draws[:, 0] == found.draws[:, 1])[:, [0, 3]].any())
    assert not bool((found.draws[:, 2] == found.draws[:, 3]).any())
    given = queries.sample_given(model, x, 5, generator=noise())
    assert not bool((given[0] == given[1])[:, [0, 3]].any())


def test_dtypes_of_rows_are_kept_and_answers_repeat():
    with vk.engine.seeded(0):
        model, _ = vk.presets.vae((3,), latent_dim=2, hidden=(8,), likelihood="normal")
    whole = queries.impute(model, np.arange(6).reshape(2, 3))
    assert whole.filled.dtype == torch.int64
    assert whole.filled.tolist() == [[0, 1, 2], [3, 4, 5]]
    model = Holed()
    x = with_holes(model)
    first, second = (queries.impute(model, x, 20, 2, generator=noise(4)) for _ in range(2))
    assert bool((first.filled == second.filled).all())
    assert bool((first.draws == second.draws).all())
    other = queries.impute(model, x, 20, generator=noise(5))
    assert bool((other.filled != first.filled)[x.isnan()].all())


# --- Families and transforms -----------------------------------------------------------------------------------------


class Classes:
    """z is one of four classes; x a level of three, a log-normal number, and a bit, which are independent given z."""

    weights = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=F64)
    levels = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.34, 0.33, 0.33]], dtype=F64)
    loc = torch.tensor([-1.0, 0.0, 1.0, 2.0], dtype=F64)
    scale = torch.tensor([0.5, 0.4, 0.8, 0.3], dtype=F64)
    bits = torch.tensor([0.9, 0.5, 0.2, 0.1], dtype=F64)
    transform = transforms.Columns(3, [transforms.Log()], [(1,)]).double()

    def prior(self):
        return Categorical(self.weights, validate_args=False)

    def posterior(self, x):
        return Categorical(torch.tensor([0.25] * 4, dtype=F64).expand(len(x), 4), validate_args=False)

    def likelihood(self, z):
        z = z.long()
        parts = [
            OrdinalCategorical(self.levels[z].log().unsqueeze(-2), validate_args=False),
            Normal(self.loc[z].unsqueeze(-1), self.scale[z].unsqueeze(-1), validate_args=False),
            vk.distributions.Bernoulli(torch.logit(self.bits[z]).unsqueeze(-1), validate_args=False),
        ]
        return Columns([Product(part, 1, missing="observed-only") for part in parts], [(0,), (1,), (2,)])

    def given(self, row):
        """p(z | observed cells), in numpy."""
        mass = self.weights.clone()
        if not math.isnan(row[0]):
            mass = mass * self.levels[:, int(row[0])]
        if not math.isnan(row[1]):
            mass = mass * Normal(self.loc, self.scale).log_prob(torch.tensor(math.log(row[1]))).exp()
        if not math.isnan(row[2]):
            mass = mass * (self.bits if row[2] else 1 - self.bits)
        return (mass / mass.sum()).numpy()


CASES = [[math.nan, 3.0, 1.0], [1.0, math.nan, math.nan], [2.0, math.nan, 1.0], [math.nan, math.nan, math.nan]]


def test_fills_of_an_enumerable_mixture():
    """Levels, bits, and the mean and median of a log-normal in its own units, not through its logarithm."""
    model = Classes()
    x = torch.tensor(CASES, dtype=F64)
    mean = queries.impute(model, x, 10_000, generator=noise())
    median = queries.impute(model, x, 10_000, statistic="median", generator=noise())
    for i, row in enumerate(CASES):
        mass = model.given(row)
        if math.isnan(row[0]):
            assert mean.filled[i, 0] == np.argmax(mass @ model.levels.numpy())
        if math.isnan(row[2]):
            assert mean.filled[i, 2] == (mass @ model.bits.numpy() > 0.5)
        if math.isnan(row[1]):
            loc, scale = model.loc.numpy(), model.scale.numpy()
            assert float(mean.filled[i, 1]) == pytest.approx(mass @ np.exp(loc + scale**2 / 2), rel=0.06)
            assert float(mean.filled[i, 1]) > 1.05 * np.exp(mass @ loc)

            def cdf(v, mass=mass, loc=loc, scale=scale):
                return mass @ stats.norm.cdf(np.log(v), loc, scale)

            for found, share in ((median.filled, 0.5), (mean.lower, 0.025), (mean.upper, 0.975)):
                assert cdf(float(found[i, 1])) == pytest.approx(share, abs=0.02)
            assert median.filled[i, 1] == pytest.approx(optimize.brentq(lambda v: cdf(v) - 0.5, 1e-3, 100), rel=0.05)


def test_draws_of_levels_have_their_frequencies_not_the_largest():
    model = Classes()
    x = torch.tensor(CASES, dtype=F64)
    draws = queries.impute(model, x, 20_000, 4_000, generator=noise()).draws
    for i, row in enumerate(CASES):
        mass = model.given(row)
        if math.isnan(row[0]):
            expected = mass @ model.levels.numpy()
            found = draws[:, i, 0].long().bincount(minlength=3).double().numpy() / 4_000
            assert np.abs(found - expected).max() < 4 * math.sqrt(0.25 / 4_000)
        if math.isnan(row[2]):
            assert float(draws[:, i, 2].mean()) == pytest.approx(mass @ model.bits.numpy(), abs=0.035)


class Fixed:
    """p(x|z) that does not depend on z: one head at given parameters, so that cells have the law of its family."""

    def __init__(self, head, params, transform=None):
        self.head, self.params, self.transform = head.double(), params.double(), transform

    def prior(self):
        return Product(Normal(torch.zeros(1, dtype=F64), torch.ones(1, dtype=F64), validate_args=False), 1)

    def posterior(self, x):
        return self.prior().expand(torch.Size((len(x),)))

    def likelihood(self, z):
        return self.head(self.params.expand(*z.shape[:-1], *self.params.shape))


def fixed(head, transform=None, seed=0):
    return Fixed(head, torch.randn(head.param_shape, dtype=F64, generator=noise(seed)), transform)


OBSERVED = {"missing": "observed-only"}
FAMILIES = {
    "normal": likelihoods.Normal(2, scale="network", **OBSERVED),
    "t": likelihoods.StudentT(2, df=5.0, scale="network", **OBSERVED),
    "mixture": likelihoods.NormalMixture(2, num_components=3, **OBSERVED),
    "spiked": likelihoods.Spiked(2, likelihoods.Normal(2, scale="network", **OBSERVED), [[0.0], [1.0, 2.0]]),
    "negative binomial": likelihoods.NegativeBinomial(2, dispersion="network", **OBSERVED),
    "zero-inflated": likelihoods.ZeroInflatedNegativeBinomial(2, dispersion="network", **OBSERVED),
    "poisson": likelihoods.Poisson(2, **OBSERVED),
    "log-normal": likelihoods.LogNormal(2, scale="network", **OBSERVED),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_cells_of_each_family_have_its_mean_and_its_quantiles(name):
    """The mean exactly; of the interval, the mass that draws of torch find outside."""
    model = fixed(FAMILIES[name])
    x = torch.full((1, 2), torch.nan, dtype=F64)
    found = queries.impute(model, x, 1_000, 4_000, generator=noise())
    p = model.likelihood(torch.zeros(1, dtype=F64))
    torch.testing.assert_close(found.filled[0], p.mean, rtol=1e-9, atol=1e-9)
    with vk.engine.seeded(1):
        drawn = p.sample((40_000,))
    below, above = (drawn < found.lower[0]).double().mean(0), (drawn > found.upper[0]).double().mean(0)
    assert bool((below <= 0.025 + 0.015).all())
    assert bool((above <= 0.025 + 0.015).all())
    reaches = (drawn <= found.lower[0]).double().mean(0), (drawn >= found.upper[0]).double().mean(0)
    assert all(bool((share >= 0.025 - 0.015).all()) for share in reaches)
    own = found.draws[:, 0]
    for d in range(2):
        assert stats.ks_2samp(own[:, d].numpy(), drawn[:4_000, d].numpy()).pvalue > 1e-3


LOG_ODDS = transforms.Compose([transforms.Scale(0, 10), transforms.Logit(1e-3), transforms.Standardize(2)])


@pytest.mark.parametrize(
    ("head", "transform"),
    [
        ("normal", transforms.Log()),
        ("normal", transforms.Columns(2, [transforms.Log()], [(1,)])),
        ("normal", LOG_ODDS),
        ("t", LOG_ODDS),
    ],
)
def test_means_through_a_transform_that_bends_are_those_of_the_data(head, transform):
    """Against quadrature of the inverse over the density in model space."""
    model = fixed(FAMILIES[head], transform.double())
    x = torch.full((1, 2), torch.nan, dtype=F64)
    found = queries.impute(model, x, 10_000, generator=noise()).filled[0]
    p = model.likelihood(torch.zeros(1, dtype=F64))

    def at(v, d):
        y = torch.zeros(1, 2, dtype=F64)
        y[0, d] = v
        return float(transform.inverse(y)[0, d] * p.log_prob_per_element(y)[0, d].exp())

    for d in range(2):
        middle, width = float(p.mean[d]), 60 if head == "t" else 12
        points = np.linspace(middle - width, middle + width, 7)
        expected, _ = integrate.quad(at, points[0], points[-1], args=(d,), points=points[1:-1], limit=400)
        assert float(found[d]) == pytest.approx(expected, rel=1e-6 if head == "normal" else 0.02)


def test_a_grade_is_filled_by_the_most_probable_and_bounded_by_quantiles():
    model = fixed(likelihoods.Ordinal(1, num_classes=5, **OBSERVED), seed=2)
    found = queries.impute(model, torch.full((1, 1), torch.nan, dtype=F64), 200, generator=noise())
    masses = model.likelihood(torch.zeros(1, dtype=F64)).log_prob(torch.arange(5.0, dtype=F64)[:, None]).exp()
    reached = masses.cumsum(0)
    assert int(found.filled[0, 0]) == int(masses.argmax())
    assert int(found.lower[0, 0]) == int((reached < 0.025).sum())
    assert int(found.upper[0, 0]) == int((reached < 0.975).sum())


@pytest.mark.parametrize("seed", range(6))
def test_a_grade_that_is_a_number_is_filled_by_the_level_nearest_to_the_mean_or_by_the_median(seed):
    model = fixed(likelihoods.Ordinal(1, num_classes=5, **OBSERVED), seed=seed)
    values = np.array([1.0, 2.0, 3.0, 10.0, 30.0])
    masses = (
        model.likelihood(torch.zeros(1, dtype=F64))
        .log_prob(torch.arange(5.0, dtype=F64)[:, None])
        .exp()
        .detach()
        .numpy()
    )
    row, how = torch.full((1, 1), torch.nan, dtype=F64), {"level_values": {0: values}, "generator": noise()}
    mean = queries.impute(model, row, 50, **how).filled
    assert float(mean[0, 0]) == np.abs(values - masses @ values).argmin()
    median = queries.impute(model, row, 50, statistic="median", **how).filled
    assert float(median[0, 0]) == (masses.cumsum() < 0.5).sum()


def test_the_distribution_of_one_row_is_the_same_alone():
    z = torch.randn(7, 5, 1, dtype=F64, generator=noise())
    for name, head in FAMILIES.items():
        head = head.double()
        params = torch.randn(7, 5, *head.param_shape, dtype=F64, generator=noise())
        whole, single = head(params).base, head(params[:, 3:4]).base
        alone = row_of(whole, 3)
        assert alone is not None, name
        assert alone.batch_shape == single.batch_shape
        with vk.engine.seeded(0):
            first = alone.sample((4,))
        with vk.engine.seeded(0):
            second = row_of(single, 0).sample((4,))
        torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12, msg=name)
        torch.testing.assert_close(alone.log_prob(first), single.log_prob(first), rtol=1e-9, atol=1e-9, msg=name)

    class Own(Normal):
        pass

    assert row_of(Own(z, z.abs()), 0) is None


def test_missing_pixels_of_images_are_filled_too():
    model = fixed(likelihoods.Bernoulli((1, 3, 3), **OBSERVED))
    x = torch.ones(2, 1, 3, 3, dtype=F64)
    x[0, 0, 1, 1] = x[1, 0, 0] = torch.nan
    found = queries.impute(model, x, 50, 2, generator=noise())
    p = model.likelihood(torch.zeros(1, dtype=F64)).base.probs
    assert found.filled.shape == (2, 1, 3, 3)
    assert found.draws.shape == (2, 2, 1, 3, 3)
    assert found.filled[0, 0, 1, 1] == (p[0, 1, 1] > 0.5)
    assert queries.score_elements(model, x, 50).surprisal.shape == (2, 1, 3, 3)


# --- Conditions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "num"), [("importance", 1_500), ("hmc", 600)])
def test_draws_given_some_cells_have_the_conditional_distribution(method, num):
    model = Holed(1.4)
    x = with_holes(model)[:3]
    drawn = queries.sample_given(model, x, num, method=method, generator=noise())
    wide = 0.2 if method == "importance" else 0.35  # draws of a chain are alike, and fewer
    assert drawn.shape == (3, num, 5)
    for i in range(3):
        hidden = x[i].isnan()
        assert bool((drawn[i][:, ~hidden] == x[i][~hidden]).all())
        mean, covariance = model.conditional(x[i])
        found, scale = drawn[i][:, hidden], covariance.diagonal().sqrt()
        assert bool(((found.mean(0) - mean) / scale).abs().max() < 6 / math.sqrt(num))
        assert bool(((found.T.cov().reshape(covariance.shape) - covariance) / scale.outer(scale)).abs().max() < wide)


def test_frequencies_given_a_level_and_a_number():
    model = Classes()
    drawn = queries.sample_given(model, torch.tensor(CASES, dtype=F64), 4_000, num_samples=10_000, generator=noise())
    mass = model.given(CASES[0])
    found = drawn[0, :, 0].long().bincount(minlength=3).double().numpy() / 4_000
    assert np.abs(found - mass @ model.levels.numpy()).max() < 4 * math.sqrt(0.25 / 4_000)
    mass = model.given(CASES[1])
    logs = drawn[1, :, 1].log()
    assert float(logs.mean()) == pytest.approx(mass @ model.loc.numpy(), abs=0.08)
    # Both hidden cells of a row come from one z: they depend on each other as in the model.
    expected = mass @ (model.bits.numpy() * model.loc.numpy())
    assert float((drawn[1, :, 2] * logs).mean()) == pytest.approx(expected, abs=0.08)


class Bounded:
    """x_1, x_2 uniform on (0, z), z uniform on (1, 2): no mass above 2."""

    def prior(self):
        return Product(Uniform(torch.ones(1, dtype=F64), 2 * torch.ones(1, dtype=F64), validate_args=False), 1)

    def posterior(self, x):
        return self.prior().expand(torch.Size((len(x),)))

    def likelihood(self, z):
        base = Uniform(torch.zeros(2, dtype=F64), z.expand(*z.shape[:-1], 2), validate_args=False)
        return Product(base, 1, missing="observed-only")


def test_a_rare_condition_warns_and_says_how_many_draws_it_needs():
    """z of `Bounded` is confined, so that no search can stand in for draws of q."""
    rare, common = (torch.tensor([[torch.nan, v]], dtype=F64) for v in (1.999, 0.5))
    with pytest.warns(UnreliableEstimateWarning, match=r"effective draws of z out of K = 1,000. Take num_samples=\d"):
        queries.sample_given(Bounded(), rare, 50, generator=noise())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        queries.sample_given(Bounded(), common, 50, generator=noise())


class Lost(Holed):
    """An encoder that has seen no holes: it takes them for the mean, and is sure of what it says."""

    def posterior(self, x):
        covariance = torch.linalg.inv(torch.eye(2, dtype=F64) + self.w.T @ self.w / self.noise**2)
        return MultivariateNormal((x - self.b).nan_to_num() @ self.w @ covariance / self.noise**2, covariance)


def test_draws_are_searched_for_where_the_encoder_fails():
    """With ten draws of q each answer would rest on one or two: the search finds p(z | observed cells)."""
    model, n = Lost(noise=0.1), 40
    x = model.sample(n)
    x[:, [0, 3, 4]] = torch.nan
    found = queries.impute(model, x, 100, generator=noise())
    mean = torch.stack([model.conditional(row)[0] for row in x])
    scale = model.conditional(x[0])[1].diagonal().sqrt()
    error = ((found.filled[:, [0, 3, 4]] - mean) / scale).square().mean().sqrt()
    assert float(error) < 0.3
    assert float(found.ess.median()) > 20
    whole = model.sample(6)
    scores = queries.score_elements(model, whole, 200, generator=noise())
    at, sd = leave_one_out(model, whole)
    error = (scores.surprisal + Normal(at, sd).log_prob(whole)).abs()
    assert float((error < 6 / scores.ess.sqrt()).double().mean()) > 0.9
    assert float(error.max()) < 2


def test_a_condition_without_mass_names_its_column():
    with pytest.raises(DataError, match="condition of row 1 no mass: column 1 is 2.5"):
        queries.sample_given(Bounded(), torch.tensor([[torch.nan, 1.5], [torch.nan, 2.5]], dtype=F64), 3)
    ok = queries.sample_given(Bounded(), torch.tensor([[torch.nan, 1.5]], dtype=F64), 500, generator=noise())
    assert bool((ok[0, :, 0] < 2).all())
    filled = queries.impute(Bounded(), torch.tensor([[torch.nan, 2.5]], dtype=F64), 20, generator=noise())
    assert filled.ess[0] == 0
    assert bool(filled.unreliable[0])


def test_partial_rows_that_are_whole_are_repeated():
    model = Holed()
    x = model.sample(2)
    assert bool((queries.sample_given(model, x, 3) == x.unsqueeze(1)).all())


# --- Odd cells -------------------------------------------------------------------------------------------------------


def leave_one_out(model, x):
    """Mean and standard deviation of each cell given the others, of a linear Gaussian model."""
    precision = torch.linalg.inv(model.w @ model.w.T + model.noise**2 * torch.eye(len(model.b), dtype=F64))
    variance = 1 / precision.diagonal()
    return x - (x - model.b) @ precision * variance, variance.sqrt()


@pytest.mark.parametrize("method", ["masked", "leave-one-out"])
def test_the_score_of_a_cell_is_that_of_the_conditional_normal(method):
    model = Holed(1.2, noise=2.0)  # no cell decides on z by itself, or weights of whole rows would have no variance
    x = model.sample(8)
    x[0, 2] += 8
    found = queries.score_elements(model, x, 5_000, method=method, generator=noise())
    mean, sd = leave_one_out(model, x)
    expected = -Normal(mean, sd).log_prob(x)
    ordinary = ((x - mean) / sd).abs() < 3
    error = 5 / found.ess.sqrt()
    assert float(found.ess[ordinary].min()) > 1_000
    assert bool(((found.surprisal - expected).abs() < error + 0.01)[ordinary].all())
    assert bool((((found.expected - mean) / sd).abs() < error)[ordinary].all())
    wide = 3 if method == "masked" else 6  # standard errors of a quantile in the tail, for weights of heavy tails
    assert bool((((found.lower - mean + 1.96 * sd) / sd).abs() < wide * error + 0.05)[ordinary].all())
    assert found.surprisal[0].argmax() == 2
    assert not bool(found.is_mass.any())
    assert bool((found.is_masked == (method == "masked")).all())
    assert not bool(found.unreliable[ordinary].any())


def test_holes_have_no_score_and_the_others_are_given_what_is_there():
    model = Holed()
    x = with_holes(model)
    found = queries.score_elements(model, x, 4_000, generator=noise())
    for part in (found.surprisal, found.expected, found.lower, found.upper, found.ess):
        assert bool((part.isnan() == x.isnan()).all())
    masked = x[0].clone()
    masked[0] = torch.nan  # cells 0 and 1 are hidden now
    mean, covariance = model.conditional(masked)
    expected = -Normal(mean[0], covariance[0, 0].sqrt()).log_prob(x[0, 0])
    assert float(found.surprisal[0, 0]) == pytest.approx(float(expected), abs=0.05)


@pytest.mark.parametrize("method", ["masked", "leave-one-out"])
def test_the_score_of_a_density_is_in_the_units_of_the_data(method):
    """Through a logarithm the Jacobian of the cell belongs to its score, and only that one."""
    model = Holed(1.2, noise=1.5)
    bent = Holed(1.2, noise=1.5, transform=transforms.Log())
    y = model.b + 0.5 * (model.sample(5) - model.b)
    found = queries.score_elements(bent, y.exp(), 5_000, method=method, generator=noise())
    mean, sd = leave_one_out(model, y)
    error = 5 / found.ess.sqrt()
    assert bool(((found.surprisal + Normal(mean, sd).log_prob(y) - y).abs() < error + 0.01).all())
    assert bool(((found.expected.log() - mean - sd**2 / 2).abs() < 2 * error * sd + 0.01).all())
    assert bool((((found.upper.log() - mean - 1.96 * sd) / sd).abs() < 3 * error + 0.05).all())


@pytest.mark.parametrize("method", ["masked", "leave-one-out"])
def test_the_scores_of_an_enumerable_mixture(method):
    model = Classes()
    rows = [[0.0, 0.4, 1.0], [2.0, 9.0, 0.0], [1.0, 1.0, 1.0]]
    found = queries.score_elements(model, torch.tensor(rows, dtype=F64), 10_000, method=method, generator=noise())
    assert found.is_mass.tolist() == [[True, False, True]] * 3
    for i, row in enumerate(rows):
        for j in range(3):
            mass = model.given([math.nan if d == j else v for d, v in enumerate(row)])
            given_z = (
                model.levels[:, int(row[0])].numpy(),
                stats.norm.pdf(math.log(row[1]), model.loc.numpy(), model.scale.numpy()) / row[1],
                np.where(row[2], model.bits.numpy(), 1 - model.bits.numpy()),
            )[j]
            assert float(found.surprisal[i, j]) == pytest.approx(-math.log(mass @ given_z), abs=0.08)
        mass = model.given([math.nan, *row[1:]])
        assert found.expected[i, 0] == np.argmax(mass @ model.levels.numpy())


def test_a_spike_is_a_mass_and_what_lies_beside_it_a_density():
    model = fixed(FAMILIES["spiked"])
    found = queries.score_elements(model, torch.tensor([[0.0, 2.0], [0.3, -1.0]], dtype=F64), 20, generator=noise())
    p = model.likelihood(torch.zeros(1, dtype=F64))
    expected = -p.log_prob_per_element(torch.tensor([[0.0, 2.0], [0.3, -1.0]], dtype=F64))
    assert found.is_mass.tolist() == [[True, True], [False, False]]
    torch.testing.assert_close(found.surprisal, expected, rtol=1e-9, atol=1e-9)


def test_a_model_that_bears_no_holes_is_scored_by_leaving_out():
    with_mask, without = Holed(1.2), Holed(1.2, missing="error")
    x = with_mask.sample(4)
    found = queries.score_elements(without, x, 100, generator=noise())
    assert not bool(found.is_masked.any())
    with pytest.raises(ConfigError, match="leave NaN out"):
        queries.score_elements(without, x, method="masked")
    with pytest.raises(DataError, match=r"2 empty cells .* missing='observed-only'"):
        queries.impute(without, with_holes(without)[:1].repeat(2, 1))


# --- Rubin's rules ---------------------------------------------------------------------------------------------------


def test_pooling_follows_rubin_and_barnard():
    values, variances, m, complete = [4.0, 5.5, 4.5, 6.0, 5.0], [0.3, 0.2, 0.25, 0.4, 0.35], 5, 40
    found = queries.pool(values, variances, degrees_of_freedom=complete)
    within, between = np.mean(variances), np.var(values, ddof=1)
    total = within + 1.2 * between
    share = 1.2 * between / total
    old = (m - 1) / share**2
    observed = (complete + 1) / (complete + 3) * complete * (1 - share)
    df = old * observed / (old + observed)
    ratio = 1.2 * between / within
    assert (found.estimate, found.within, found.between) == pytest.approx((5.0, within, between))
    assert found.stderr == pytest.approx(math.sqrt(total))
    assert found.degrees_of_freedom == pytest.approx(df)
    assert found.missing_information == pytest.approx((ratio + 2 / (df + 3)) / (ratio + 1))
    assert queries.pool(values, variances).degrees_of_freedom == pytest.approx(old)
    same = queries.pool([2.0, 2.0], [0.5, 0.5])
    assert (same.stderr, same.degrees_of_freedom, same.missing_information) == (math.sqrt(0.5), math.inf, 0.0)
    for bad in (([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, math.nan], [1.0, 1.0]), ([1.0, 2.0], [-1.0, 1.0])):
        with pytest.raises(ConfigError, match="pool takes"):
            queries.pool(*bad)
    with pytest.raises(ConfigError, match="degrees_of_freedom"):
        queries.pool(values, variances, 0)


def test_intervals_of_pooled_means_cover_the_mean():
    """Draws of holes, pooled by Rubin's rules, cover the true mean of a column as often as they say."""
    model, covered, num = Holed(), 0, 40
    for seed in range(num):
        x = model.sample(50, seed=100 + seed)
        x[torch.rand(50, generator=noise(seed)) < 0.4, 1] = torch.nan
        draws = queries.impute(model, x, 30, 10, generator=noise(seed)).draws[..., 1]
        found = queries.pool(draws.mean(1).tolist(), (draws.var(1) / 50).tolist(), degrees_of_freedom=49)
        half = stats.t.ppf(0.975, found.degrees_of_freedom) * found.stderr
        covered += abs(found.estimate - float(model.b[1])) < half
    assert stats.binomtest(covered, num, 0.95).pvalue > 0.01


# --- Small parts and errors ------------------------------------------------------------------------------------------


def test_weighted_quantiles_and_resampling_by_hand():
    values = torch.tensor([[5.0, 1.0], [1.0, 2.0], [3.0, 3.0]])
    weights = torch.tensor([[0.2, 0.0], [0.5, 0.0], [0.3, 1.0]])
    assert quantiles(values, weights, (0.4, 0.5, 0.6, 0.9)).tolist() == [[1, 3], [1, 3], [3, 3], [5, 3]]
    chosen = resampled(weights.double(), torch.rand(1_001, 2, generator=noise(), dtype=F64))
    assert chosen[:, 0].bincount(minlength=3).tolist() == pytest.approx([200, 500, 300], abs=1)
    assert chosen[:, 1].unique().tolist() == [2]
    equal = resampled(torch.full((10, 1), 0.1, dtype=F64), torch.rand(11, 1, generator=noise(), dtype=F64))
    assert sorted(equal[:, 0].tolist()) == list(range(10))


def test_what_cannot_be_asked_is_refused():
    model = Holed()
    x = with_holes(model)
    for ask, match in (
        (lambda: queries.impute(model, x, statistic="mode"), '"mean" or "median"'),
        (lambda: queries.impute(model, x, level=1.0), "between 0 and 1"),
        (lambda: queries.impute(model, x, 0), "num_samples is at least 1"),
        (lambda: queries.impute(model, x, 5, 0), "num_draws is at least 1"),
        (lambda: queries.sample_given(model, x, 0), "n is at least 1"),
        (lambda: queries.sample_given(model, x, 2, method="gibbs"), '"importance" or "hmc"'),
        (lambda: queries.score_elements(model, x, method="other"), "leave-one-out"),
    ):
        with pytest.raises(ConfigError, match=match):
            ask()
    with pytest.raises(ShapeError):
        queries.impute(model, x[:, :3])
    with pytest.raises(SupportError):
        queries.impute(Classes(), torch.tensor([[3.5, torch.nan, 0.0]], dtype=F64))

    class Joint(Holed):
        def likelihood(self, z):
            return MultivariateNormal(z @ self.w.T + self.b, torch.eye(5, dtype=F64))

    with pytest.raises(ConfigError, match="no product over them"):
        queries.impute(Joint(), model.sample(2))


def test_a_transform_says_whether_it_is_affine():
    affine, log = transforms.Standardize(1), transforms.Log()
    assert transforms.Scale().is_affine
    assert transforms.Compose([transforms.Scale(), affine]).is_affine
    assert not transforms.Compose([log, affine]).is_affine
    assert not transforms.Logit().is_affine
    assert transforms.Spiked(affine, [[0.0]]).is_affine
    assert not transforms.Spiked(log, [[1.0]]).is_affine
    both = transforms.Columns(3, [log, affine], [(2,), (0,)])
    assert both.affine_columns.tolist() == [True, True, False]
    assert not both.is_affine

    class Own(transforms.Standardize):
        def forward(self, x):
            return x.exp()

    assert not Own(1).is_affine


def test_queries_are_reached_by_their_package():
    assert vk.queries.impute is queries.impute
    assert View.of(Holed()).quantity == "density"
