"""The von Mises-Fisher posterior and the uniform prior on the sphere: against scipy, quadrature and closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import nn

import vaekit as vk
from vaekit import Conditional, bounds, likelihoods, networks, posteriors, priors
from vaekit.distributions import UniformSphere, VonMisesFisher, centre, check_support
from vaekit.distributions.special import bessel, normalizer
from vaekit.distributions.sphere import angle_slope, draw_angle
from vaekit.errors import ShapeError, SupportError
from vaekit.kl import kl_divergence

F64 = torch.float64
DIMENSIONS = [2, 3, 4, 5, 10, 21, 50, 100, 131]


def tensor(*values):
    return torch.tensor(values, dtype=F64)


def direction(dimension):
    return nn.functional.normalize(torch.linspace(-1, 1.3, dimension, dtype=F64), dim=0)


# --- The normaliser ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_bessel_functions_are_scipys(dimension):
    order, x = dimension / 2 - 1, torch.logspace(-3, 5, 200, dtype=F64)
    log_scaled, ratio, _ = bessel(order, x)
    lower, upper = special.ive(order, x.numpy()), special.ive(order + 1, x.numpy())
    known = (lower > 1e-290) & (upper > 1e-290)  # scipy's underflow below
    assert known.sum() > 100
    np.testing.assert_allclose(log_scaled.numpy()[known], np.log(lower[known]), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ratio.numpy()[known], (upper[known] / lower[known]), rtol=1e-12)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_small_arguments_are_those_of_the_power_series(dimension):
    order, x = dimension / 2 - 1, torch.logspace(-3, -1, 20, dtype=F64)
    quarter, total, term = (x / 2) ** 2, torch.zeros_like(x), torch.ones_like(x)
    for k in range(12):
        total = total + term
        term = term * quarter / ((k + 1) * (order + k + 1))
    log_value = order * (x / 2).log() - math.lgamma(order + 1) + total.log()
    torch.testing.assert_close(bessel(order, x)[0], log_value - x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dimension", [2, 3, 10, 100])
def test_derivatives_are_those_of_differences_and_of_large_arguments(dimension):
    kappa = torch.logspace(-2, 3, 12, dtype=F64).requires_grad_()
    values = normalizer(kappa, dimension)
    for value, function in zip(values, (0, 1), strict=True):
        (gradient,) = torch.autograd.grad(value.sum(), kappa, retain_graph=True)
        step = 1e-5 * kappa.detach()
        with torch.no_grad():
            upper, lower = (normalizer(kappa + s, dimension)[function] for s in (step, -step))
        torch.testing.assert_close(gradient, (upper - lower) / (2 * step), rtol=1e-5, atol=1e-9)
    # A = 1 - m/2k - m(2 - m)/8k^2 ... with m = D - 1, so that k A' goes to m/2k + m(2 - m)/4k^2 there.
    large, m = tensor(1e4, 1e5), dimension - 1
    slope = bessel(dimension / 2 - 1, large)[2]
    torch.testing.assert_close(slope, m / (2 * large**2) + m * (m - 2) / (-4 * large**3), rtol=2e-4, atol=0)


def test_float32_takes_its_normaliser_and_gradient_from_float64():
    kappa = torch.logspace(-3, 5, 30, dtype=F64)
    for dimension in (2, 17, 128):
        results = []
        for dtype in (torch.float32, F64):
            leaf = kappa.to(dtype).requires_grad_()
            q = VonMisesFisher(direction(dimension).to(dtype).expand(30, -1), leaf)
            value = kl_divergence(q, UniformSphere(torch.zeros(dimension, dtype=dtype)))
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
            results.append((value.double(), gradient.double()))
        torch.testing.assert_close(results[0][0], results[1][0], rtol=2e-6, atol=1e-10)
        torch.testing.assert_close(results[0][1], results[1][1], rtol=2e-4, atol=1e-10)


# --- The density ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kappa", [1e-3, 0.5, 7.0, 300.0])
def test_the_density_integrates_to_one_on_the_circle(kappa):
    angles = torch.arange(20_000, dtype=F64) * (2 * math.pi / 20_000)
    points = torch.stack([angles.cos(), angles.sin()], -1)
    d = VonMisesFisher(direction(2), tensor(kappa)[0])
    density = d.log_prob(points).exp()
    assert abs(float(density.mean()) * 2 * math.pi - 1) < 1e-10
    torch.testing.assert_close((density.unsqueeze(-1) * points).mean(0) * 2 * math.pi, d.mean)
    loc = math.atan2(float(d.loc[1]), float(d.loc[0]))
    shifted = (angles.numpy() - loc + math.pi) % (2 * math.pi) - math.pi
    np.testing.assert_allclose(d.log_prob(points), stats.vonmises.logpdf(shifted, kappa), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("kappa", [1e-3, 0.5, 7.0, 300.0])
def test_the_density_integrates_to_one_on_the_sphere(kappa):
    w, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(400))
    around = torch.arange(600, dtype=F64) * (2 * math.pi / 600)
    sine = (1 - w**2).sqrt().unsqueeze(1)
    points = torch.stack([sine * around.cos(), sine * around.sin(), w.unsqueeze(1).expand(400, 600)], -1)
    d = VonMisesFisher(direction(3), tensor(kappa)[0])
    measure = weights.unsqueeze(1) * (2 * math.pi / 600)
    density = d.log_prob(points).exp() * measure
    assert abs(float(density.sum()) - 1) < 1e-9
    torch.testing.assert_close((density.unsqueeze(-1) * points).sum((0, 1)), d.mean, rtol=1e-8, atol=1e-10)
    second = (density.unsqueeze(-1) * points**2).sum((0, 1))
    torch.testing.assert_close(second - d.mean**2, d.variance, rtol=1e-7, atol=1e-10)
    # On S^2 everything is elementary: the constant k / (4 pi sinh k) and A = coth k - 1/k.
    log_constant = math.log(kappa / (2 * math.pi * -math.expm1(-2 * kappa))) - kappa
    torch.testing.assert_close(d.log_prob(d.centre), tensor(log_constant + kappa)[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dimension", [2, 3, 5, 20, 100])
def test_the_density_is_scipys(dimension):
    d = VonMisesFisher(direction(dimension), tensor(12.0)[0])
    z = UniformSphere(torch.zeros(dimension, dtype=F64)).sample((10,))
    expected = stats.vonmises_fisher(direction(dimension).numpy(), 12.0).logpdf(z.numpy())
    np.testing.assert_allclose(d.log_prob(z), expected, rtol=1e-10)
    np.testing.assert_allclose(d.entropy(), stats.vonmises_fisher(direction(dimension).numpy(), 12.0).entropy())


@pytest.mark.parametrize("kappa", [10.0, 1e3, 1e5])
def test_float32_densities_at_float32_draws_are_those_of_float64(kappa):
    loc = direction(10).float()
    d = VonMisesFisher(loc, torch.tensor(kappa))
    z = d.sample((2_000,))
    wide = VonMisesFisher(loc.double(), tensor(kappa)[0]).log_prob(z.double())
    torch.testing.assert_close(d.log_prob(z).double(), wide, rtol=1e-5, atol=1e-5)


# --- Draws ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimension", [2, 3, 4, 30])
@pytest.mark.parametrize("kappa", [1e-3, 1.0, 30.0, 1e5])
def test_angles_follow_their_density(dimension, kappa):
    n = 20_000
    angle = draw_angle(torch.full((n,), kappa, dtype=F64), dimension).sort().values
    grid = torch.linspace(0, min(math.pi, 12 / math.sqrt(kappa + dimension / 4)), 40_001, dtype=F64)[1:]
    density = ((dimension - 2) * grid.sin().clamp(min=1e-300).log() + kappa * (grid.cos() - 1)).exp()
    cumulative = (density.cumsum(0) - 0.5 * density) / density.sum()
    exact = np.interp(angle.numpy(), grid.numpy(), cumulative.numpy())
    distance = np.abs(exact - (np.arange(n) + 0.5) / n).max()
    assert distance < 1.95 / math.sqrt(n)  # Kolmogorov's test at one in a thousand


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("dimension", [2, 3, 10, 128])
@pytest.mark.parametrize("kappa", [1e-3, 5.0, 1e5])
def test_draws_lie_on_the_sphere_and_have_the_mean(dtype, dimension, kappa):
    for sign in (1, -1):  # the mean direction on either side of the first axis
        loc = sign * direction(dimension).to(dtype)
        d = VonMisesFisher(loc, torch.tensor(kappa, dtype=dtype))
        z = d.sample((8_000,))
        check_support(d, z)
        stderr = z.double().std(0) / math.sqrt(len(z))
        assert bool(((z.double().mean(0) - d.mean.double()).abs() < 5 * stderr + 1e-6).all())
        torch.testing.assert_close(z.double().var(0), d.variance.double(), rtol=0.15, atol=1e-9)


def test_check_support_tells_points_off_the_sphere():
    d = UniformSphere(torch.zeros(3))
    check_support(d, d.sample((10,)))
    with pytest.raises(SupportError, match="UniformSphere expects z in the unit sphere"):
        check_support(d, torch.ones(2, 3), where="z")


@pytest.mark.parametrize("dimension", [2, 3, 4, 10, 60])
@pytest.mark.parametrize("kappa", [1e-2, 1.0, 20.0, 1e4])
def test_the_slope_of_the_angle_is_that_of_the_inverse_distribution_function(dimension, kappa):
    def cumulative(k, theta):
        t = theta * (torch.arange(40_000, dtype=F64) + 0.5) / 40_000
        rest = (
            theta
            + (min(math.pi, theta + 14 / math.sqrt(k + dimension / 4)) - theta)
            * (torch.arange(40_000, dtype=F64) + 0.5)
            / 40_000
        )
        density = [((dimension - 2) * s.sin().log() + k * (s.cos() - math.cos(theta))).exp() for s in (t, rest)]
        below = float(density[0].mean()) * theta
        above = float(density[1].mean()) * (float(rest[-1]) - theta)
        return below / (below + above), math.sin(theta) ** (dimension - 2)

    angles = draw_angle(torch.full((4,), kappa, dtype=F64), dimension)
    length = normalizer(tensor(kappa), dimension)[1].expand(4)
    slopes = angle_slope(torch.full((4,), kappa, dtype=F64), angles, length, dimension)
    for theta, slope in zip(angles.tolist(), slopes.tolist(), strict=True):
        step_k, step_t = 1e-3 * kappa, 1e-4 / math.sqrt(kappa + dimension)
        by_kappa = (cumulative(kappa + step_k, theta)[0] - cumulative(kappa - step_k, theta)[0]) / (2 * step_k)
        by_theta = (cumulative(kappa, theta + step_t)[0] - cumulative(kappa, theta - step_t)[0]) / (2 * step_t)
        assert slope == pytest.approx(-by_kappa / by_theta, rel=2e-3, abs=1e-9)


def test_the_slope_on_the_ordinary_sphere_is_that_of_its_closed_form():
    # D = 3: F(w) = (e^{kw} - e^{-k}) / (e^k - e^{-k}); u fixed, w = 1 + log(u + (1 - u) e^{-2k}) / k.
    for kappa in (0.3, 4.0, 50.0, 2_000.0):
        u, k = torch.linspace(0.01, 0.99, 21, dtype=F64), tensor(kappa).requires_grad_()
        angle = torch.arccos(1 + (u + (1 - u) * torch.exp(-2 * k)).log() / k)
        expected = torch.stack([torch.autograd.grad(a, k, retain_graph=True)[0][0] for a in angle])
        length = normalizer(k.detach(), 3)[1].expand(21)
        slope = angle_slope(k.detach().expand(21), angle.detach(), length, 3)
        torch.testing.assert_close(slope, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("dimension", [2, 3, 8])
def test_gradients_of_an_expectation_are_right(dimension):
    """E[a.z + (b.z)^2] has a closed form in A; its gradient by both parameters against that of draws."""
    n, raw = 100_000, tensor(*([0.4] * dimension), 1.5)
    a, b = torch.randn(2, dimension, dtype=F64)
    head = posteriors.VonMisesFisher(dimension)

    def exact(params):
        q = head(params)
        moment = q._length / q._kappa
        along = 1 - dimension * moment
        return (a * q.mean).sum() + moment * b.square().sum() + along * (b * q.centre).sum() ** 2

    truth = torch.autograd.functional.jacobian(exact, raw)
    params = raw.expand(n, -1).clone().requires_grad_()
    z = head(params).rsample()
    (gradients,) = torch.autograd.grad(((z @ a) + (z @ b) ** 2).sum(), params)
    stderr = gradients.std(0) / math.sqrt(n)
    assert float(stderr.max()) < 0.02
    assert bool(((gradients.mean(0) - truth).abs() < 4.5 * stderr).all())


# --- As latents ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimension", [2, 3, 40])
@pytest.mark.parametrize("kappa", [0.1, 5.0, 1e3])
def test_the_closed_form_of_kl_is_the_average_over_draws(dimension, kappa):
    q, p = VonMisesFisher(direction(dimension), tensor(kappa)[0]), UniformSphere(torch.zeros(dimension, dtype=F64))
    z = q.sample((20_000,))
    sampled = q.log_prob(z) - p.log_prob(z)
    stderr = float(sampled.std()) / math.sqrt(len(z))
    assert abs(float(sampled.mean() - kl_divergence(q, p))) < 5 * stderr + 1e-9


def sphere_model(dimension, hidden=()):
    torch.manual_seed(4)
    return vk.VAE(
        Conditional(networks.MLP(3, hidden), posteriors.VonMisesFisher(dimension)),
        Conditional(networks.MLP(dimension, hidden), likelihoods.Normal(3, scale=0.5)),
        priors.UniformSphere(dimension),
    ).double()


def test_bounds_lie_below_log_p_of_the_circle():
    model, x = sphere_model(2), torch.randn(4, 3, dtype=F64)
    angles = torch.arange(4_000, dtype=F64) * (2 * math.pi / 4_000)
    points = torch.stack([angles.cos(), angles.sin()], -1).unsqueeze(1)
    with torch.no_grad():
        log_p = model.likelihood(points).log_prob(x).logsumexp(0) - math.log(4_000)
        elbo = bounds.elbo(model, x, 3_000)
    assert bool((elbo < log_p).all())
    noise = torch.Generator().manual_seed(0)
    estimate = vk.evaluation.log_marginal(model, x, num_samples=5_000, generator=noise)
    assert bool(((estimate.value - log_p).abs() < 5 * estimate.stderr).all())


def test_codes_lie_on_the_sphere():
    model, x = sphere_model(3), torch.randn(6, 3, dtype=F64)
    q = model.posterior(x)
    assert torch.equal(model.encode(x), centre(q))
    check_support(q, model.encode(x))
    assert float(q.mean.detach().norm(dim=-1).max()) < 1


@pytest.mark.parametrize(
    "parts",
    [
        (posteriors.VonMisesFisher(3), priors.StandardNormal(3), r"unit sphere, .* Use priors.UniformSphere or"),
        (posteriors.DiagonalNormal(3), priors.UniformSphere(3), r"or posteriors.VonMisesFisher\."),
        (posteriors.VonMisesFisher(3), priors.Bernoulli(3), "unit sphere"),
    ],
)
def test_a_sphere_and_a_space_are_refused(parts):
    posterior, prior, message = parts
    with pytest.raises(SupportError, match=message):
        vk.VAE(
            Conditional(networks.MLP(5, ()), posterior),
            Conditional(networks.MLP(3, ()), likelihoods.Normal(5)),
            prior,
        )


def test_events_that_are_no_vectors_of_two_or_more_are_refused():
    for make in (posteriors.VonMisesFisher, priors.UniformSphere):
        for shape in (1, (2, 3)):
            with pytest.raises(ShapeError, match="one dimension with at least 2 entries"):
                make(shape)


def test_a_layer_that_starts_at_zero_has_a_direction():
    params = torch.zeros(2, 5, requires_grad=True)
    q = posteriors.VonMisesFisher(4)(params)
    value = q.log_prob(q.rsample())
    value.sum().backward()
    assert value.isfinite().all()
    assert params.grad.isfinite().all()
