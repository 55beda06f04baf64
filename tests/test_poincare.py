"""The wrapped normal on the Poincare ball: against quadrature, autograd, and the metric's own formulas."""

import math

import pytest
import torch

import vaekit as vk
from vaekit import Conditional, bounds, likelihoods, networks, posteriors, priors
from vaekit.distributions import WrappedNormal, ball, check_support
from vaekit.errors import ConfigError, ShapeError, SupportError
from vaekit.kl import kl_divergence

F64 = torch.float64
CURVATURES = [0.3, 1.0, 2.5]


def tensor(*values):
    return torch.tensor(values, dtype=F64)


def points(n, dimension, curvature, reach=3.0):
    """Points of the ball at up to `reach` / sqrt(c) from its centre."""
    v = torch.randn(n, dimension, dtype=F64)
    v = v / v.norm(dim=-1, keepdim=True) * reach * torch.rand(n, 1, dtype=F64) / math.sqrt(curvature)
    return ball.exp_map(torch.zeros(dimension, dtype=F64), v, curvature)


def distance(a, b, curvature):
    """By acosh, the formula of the textbooks."""
    gaps = (1 - curvature * a.square().sum(-1)) * (1 - curvature * b.square().sum(-1))
    return torch.acosh(1 + 2 * curvature * (a - b).square().sum(-1) / gaps) / math.sqrt(curvature)


# --- Geometry ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("dimension", [1, 2, 7])
def test_the_logarithm_undoes_the_exponential_and_both_keep_distances(curvature, dimension):
    loc, z = points(200, dimension, curvature), points(200, dimension, curvature)
    v = ball.log_map(loc, z, curvature)
    torch.testing.assert_close(ball.exp_map(loc, v, curvature), z, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(v.norm(dim=-1), distance(loc, z, curvature), rtol=1e-8, atol=1e-10)
    v = 2 * torch.randn(200, dimension, dtype=F64)
    torch.testing.assert_close(ball.log_map(loc, ball.exp_map(loc, v, curvature), curvature), v)


@pytest.mark.parametrize("curvature", CURVATURES)
def test_small_steps_are_those_of_the_metric(curvature):
    loc, v = points(50, 3, curvature), torch.randn(50, 3, dtype=F64)
    moved = (ball.exp_map(loc, 1e-6 * v, curvature) - loc) / 1e-6
    conformal = ball.log_conformal(loc, curvature).exp().unsqueeze(-1)
    torch.testing.assert_close(moved * conformal, v, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("curvature", CURVATURES)
def test_flat_space_is_the_limit(curvature):
    loc, v = tensor(0.2, -0.1, 0.3), tensor(0.5, 0.4, -0.2)
    # Around loc the metric is 4 (the conformal factor 2, squared), whatever c, as c goes to 0.
    torch.testing.assert_close(ball.exp_map(loc, v, 1e-8 * curvature), loc + v / 2, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("dimension", [1, 2, 4])
def test_the_volume_is_the_jacobian_by_autograd(curvature, dimension):
    for loc, v in zip(points(5, dimension, curvature), torch.randn(5, dimension, dtype=F64), strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda t, m=loc: ball.exp_map(m, t, curvature), v)
        z = ball.exp_map(loc, v, curvature)
        riemannian = torch.linalg.slogdet(jacobian)[1] + dimension * ball.log_conformal(z, curvature)
        torch.testing.assert_close(riemannian, ball.log_volume(v, curvature), rtol=1e-9, atol=1e-10)


def test_maps_and_volume_have_right_derivatives_at_the_point_itself():
    loc = tensor(0.3, -0.5)
    for curvature in CURVATURES:
        conformal = float(ball.log_conformal(loc, curvature).exp())
        forth = torch.autograd.functional.jacobian(
            lambda t, c=curvature: ball.exp_map(loc, t, c), torch.zeros(2, dtype=F64)
        )
        back = torch.autograd.functional.jacobian(lambda z, c=curvature: ball.log_map(loc, z, c), loc)
        torch.testing.assert_close(forth, torch.eye(2, dtype=F64) / conformal)
        torch.testing.assert_close(back, torch.eye(2, dtype=F64) * conformal)
    small = tensor(0.0099999, 0.0)
    torch.testing.assert_close(ball.log_volume(small, 1.0), ball.log_volume(1.00001 * small, 1.0), rtol=1e-4, atol=0)


# --- The density ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("curvature", CURVATURES)
def test_the_density_integrates_to_one_in_one_dimension(curvature):
    d = WrappedNormal(0.6 * tensor(1.0) / math.sqrt(curvature), tensor(0.8), curvature)
    u = (torch.arange(400_000, dtype=F64) + 0.5) / 400_000 * 2 - 1
    z = (u / math.sqrt(curvature)).unsqueeze(-1)
    riemannian = d.log_prob(z) + ball.log_conformal(z, curvature)
    assert abs(float(riemannian.exp().sum()) * float(z[1] - z[0]) - 1) < 1e-6


@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("loc", [(0.0, 0.0), (0.5, -0.3)])
def test_the_density_integrates_to_one_in_two_dimensions(curvature, loc):
    d = WrappedNormal(tensor(*loc) / math.sqrt(curvature), tensor(0.7, 0.4), curvature)
    # Polar coordinates around the ball's centre by distance r: area sinh(sqrt(c) r)/sqrt(c) dr dphi.
    root = math.sqrt(curvature)
    r, weights = torch.linspace(0, 9 / min(root, 1), 3_001, dtype=F64)[1:], torch.arange(360, dtype=F64) * math.pi / 180
    radius = torch.tanh(0.5 * root * r) / root
    z = torch.stack([torch.outer(radius, weights.cos()), torch.outer(radius, weights.sin())], -1)
    area = torch.sinh(root * r) / root * float(r[1] - r[0]) * math.pi / 180
    density = d.log_prob(z).exp() * area.unsqueeze(-1)
    assert abs(float(density.sum()) - 1) < 2e-5  # the error of the rule itself, at r = 0


@pytest.mark.parametrize("curvature", CURVATURES)
def test_the_density_is_that_of_the_change_of_variables(curvature):
    loc, scale = points(6, 3, curvature), torch.rand(6, 3, dtype=F64) + 0.2
    d = WrappedNormal(loc, scale, curvature)
    z = d.sample()
    v = ball.log_map(loc, z, curvature)
    normal = torch.distributions.Normal(0, scale).log_prob(v).sum(-1)
    jacobians = [
        torch.autograd.functional.jacobian(lambda t, m=m: ball.exp_map(m, t, curvature), t)
        for m, t in zip(loc, v, strict=True)
    ]
    lebesgue = normal - torch.linalg.slogdet(torch.stack(jacobians))[1]
    torch.testing.assert_close(d.log_prob(z) + 3 * ball.log_conformal(z, curvature), lebesgue)


def test_gradients_of_the_density_and_of_draws_are_the_numerical_ones():
    loc, scale = tensor(0.3, -0.4).requires_grad_(), tensor(0.5, 0.9).requires_grad_()

    def density(m, s, z):
        return WrappedNormal(m, s, 0.7).log_prob(z)

    def draws(m, s):
        torch.manual_seed(3)
        return WrappedNormal(m, s, 0.7).rsample((5,))

    z = draws(loc, scale).detach().requires_grad_()
    assert torch.autograd.gradcheck(density, (loc, scale, z))
    assert torch.autograd.gradcheck(draws, (loc, scale))


# --- Draws ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_tangents_of_draws_are_normal(dtype):
    loc, scale = torch.tensor([0.5, -0.6], dtype=dtype), torch.tensor([0.3, 1.2], dtype=dtype)
    d, n = WrappedNormal(loc, scale, 1.0), 20_000
    z = d.sample((n,))
    v = ball.log_map(loc.double(), z.double(), 1.0)
    assert bool((v.mean(0).abs() < 4.5 * scale.double() / math.sqrt(n)).all())
    torch.testing.assert_close(v.std(0), scale.double(), rtol=4 / math.sqrt(2 * n), atol=0)
    assert abs(float((v[:, 0] * v[:, 1]).mean())) < 4.5 * float(scale.prod()) / math.sqrt(n)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("size", [0.5, 6.0, 60.0])
def test_everything_stays_finite_next_to_the_boundary(dtype, size):
    for curvature in CURVATURES:
        head = posteriors.WrappedNormal(3, curvature)
        params = (size * torch.randn(300, 2, 3, dtype=dtype)).requires_grad_()
        q, p = head(params), priors.WrappedNormal(3, curvature).to(dtype)()
        z = q.rsample((4,))
        check_support(q, z)
        value = q.log_prob(z) - p.log_prob(z)
        (gradient,) = torch.autograd.grad(value.sum(), params)
        assert value.isfinite().all()
        assert gradient.isfinite().all()


def test_float32_densities_at_float32_points_are_those_of_float64():
    params = 3 * torch.randn(500, 2, 4)
    q = posteriors.WrappedNormal(4)(params)
    z = q.sample((5,))
    wide = WrappedNormal(q.loc.double(), q.scale.double())
    torch.testing.assert_close(q.log_prob(z).double(), wide.log_prob(z.double()), rtol=1e-5, atol=1e-5)


# --- As latents ----------------------------------------------------------------------------------------------------


def make(posterior, prior):
    torch.manual_seed(4)
    return vk.VAE(
        Conditional(networks.MLP(3, ()), posterior),
        Conditional(networks.MLP(posterior.event_shape, ()), likelihoods.Normal(3, scale=0.5)),
        prior,
    ).double()


def test_bounds_lie_below_log_p_of_the_ball():
    model, x = make(posteriors.WrappedNormal(2, 0.5), priors.WrappedNormal(2, 0.5)), torch.randn(3, 3, dtype=F64)
    root = math.sqrt(0.5)
    r, angles = torch.linspace(0, 9, 1_501, dtype=F64)[1:], torch.arange(180, dtype=F64) * math.pi / 90
    radius = torch.tanh(0.5 * root * r) / root
    z = torch.stack([torch.outer(radius, angles.cos()), torch.outer(radius, angles.sin())], -1).reshape(-1, 1, 2)
    log_area = (torch.sinh(root * r) / root * float(r[1] - r[0]) * math.pi / 90).log().repeat_interleave(180)
    with torch.no_grad():
        log_joint = model.prior().log_prob(z) + model.likelihood(z).log_prob(x)
        log_p = (log_joint + log_area.unsqueeze(-1)).logsumexp(0)
        elbo = bounds.elbo(model, x, 3_000)
    assert bool((elbo < log_p).all())
    noise = torch.Generator().manual_seed(0)
    estimate = vk.evaluation.log_marginal(model, x, num_samples=5_000, generator=noise)
    assert bool(((estimate.value - log_p).abs() < 5 * estimate.stderr + 1e-5).all())
    assert kl_divergence(model.posterior(x), model.prior()) is None


def test_codes_lie_in_the_ball():
    model, x = make(posteriors.WrappedNormal(2), priors.WrappedNormal(2)), 30 * torch.randn(6, 3, dtype=F64)
    check_support(model.prior(), model.encode(x))
    assert model.reconstruct(x).isfinite().all()


@pytest.mark.parametrize(
    ("posterior", "prior", "message"),
    [
        (
            posteriors.WrappedNormal(3),
            priors.StandardNormal(3),
            r"ball of curvature -1, .*priors.WrappedNormal of that",
        ),
        (posteriors.WrappedNormal(3), priors.WrappedNormal(3, 0.5), r"curvature -1, the prior .* of curvature -0.5"),
        (posteriors.DiagonalNormal(3), priors.WrappedNormal(3), r"or posteriors.WrappedNormal of that"),
    ],
)
def test_a_ball_and_another_set_are_refused(posterior, prior, message):
    with pytest.raises(SupportError, match=message):
        make(posterior, prior)


def test_settings_that_make_no_sense_are_refused():
    for make_one in (posteriors.WrappedNormal, priors.WrappedNormal):
        with pytest.raises(ShapeError, match="one dimension"):
            make_one((2, 3))
        for curvature in (0.0, -1.0, math.inf):
            with pytest.raises(ConfigError, match="c > 0, for -c; got"):
                make_one(3, curvature)
