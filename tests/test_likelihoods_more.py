"""Counts, proportions, positive numbers, outliers and mixtures: against scipy, sums, integrals and float64."""

import itertools

import numpy as np
import pytest
import torch
from scipy import special, stats

from vaekit import likelihoods, networks
from vaekit.conditional import Conditional
from vaekit.distributions import (
    Beta,
    DiscretizedLogistic,
    NegativeBinomial,
    Poisson,
    StudentT,
    ZeroInflated,
    check_support,
)
from vaekit.distributions.links import PositiveParameter, log_positive, positive
from vaekit.distributions.special import stirling_remainder
from vaekit.errors import ConfigError, SupportError
from vaekit.testing import check_likelihood

F64 = torch.float64


def tensor(*values):
    return torch.tensor(values, dtype=F64)


def grid(*axes):
    """Every combination of the axes' values, as one tensor per axis."""
    return tuple(part.flatten() for part in torch.meshgrid(*(tensor(*axis) for axis in axes), indexing="ij"))


# --- What the families share -----------------------------------------------------------------------------------------


def test_the_remainder_of_stirlings_formula_and_its_gradient():
    # scipy's own log-gamma loses the remainder of large arguments: those are held against 1/(12z) - 1/(360z^3).
    z = torch.logspace(-20, 1.5, 200, dtype=F64).requires_grad_()
    value = stirling_remainder(z)
    x = z.detach().numpy()
    leading = (x - 0.5) * np.log(x) - x + 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(value.detach().numpy(), special.gammaln(x) - leading, rtol=1e-10, atol=3e-14)
    (gradient,) = torch.autograd.grad(value.sum(), z)
    np.testing.assert_allclose(gradient.numpy(), special.digamma(x) - np.log(x) + 0.5 / x, rtol=1e-8, atol=1e-12)
    large = torch.logspace(3, 20, 50, dtype=F64)
    np.testing.assert_allclose(stirling_remainder(large), 1 / (12 * large) - 1 / (360 * large**3), rtol=1e-12)


def test_the_link_is_an_exponential_that_goes_on_as_a_line():
    raw = torch.tensor([-60.0, 0.0, 16.0, 17.0, 1e4]).requires_grad_()
    value = positive(raw)
    torch.testing.assert_close(value[:3], raw[:3].exp())
    torch.testing.assert_close(value[3:] / value[2], raw[3:] - 15)
    torch.testing.assert_close(log_positive(raw), value.log())
    (gradient,) = torch.autograd.grad(value.sum(), raw)
    torch.testing.assert_close(gradient[3:], value[2].detach().expand(2))


@pytest.mark.parametrize("kind", [0.7, "learned", "per-dimension", "network"])
def test_a_positive_parameter_starts_where_it_says(kind):
    parameter = PositiveParameter((2, 3), kind, name="df", floor=0.5, initial=3.0)
    value = parameter(torch.zeros(4, 2, 3), torch.zeros(4, 2, 3) if kind == "network" else None)
    shapes = {"learned": (), "per-dimension": (2, 3), "network": (4, 2, 3)}
    assert tuple(value.shape) == shapes.get(kind, ())
    torch.testing.assert_close(value, torch.full(value.shape, 0.7 if kind == 0.7 else 3.5))
    assert parameter.num_params == (kind == "network")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: likelihoods.StudentT(2, df=0.0), "a fixed df is positive; got 0.0"),
        (lambda: likelihoods.StudentT(2, df="many"), 'df is a number, "learned"'),
        (lambda: likelihoods.StudentT(2, min_df=0.0), "min_df is positive"),
        (lambda: likelihoods.NegativeBinomial(2, dispersion=-1), "a fixed dispersion is positive"),
        (lambda: likelihoods.NegativeBinomial(2, dispersion=float("inf")), "a fixed dispersion is positive"),
        (lambda: likelihoods.Beta(2, concentration=float("nan")), "a fixed concentration is positive"),
        (lambda: likelihoods.DiscretizedLogisticMixture(2, num_components=0), "at least 1 component"),
        (lambda: likelihoods.DiscretizedLogisticMixture(2, num_levels=1), "at least 2 levels"),
        (lambda: likelihoods.DiscretizedLogisticMixture(2, min_scale=0), "min_scale is positive"),
        (lambda: likelihoods.DiscretizedLogisticMixture((3, 2, 2), missing="observed-only"), "the 3 channels"),
        (lambda: networks.LogInput(torch.nn.Identity(), -1.0), "offset of at least 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("head", "bad", "message"),
    [
        (likelihoods.Poisson(2), 1.5, r"Poisson expects x in the non-negative integers; got values in \[1, 1.5\] that"),
        (likelihoods.Poisson(2), -1.0, "non-negative integers; got values in .* are not all non-negative integers"),
        (likelihoods.NegativeBinomial(2), float("inf"), "NegativeBinomial expects x in the non-negative integers"),
        (likelihoods.ZeroInflatedNegativeBinomial(2), 0.1, "ZeroInflated expects x in the non-negative integers"),
        (likelihoods.LogNormal(2), 0.0, "LogNormal expects x in the positive numbers; got values in"),
        (likelihoods.StudentT(2), float("inf"), "StudentT expects x in the real numbers"),
        (
            likelihoods.DiscretizedLogisticMixture(2),
            256.0,
            r"DiscretizedLogisticMixture expects x in the integers 0\.\.",
        ),
    ],
)
def test_values_outside_the_support_are_refused(head, bad, message):
    d = head(torch.zeros(1, *head.param_shape))
    check_support(d, torch.ones(1, 2))
    with pytest.raises(SupportError, match=message):
        check_support(d, torch.tensor([[1.0, bad]]))


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_the_ends_of_the_interval_have_no_beta_density(end):
    d = likelihoods.Beta(1)(torch.zeros(1, 1, 1))
    check_support(d, torch.tensor([[1e-30], [0.9999]]))
    with pytest.raises(SupportError, match=r"Beta expects x in \(0, 1\); got values in .*ContinuousBernoulli"):
        check_support(d, torch.tensor([[end]]))
    assert d.log_prob(torch.tensor([[end]])).isfinite().all()  # rounding of dequantised values does not stop a run


# --- Against scipy, and in float32 ------------------------------------------------------------------------------------

# Family: distribution of float64 parameters, scipy's log-probability of them, their grid, values of x.
ORACLES = {
    "StudentT": (
        lambda df, loc, scale: StudentT(df, loc, scale, validate_args=False),
        lambda x, df, loc, scale: stats.t.logpdf(x, df, loc, scale),
        ([0.1, 1.0, 2.5, 30.0, 1e4], [-3.0, 0.2], [1e-3, 1.0, 50.0]),
        [-1e4, -2.0, 0.2, 7.0, 1e6],
    ),
    "Poisson": (
        lambda log_rate: Poisson(log_rate, validate_args=False),
        lambda x, log_rate: stats.poisson.logpmf(x, np.exp(log_rate)),
        ([-30.0, -2.0, 0.0, 1.3, 6.0, 11.0],),
        [0.0, 1.0, 2.0, 7.0, 300.0, 60_000.0],
    ),
    "NegativeBinomial": (
        lambda log_mean, dispersion: NegativeBinomial(log_mean, dispersion, validate_args=False),
        lambda x, log_mean, a: stats.nbinom.logpmf(x, 1 / a, 1 / (1 + a * np.exp(log_mean))),
        ([-4.0, -1.0, 0.5, 6.0, 9.0], [1e-3, 0.1, 1.0, 7.0, 1e3]),
        [0.0, 1.0, 2.0, 9.0, 400.0, 9000.0],
    ),
    "Beta": (
        lambda logits, concentration: Beta(logits, concentration, validate_args=False),
        lambda x, l, k: stats.beta.logpdf(x, k * special.expit(l), k * special.expit(-l)),
        ([-25.0, -6.0, 0.0, 0.7, 12.0], [1e-2, 1.0, 2.0, 50.0, 1e4]),
        [1e-12, 1e-3, 0.3, 0.5, 0.999, 1 - 1e-7],
    ),
}


@pytest.mark.parametrize("name", ORACLES)
def test_log_prob_is_scipys(name):
    make, oracle, axes, points = ORACLES[name]
    params, x = grid(*axes), tensor(*points).unsqueeze(-1)
    value = make(*params).log_prob(x).numpy()
    expected = oracle(x.numpy(), *(p.numpy() for p in params))
    # scipy subtracts log-gammas: its own error is that of their size.
    np.testing.assert_allclose(value, expected, rtol=1e-9, atol=2e-7)


@pytest.mark.parametrize("name", ORACLES)
def test_float32_keeps_four_digits_and_finite_gradients_where_float64_is_exact(name):
    make, _, axes, points = ORACLES[name]
    params = [p.float().requires_grad_() for p in grid(*axes)]
    x = tensor(*points).float().unsqueeze(-1)
    single = make(*params).log_prob(x)
    double = make(*(p.detach().double() for p in params)).log_prob(x.double())
    np.testing.assert_allclose(single.detach().double().numpy(), double.numpy(), rtol=2e-4, atol=1e-2)
    for gradient in torch.autograd.grad(single.sum(), params):
        assert gradient.isfinite().all()


def test_limits_that_lose_float32_elsewhere():
    x = torch.tensor([0.0, 1.0, 40.0, 1000.0])
    log_mean, many = torch.tensor(3.5), torch.tensor(1e7)
    poisson = torch.from_numpy(stats.poisson.logpmf(x.numpy(), np.exp(3.5)))
    limit = NegativeBinomial(log_mean, 1 / many).log_prob(x).double()
    torch.testing.assert_close(
        limit, poisson, rtol=2e-4, atol=1e-4
    )  # 40 mean^2/(2 10^7), and rounding of 1000 log 1000
    normal = torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(StudentT(many).log_prob(x[:2]), normal.log_prob(x[:2]), rtol=1e-5, atol=1e-6)
    assert abs(torch.distributions.StudentT(many).log_prob(x[:1]) - normal.log_prob(x[:1])) > 0.1, "torch cancels"
    sd = 0.5 / np.sqrt(1e7)
    beta = Beta(torch.tensor(0.0), many).log_prob(torch.tensor(0.5))
    np.testing.assert_allclose(beta.item(), -0.5 * np.log(2 * np.pi * sd**2), rtol=1e-5)


@pytest.mark.parametrize("scale", [0.6, "network"])
def test_log_normal_is_scipys(scale):
    head = likelihoods.LogNormal(3, scale=scale).double()
    params = torch.linspace(-3, 3, 6 * head.num_params, dtype=F64).reshape(2, head.num_params, 3)
    x = tensor(1e-300, 0.2, 5.0, 1.0, 1e8, 1e-3).reshape(2, 3)
    sd = scale if scale == 0.6 else head.scale_parameter(params, params[:, 1]).numpy()
    expected = stats.lognorm.logpdf(x.numpy(), sd, scale=np.exp(params[:, 0].numpy())).sum(-1)
    np.testing.assert_allclose(head(params).log_prob(x).numpy(), expected, rtol=1e-11)


@pytest.mark.parametrize("df", [4.0, "learned", "per-dimension", "network"])
@pytest.mark.parametrize("scale", [0.5, "network"])
def test_each_kind_of_degrees_of_freedom_and_scale_reaches_its_place(df, scale):
    head = likelihoods.StudentT(2, df=df, scale=scale, min_df=1.5, min_scale=0.01).double()
    for p in head.parameters():
        torch.nn.init.normal_(p)
    params = torch.linspace(-1, 1, 2 * head.num_params, dtype=F64).reshape(1, head.num_params, 2)
    x = tensor(0.3, -2.0).unsqueeze(0)
    raw = params[:, -1] if df == "network" else getattr(head.df_parameter, "raw", None)
    nu = 4.0 if df == 4.0 else 1.5 + 3 * np.exp(raw.detach().numpy())
    sd = 0.5 if scale == 0.5 else 0.01 + np.log1p((np.e - 1) * np.exp(params[:, 1].numpy()))
    expected = stats.t.logpdf(x.numpy(), nu, params[:, 0].numpy(), sd).sum(-1)
    np.testing.assert_allclose(head(params).log_prob(x).detach().numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("inflated", [False, True])
@pytest.mark.parametrize("dispersion", [0.4, "learned", "per-dimension", "network"])
def test_each_kind_of_dispersion_reaches_its_place(inflated, dispersion):
    kind = likelihoods.ZeroInflatedNegativeBinomial if inflated else likelihoods.NegativeBinomial
    head = kind(2, dispersion=dispersion, min_dispersion=0.02).double()
    for p in head.parameters():
        torch.nn.init.normal_(p)
    params = torch.linspace(-1, 1, 2 * head.num_params, dtype=F64).reshape(1, head.num_params, 2)
    raw = params[:, -1] if dispersion == "network" else getattr(head.dispersion_parameter, "raw", None)
    alpha = 0.4 if dispersion == 0.4 else 0.02 + np.exp(raw.detach().numpy())
    mean, extra = np.exp(params[:, 0].numpy()), special.expit(params[:, 1].numpy()) if inflated else 0.0
    for x in itertools.product((0.0, 3.0), repeat=2):
        mass = (1 - extra) * stats.nbinom.pmf(np.array(x), 1 / alpha, 1 / (1 + alpha * mean))
        expected = np.log(mass + extra * (np.array(x) == 0)).sum(-1)
        value = head(params).log_prob(tensor(*x).unsqueeze(0)).detach().numpy()
        np.testing.assert_allclose(value, expected, rtol=1e-10)


# --- Totals and moments ----------------------------------------------------------------------------------------------

COUNTS = {
    "Poisson": Poisson(tensor(-2.0, 0.0, 2.0, 4.0)),
    "NegativeBinomial": NegativeBinomial(tensor(-2.0, 1.0, 3.0, 3.0), tensor(2.0, 0.5, 1e-3, 1.5)),
    "ZeroInflated": ZeroInflated(
        NegativeBinomial(tensor(-1.0, 2.0, 3.0), tensor(1.0, 0.5, 0.1)), tensor(-2.0, 0.0, 3.0)
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_masses_of_counts_sum_to_one_and_give_the_stated_mean_and_variance(name):
    d = COUNTS[name]
    x = torch.arange(3000, dtype=F64).unsqueeze(-1)
    mass = d.log_prob(x).exp()
    torch.testing.assert_close(mass.sum(0), torch.ones_like(d.mean), rtol=1e-10, atol=0)
    torch.testing.assert_close((mass * x).sum(0), d.mean, rtol=1e-8, atol=0)
    torch.testing.assert_close((mass * x**2).sum(0) - d.mean**2, d.variance, rtol=1e-7, atol=0)


@pytest.mark.parametrize("name", COUNTS)
def test_draws_of_counts_follow_their_masses(name):
    d = COUNTS[name]
    draws = d.sample((20_000,))
    levels = torch.arange(8, dtype=F64).unsqueeze(-1)
    seen = (draws.unsqueeze(0) == levels.unsqueeze(1)).double().mean(1)
    mass = d.log_prob(levels).exp()
    stderr = (mass * (1 - mass) / len(draws)).sqrt()
    assert bool(((seen - mass).abs() < 5 * stderr + 1e-4).all())  # two draws where less than one is expected


@pytest.mark.parametrize(("logit", "concentration"), [(0.0, 2.0), (1.5, 30.0), (-2.0, 1.0), (-4.0, 0.5)])
def test_draws_of_a_beta_follow_its_distribution_function(logit, concentration):
    d = Beta(tensor(logit), tensor(concentration))
    a, b = concentration * special.expit(logit), concentration * special.expit(-logit)
    exact = stats.beta(a, b)
    np.testing.assert_allclose([d.mean.item(), d.variance.item()], [exact.mean(), exact.var()], rtol=1e-12)
    assert stats.kstest(d.sample((4000,)).flatten().numpy(), exact.cdf).pvalue > 1e-3


@pytest.mark.parametrize("df", [0.7, 3.0, 1e4])
def test_draws_of_students_t_follow_its_distribution_function(df):
    d = StudentT(tensor(df), tensor(1.0), tensor(2.0))
    assert stats.kstest(d.sample((4000,)).flatten().numpy(), stats.t(df, 1.0, 2.0).cdf).pvalue > 1e-3
    expected = stats.t(df, 1.0, 2.0).var() if df > 2 else np.nan
    np.testing.assert_allclose(d.variance.item(), expected, rtol=1e-12)


def test_learned_degrees_of_freedom_and_dispersion_find_those_of_the_data():
    # Maximum likelihood; they start at 3.5 and 1.
    for head, x, read, truth, tolerance in (
        (
            likelihoods.StudentT(1, df="learned", scale=1.0, min_df=0.5).double(),
            StudentT(tensor(1.5)).sample((6000,)),
            lambda h: h.df_parameter(tensor(0.0), None),
            1.5,
            0.2,
        ),
        (
            likelihoods.NegativeBinomial(1, dispersion="learned").double(),
            NegativeBinomial(tensor(2.0), tensor(0.25)).sample((6000,)),
            lambda h: h.dispersion_parameter(tensor(0.0), None),
            0.25,
            0.04,
        ),
    ):
        params = torch.full((1, 1, 1), 0.0 if isinstance(head, likelihoods.StudentT) else 2.0, dtype=F64)
        optimizer = torch.optim.LBFGS(head.parameters(), max_iter=15, line_search_fn="strong_wolfe")

        def loss(head=head, params=params, x=x, optimizer=optimizer):
            optimizer.zero_grad()
            value = -head(params).log_prob(x).mean()
            value.backward()
            return value

        optimizer.step(loss)
        assert abs(float(read(head).detach()) - truth) < tolerance


# --- Mixtures of discretised logistics -------------------------------------------------------------------------------


def mixture(shape, **options):
    head = likelihoods.DiscretizedLogisticMixture(shape, **options).double()
    return head, torch.randn(2, *head.param_shape, dtype=F64)


def test_a_mixture_is_the_weighted_sum_of_its_components():
    head, params = mixture((2, 3), num_components=3, num_levels=6)
    offset = torch.tensor([-2.0, 0.0, 2.0], dtype=F64) / 3  # the locations start at the middles of three equal parts
    weights = special.softmax(params[:, :3].numpy(), 1)
    x = torch.randint(0, 6, (2, 2, 3)).double()
    mass = np.zeros((2, 2, 3))
    for k in range(3):
        single = likelihoods.DiscretizedLogistic((2, 3), num_levels=6).double()
        own = torch.stack([params[:, 3 + k] + offset[k], params[:, 6 + k]], 1)
        mass += weights[:, k] * single(own).log_prob_per_element(x).exp().numpy()
    np.testing.assert_allclose(head(params).log_prob(x).numpy(), np.log(mass).sum((1, 2)), rtol=1e-12)


def test_masses_of_a_mixture_sum_to_one_and_give_its_mean_and_variance():
    head, params = mixture(4, num_components=5, num_levels=16)
    d, x = head(params), torch.arange(16, dtype=F64).reshape(-1, 1, 1)
    mass = d.log_prob_per_element(x.expand(16, 2, 4)).exp()
    torch.testing.assert_close(mass.sum(0), torch.ones(2, 4, dtype=F64), rtol=1e-12, atol=0)
    torch.testing.assert_close((mass * x).sum(0), d.mean, rtol=1e-10, atol=0)
    torch.testing.assert_close((mass * x**2).sum(0) - d.mean**2, d.variance, rtol=1e-9, atol=0)


def test_one_component_is_a_discretised_logistic():
    head, params = mixture((1, 2, 2), num_components=1, num_levels=8)
    x = torch.randint(0, 8, (2, 1, 2, 2)).double()
    single = likelihoods.DiscretizedLogistic((1, 2, 2), num_levels=8).double()(params[:, 1:])
    torch.testing.assert_close(head(params).log_prob(x), single.log_prob(x), rtol=1e-12, atol=0)


def pixels(levels, channels):
    """Every value of one pixel, shape (levels ** channels, 1, channels, 1, 1)."""
    each = [torch.arange(levels, dtype=F64)] * channels
    return torch.cartesian_prod(*each).reshape(-1, 1, channels, 1, 1)


def test_coupled_channels_are_a_product_of_conditionals_by_hand():
    levels, k = 5, 2
    head, params = mixture((3, 1, 1), num_components=k, num_levels=levels)
    assert head.param_shape == (k * (1 + 3 + 3 + 3), 1, 1)
    logits, loc, raw, coupling = params[0, :, 0, 0].split([k, 3 * k, 3 * k, 3 * k])
    loc = loc.reshape(3, k) + tensor(-0.5, 0.5)
    scale, w = 1e-3 + torch.nn.functional.softplus(raw.reshape(3, k) - 1), torch.tanh(coupling.reshape(3, k))
    x = pixels(levels, 3)
    u = 2 * x[:, 0, :, 0, 0] / (levels - 1) - 1
    total = torch.zeros(len(x), dtype=F64)
    for j in range(k):
        places = (loc[0, j], loc[1, j] + w[0, j] * u[:, 0], loc[2, j] + w[1, j] * u[:, 0] + w[2, j] * u[:, 1])
        parts = [
            DiscretizedLogistic(place.expand(len(x)), scale[c, j].expand(len(x)), levels).log_prob(x[:, 0, c, 0, 0])
            for c, place in enumerate(places)
        ]
        total += torch.softmax(logits, 0)[j] * sum(parts).exp()
    torch.testing.assert_close(head(params[:1]).log_prob(x).squeeze(-1), total.log(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(total.sum(), tensor(1.0).squeeze(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_draws_of_coupled_channels_follow_their_masses(channels):
    head, params = mixture((channels, 1, 1), num_components=3, num_levels=3)
    d, x = head(params), pixels(3, channels)
    mass = d.log_prob(x).exp()
    torch.testing.assert_close(mass.sum(0), torch.ones(2, dtype=F64), rtol=1e-12, atol=0)
    place = 3.0 ** torch.arange(channels - 1, -1, -1, dtype=F64)
    code = (d.sample((30_000,)).flatten(2) * place).sum(-1).long()
    for row in range(2):
        seen = torch.bincount(code[:, row], minlength=len(x)).double() / len(code)
        stderr = (mass[:, row] * (1 - mass[:, row]) / len(code)).sqrt()
        assert bool(((seen - mass[:, row]).abs() < 5 * stderr + 1e-4).all())


def test_the_mean_of_coupled_channels_is_exact_for_the_first_and_near_for_the_others():
    head, params = mixture((3, 1, 1), num_components=3, num_levels=16)
    d, x = head(params), pixels(16, 3)
    exact = (d.log_prob(x).exp().reshape(-1, 2, 1, 1, 1) * x).sum(0)
    torch.testing.assert_close(d.mean[:, 0], exact[:, 0], rtol=1e-10, atol=0)
    assert float((d.mean - exact).abs().max()) < 1.0  # of 15: what the clipping of wide components does
    inside = params.clone()
    inside[:, 3:12] *= 0.1  # locations and scales whose mass stays between the first and the last level
    inside[:, 12:21] = -2.0
    d = head(inside)
    exact = (d.log_prob(x).exp().reshape(-1, 2, 1, 1, 1) * x).sum(0)
    assert float((d.mean - exact).abs().max()) < 0.2


@pytest.mark.parametrize("shape", [(3, 2, 2), (2, 1, 3)])
def test_coupled_channels_conform(shape):
    check_likelihood(likelihoods.DiscretizedLogisticMixture(shape, num_components=2))
    check_likelihood(likelihoods.DiscretizedLogisticMixture(shape, num_components=3, num_levels=4))


def test_coupled_channels_in_float32_are_finite_at_extremes():
    head = likelihoods.DiscretizedLogisticMixture((3, 1, 1), num_components=2)
    params = 60 * (torch.rand(200, *head.param_shape) * 2 - 1).requires_grad_()
    for x in (0.0, 128.0, 255.0):
        value = head(params).log_prob(torch.full((200, 3, 1, 1), x))
        assert value.isfinite().all()
        (gradient,) = torch.autograd.grad(value.sum(), params)
        assert gradient.isfinite().all()


def test_a_feature_map_meets_coupled_channels_through_one_convolution():
    head = likelihoods.DiscretizedLogisticMixture((3, 4, 6), num_components=2)
    network = torch.nn.Sequential(torch.nn.Linear(2, 5 * 24), torch.nn.Unflatten(1, (5, 4, 6)))
    decoder = Conditional(network, head, in_shape=2)
    assert sum(p.numel() for p in decoder.adapter.parameters()) == (5 + 1) * 20
    assert decoder(torch.zeros(7, 2)).sample().shape == (7, 3, 4, 6)
