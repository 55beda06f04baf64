"""Likelihoods against scipy, sums and integrals; extreme parameters; missing values; scales."""

import inspect
from itertools import pairwise

import numpy as np
import pytest
import torch
from components import LIKELIHOODS, rows
from scipy import integrate, special, stats

from vaekit import likelihoods
from vaekit.conditional import ConditionalDistribution
from vaekit.distributions import check_support
from vaekit.errors import ConfigError, SupportError
from vaekit.testing import check_likelihood

F64 = torch.float64


@pytest.mark.parametrize(("name", "factory"), rows(LIKELIHOODS))
@pytest.mark.parametrize("shape", [1, (2, 3), (1, 1, 1)])
def test_conformance(name, factory, shape):
    check_likelihood(factory(shape))


@pytest.mark.parametrize("size", [1, 15, 16, 101, 784, 1_601, 20_000])
def test_log_p_of_bits_without_gradients_is_the_sum_of_its_elements(size):
    """A hundred elements share a logarithm: no product overflows, and what is lost is what float32 rounds anyway."""
    noise = torch.Generator().manual_seed(size)
    logits = 5 * torch.randn(3, 2, size, dtype=F64, generator=noise)
    logits[0] = torch.tensor([0.0, 40.0, -40.0, 300.0, -300.0, 1e-30], dtype=F64).repeat(size)[:size]
    logits[1, 1] = 0.0  # the largest products
    x = torch.rand(2, size, dtype=F64, generator=noise).round()
    x[1] = torch.rand(size, dtype=F64, generator=noise)  # grey
    expected = torch.distributions.Bernoulli(logits=logits, validate_args=False).log_prob(x).sum(-1)
    head = likelihoods.Bernoulli(size, grey=True)
    for dtype, error in ((F64, 1e-15), (torch.float32, 6e-7)):
        params = logits.to(dtype).unsqueeze(-2)
        with torch.no_grad():
            value = head(params).log_prob(x.to(dtype))
        assert value.shape == (3, 2)
        torch.testing.assert_close(value.to(F64), expected, rtol=error, atol=error * size)
        with_gradients = head(params).log_prob(x.to(dtype))  # by softplus, which torch leaves out above 20
        torch.testing.assert_close(value, with_gradients, rtol=6e-7, atol=6e-7 * size)


def test_log_p_of_bits_takes_events_of_any_shape_without_gradients():
    logits = torch.linspace(-3, 3, 5 * 4 * 6).reshape(5, 1, 1, 4, 6)
    x = torch.ones(2, 1, 4, 6)
    with torch.no_grad():
        value = likelihoods.Bernoulli((1, 4, 6))(logits.unsqueeze(2)).log_prob(x)
    assert value.shape == (5, 2)
    expected = torch.nn.functional.logsigmoid(logits).sum((-1, -2, -3)).expand(5, 2)
    torch.testing.assert_close(value, expected)


def test_the_check_finds_a_density_that_does_not_integrate_to_one():
    class Unnormalised(torch.distributions.Normal):
        def log_prob(self, value):
            return super().log_prob(value) + 0.1

    class Wrong(likelihoods.Normal):
        def forward(self, params):
            product = super().forward(params)
            product.base.__class__ = Unnormalised
            return product

    with pytest.raises(AssertionError, match="total probability of 1"):
        check_likelihood(Wrong(1, scale=1.0))


def test_the_check_finds_parameters_without_a_gradient():
    class Deaf(likelihoods.Normal):
        def forward(self, params):
            return super().forward(params.detach())

    with pytest.raises(AssertionError, match="expected a gradient of log_prob"):
        check_likelihood(Deaf(1, scale=1.0))


def test_the_check_finds_a_wrong_mean():
    class Shifted(torch.distributions.Normal):
        @property
        def mean(self):
            return self.loc + 0.2

    class Wrong(likelihoods.Normal):
        def forward(self, params):
            product = super().forward(params)
            product.base.__class__ = Shifted
            return product

    with pytest.raises(AssertionError, match="mean within 5 standard errors"):
        check_likelihood(Wrong(2, scale=1.0))


def test_the_check_finds_tensors_that_would_not_be_saved():
    class Loose(likelihoods.Normal):
        def __init__(self, event_shape):
            super().__init__(event_shape)
            self.offset = torch.ones(())

    with pytest.raises(AssertionError, match=r"parameters and buffers only in Loose; got plain tensors \['offset'\]"):
        check_likelihood(Loose(2))


# --- Against scipy ---------------------------------------------------------------------------------------------------

PARAMS = torch.linspace(-2.5, 2.5, 24, dtype=F64).reshape(2, 3, 4)


def log_prob(head: ConditionalDistribution, params: torch.Tensor, x: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return head.double()(params).log_prob(x).numpy()


def test_bernoulli():
    logits = PARAMS[:, :1]
    x = (torch.arange(8).reshape(2, 4) % 3 == 0).double()
    expected = stats.bernoulli.logpmf(x.numpy(), special.expit(logits[:, 0].numpy())).sum(-1)
    np.testing.assert_allclose(log_prob(likelihoods.Bernoulli(4), logits, x), expected, rtol=1e-12)


@pytest.mark.parametrize(("head", "oracle"), [(likelihoods.Normal, stats.norm), (likelihoods.Laplace, stats.laplace)])
@pytest.mark.parametrize("scale", [0.7, "learned", "per-dimension", "network"])
def test_location_and_scale(head, oracle, scale):
    module = head(4, scale=scale, min_scale=0.01).double()
    count = 2 if scale == "network" else 1
    assert module.param_shape == (count, 4)
    for p in module.parameters():
        torch.nn.init.normal_(p)
    params, x = PARAMS[:, :count], torch.linspace(-3, 3, 8, dtype=F64).reshape(2, 4)
    raw = params[:, 1] if scale == "network" else None if scale == 0.7 else module.scale_parameter.raw.detach()
    expected_raw = {"learned": (), "per-dimension": (4,)}.get(scale)
    if expected_raw is not None:
        assert raw.shape == expected_raw
    sd = 0.7 if raw is None else 0.01 + np.log1p(np.exp(raw.numpy() + np.log(np.e - 1)))
    expected = oracle.logpdf(x.numpy(), params[:, 0].numpy(), sd).sum(-1)
    np.testing.assert_allclose(log_prob(module, params, x), expected, rtol=1e-11)


def test_categorical():
    x = torch.tensor([[0, 2, 1, 0], [1, 1, 2, 2]])
    table = special.log_softmax(PARAMS.numpy(), axis=1)
    expected = [sum(table[b, x[b, i], i] for i in range(4)) for b in range(2)]
    np.testing.assert_allclose(log_prob(likelihoods.Categorical(4, 3), PARAMS, x), expected, rtol=1e-12)


def test_discretized_logistic_is_a_difference_of_distribution_functions():
    head, levels = likelihoods.DiscretizedLogistic(4, num_levels=16), 16
    params = PARAMS[:, :2]
    loc = params[:, 0].numpy()
    scale = 1e-3 + np.log1p(np.exp(params[:, 1].numpy() - 1))
    for level in range(levels):
        u = 2 * level / (levels - 1) - 1
        low, high = u - 1 / (levels - 1), u + 1 / (levels - 1)
        low, high = -np.inf if level == 0 else low, np.inf if level == levels - 1 else high
        below = stats.logistic.cdf(high, loc, scale) - stats.logistic.cdf(low, loc, scale)
        above = stats.logistic.sf(low, loc, scale) - stats.logistic.sf(high, loc, scale)
        mass = np.where(u < loc, below, above)  # the difference of the smaller numbers
        x = torch.full((2, 4), level)
        np.testing.assert_allclose(log_prob(head, params, x), np.log(mass).sum(-1), rtol=1e-10)


def test_discretized_logistic_mean_and_variance_are_sums_over_levels():
    with torch.no_grad():
        d = likelihoods.DiscretizedLogistic(4, num_levels=16)(PARAMS[:, :2])
        levels = torch.arange(16, dtype=F64).reshape(-1, 1, 1)
        mass = d.log_prob_per_element(levels.expand(16, 2, 4)).exp()
        mean = (mass * levels).sum(0)
        torch.testing.assert_close(d.mean, mean, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(d.variance, (mass * levels**2).sum(0) - mean**2, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("logit", [0.0, 1e-9, 0.02, -0.03, 0.031, 2.0, -12.0, 40.0, -300.0])
def test_continuous_bernoulli_has_the_normaliser_mean_and_variance_of_exp_lx(logit):
    # In t = distance from the end where the mass lies: p(t) is proportional to exp(-|l| t) on [0, 1].
    def moment(power):
        cuts = [0.0, min(1.0, 10 / max(abs(logit), 10)), 1.0]
        return sum(
            integrate.quad(lambda t: t**power * np.exp(-abs(logit) * t), a, b, epsabs=0, epsrel=1e-12)[0]
            for a, b in pairwise(cuts)
            if b > a
        )

    head = likelihoods.ContinuousBernoulli(1)
    params = torch.full((1, 1, 1), logit, dtype=F64)
    at_peak = log_prob(head, params, torch.tensor([[1.0 if logit > 0 else 0.0]], dtype=F64))
    np.testing.assert_allclose(at_peak, -np.log(moment(0)), rtol=1e-9, atol=1e-10)
    mean = moment(1) / moment(0)
    np.testing.assert_allclose(head(params).mean.item(), 1 - mean if logit > 0 else mean, rtol=1e-9)
    np.testing.assert_allclose(head(params).variance.item(), moment(2) / moment(0) - mean**2, rtol=1e-7)


def test_continuous_bernoulli_draws_follow_its_distribution_function():
    with torch.no_grad():
        for logit in (0.0, 5e-5, 3.0, -60.0):
            draws = likelihoods.ContinuousBernoulli(1)(torch.full((1, 1), logit, dtype=F64)).sample((4000,)).flatten()
            cdf = (lambda x: x) if logit == 0 else (lambda x, l=logit: np.expm1(l * x) / np.expm1(l))
            assert stats.kstest(draws.numpy(), cdf).pvalue > 1e-3


# --- Extreme parameters ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "factory"), [row for row in rows(LIKELIHOODS) if row[1](3).num_params])
def test_extreme_parameters_in_float32_give_finite_values_and_gradients(name, factory):
    head = factory(3)
    values = torch.tensor([-60.0, -30.0, -1e-3, 0.0, 1e-3, 30.0, 60.0])
    params = torch.cartesian_prod(*[values] * 2).T if head.num_params == 2 else values.repeat(head.num_params, 1)
    if head.num_params > 2:
        params = params * torch.linspace(-1, 1, head.num_params).unsqueeze(1)
    params = params.T.unsqueeze(-1).expand(-1, -1, 3).contiguous().requires_grad_()
    last_level = getattr(head, "num_levels", 0) - 1
    last = {"Bernoulli": 1, "Categorical": 4, "ContinuousBernoulli": 1, "DiscretizedLogistic": last_level}
    last |= {"Ordinal": 1, "Beta": 1 - 1e-6, "DiscretizedLogisticMixture": last_level}
    first = {"Beta": 1e-6, "LogNormal": 1e-6}
    for x in (first.get(name, 0.0), float(last.get(name, 300.0))):
        value = head(params).log_prob(torch.full((len(params), 3), x))
        assert value.isfinite().all()
        (gradient,) = torch.autograd.grad(value.sum(), params)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("loc", [-50.0, -1.0, 0.0, 0.5, 50.0])
@pytest.mark.parametrize("raw", [-40.0, 0.0, 10.0])
def test_discretized_logistic_in_float32_agrees_with_float64_far_in_the_tails(loc, raw):
    head = likelihoods.DiscretizedLogistic(1)
    x = torch.tensor([0.0, 1.0, 77.0, 254.0, 255.0]).reshape(-1, 1)
    params = torch.tensor([loc, raw]).reshape(1, 2, 1)
    single, double = log_prob(head, params, x), log_prob(head, params.double(), x.double())
    np.testing.assert_allclose(single, double, rtol=2e-4, atol=1e-6)


def test_a_continuous_bernoulli_near_one_half_is_smooth_in_float32():
    logits = torch.linspace(-0.1, 0.1, 401).reshape(-1, 1, 1).requires_grad_()
    value = likelihoods.ContinuousBernoulli(1)(logits).log_prob(torch.full((401, 1), 0.7))
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    expected = 0.7 - (0.5 + logits.detach().double() / 12)  # x - E[x], to third order in the logit
    np.testing.assert_allclose(gradient.double().numpy(), expected.numpy(), atol=2e-5)


@pytest.mark.parametrize("head", [likelihoods.Normal, likelihoods.Laplace])
def test_the_floor_holds_where_the_decoder_fits_exactly(head):
    d = head(2, scale="network", min_scale=0.05)(torch.tensor([[0.0, 0.0], [-1e4, -1e4]]).reshape(1, 2, 2))
    limit = head(2, scale=0.05)(torch.zeros(1, 1, 2)).log_prob(torch.zeros(1, 2))
    torch.testing.assert_close(d.log_prob(torch.zeros(1, 2)), limit)


def test_scales_and_levels_that_make_no_sense_are_refused():
    for scale in (0.0, -1.0, float("nan"), "sideways"):
        with pytest.raises(ConfigError, match="scale is"):
            likelihoods.Normal(2, scale=scale)
    with pytest.raises(ConfigError, match="min_scale is positive"):
        likelihoods.Laplace(2, min_scale=0.0)
    with pytest.raises(ConfigError, match="at least 2"):
        likelihoods.Categorical(2, num_classes=1)
    with pytest.raises(ConfigError, match="at least 2"):
        likelihoods.DiscretizedLogistic(2, num_levels=1)


# --- Missing values --------------------------------------------------------------------------------------------------


BEAR_HOLES = [name for name in LIKELIHOODS if "missing" in inspect.signature(getattr(likelihoods, name)).parameters]


@pytest.mark.parametrize("name", BEAR_HOLES)
def test_missing_elements_leave_the_log_prob_of_the_observed_ones(name):
    kinds = {"Categorical": {"num_classes": 5}}
    head = getattr(likelihoods, name)((2, 3), missing="observed-only", **kinds.get(name, {})).double()
    params = torch.randn(4, *head.param_shape, dtype=F64, requires_grad=True)
    x = head(params).sample().detach()
    observed = torch.rand(4, 2, 3) < 0.6
    observed[0] = False
    full = head(params)
    holes = torch.where(observed, x, torch.nan)
    expected = (full.log_prob_per_element(x) * observed).sum((1, 2))
    value = full.log_prob(holes)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    assert value[0] == 0
    (gradient,) = torch.autograd.grad(value.sum(), params)
    assert gradient.isfinite().all()
    elements = gradient.abs().reshape(4, head.num_params, 2, 3).sum(1)
    assert bool(((elements > 0) == observed).all())
    check_support(full, holes)
    strict = getattr(likelihoods, name)((2, 3), **kinds.get(name, {})).double()(params)
    with pytest.raises(SupportError, match="NaN"):
        check_support(strict, holes)


# --- Grey pixels -----------------------------------------------------------------------------------------------------


def test_grey_pixels_are_refused_unless_asked_for():
    grey = torch.tensor([[0.0, 0.25, 1.0]])
    with pytest.raises(SupportError, match=r"Bernoulli expects x in \{0, 1\}; got values in \[0, 1\].*ContinuousB"):
        check_support(likelihoods.Bernoulli(3)(torch.zeros(1, 1, 3)), grey)
    d = likelihoods.Bernoulli(3, grey=True)(torch.full((1, 1, 3), 0.4, dtype=F64))
    check_support(d, grey)
    with pytest.raises(SupportError, match=r"\[0, 1\]"):
        check_support(d, grey * 255)
    assert d.quantity == "no density"
    pi = special.expit(0.4)
    expected = sum(x * np.log(pi) + (1 - x) * np.log(1 - pi) for x in (0.0, 0.25, 1.0))
    np.testing.assert_allclose(d.log_prob(grey.double()).item(), expected, rtol=1e-12)
    assert d.expand((2, 1)).quantity == "no density"


@pytest.mark.parametrize(
    ("head", "bad"),
    [
        (likelihoods.ContinuousBernoulli(2), 1.5),
        (likelihoods.Categorical(2, 4), 4.0),
        (likelihoods.Categorical(2, 4), 1.5),
        (likelihoods.DiscretizedLogistic(2), 256.0),
        (likelihoods.DiscretizedLogistic(2), 3.7),
        (likelihoods.Normal(2), float("inf")),
    ],
)
def test_values_outside_the_support_are_refused_with_their_range(head, bad):
    d = head(torch.zeros(1, *head.param_shape))
    with pytest.raises(SupportError, match="expects x in"):
        check_support(d, torch.tensor([[0.0, bad]]))
