"""Hamiltonian Monte Carlo: the integrator, the kernel, draws from known posteriors, R-hat and effective sample size."""

import math
from itertools import pairwise

import pytest
import torch
from known_models import Curve, LinearGaussian, small_vae
from torch import nn
from torch.distributions import Bernoulli, Categorical, Independent, Normal, Uniform

import vaekit as vk
from vaekit import engine
from vaekit.errors import ConfigError, ShapeError
from vaekit.evaluation import PosteriorSamples, hmc_posterior
from vaekit.evaluation.chains.dynamics import adapted, evaluate, joint, leapfrog, temperatures, transition
from vaekit.evaluation.chains.hmc import effective_sample_size, split_r_hat


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def quartic(z):
    """A target with two coupled directions that is not Gaussian: the prior's part and the tilt."""
    return -z.square().sum(-1) / 2, -(z[..., 0] ** 2 - z[..., 1]).square() - 0.1 * z[..., 1] ** 4


def normals(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


# --- The integrator --------------------------------------------------------------------------------------------------


def test_leapfrog_returns_when_the_momentum_is_flipped():
    start, momentum = evaluate(quartic, normals(3, 4, 2)), normals(3, 4, 2, seed=1)
    step = torch.tensor([0.01, 0.05, 0.1, 0.2], dtype=torch.float64)[:, None]
    end, last, finite = leapfrog(quartic, start, momentum, step, 0.7, 9)
    back, first, _ = leapfrog(quartic, end, -last, step, 0.7, 9)
    assert bool(finite.all())
    assert float((end.z - start.z).abs().min()) > 1e-3
    torch.testing.assert_close(back.z, start.z, rtol=0, atol=1e-10)
    torch.testing.assert_close(-first, momentum, rtol=0, atol=1e-10)


def test_leapfrog_keeps_volumes_and_is_of_second_order():
    def flow(state, step=0.2, count=5):
        end, last, _ = leapfrog(
            quartic, evaluate(quartic, state[..., :2]), state[..., 2:], torch.tensor(step), 1.0, count
        )
        return torch.cat([end.z, last], -1), end

    state, h = normals(1, 1, 4), 1e-5
    shifts = torch.eye(4, dtype=torch.float64)[:, None] * h
    jacobian = (flow(state + shifts)[0] - flow(state - shifts)[0])[:, 0] / (2 * h)
    assert float(torch.linalg.det(jacobian)) == pytest.approx(1, abs=1e-7)

    def energy(state, end):
        return end.log_density(1.0) - state[..., 2:].square().sum(-1) / 2

    errors = []
    for count in (20, 40):
        moved, end = flow(state, 1.0 / count, count)
        errors.append(float(energy(moved, end) - energy(state, evaluate(quartic, state[..., :2]))))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)


def test_gradients_of_both_parts_are_those_of_the_log_densities():
    model, z, y = LinearGaussian(), normals(2, 3, 2), normals(3, 5, seed=1)
    point = evaluate(joint(model, y), z)
    torch.testing.assert_close(point.prior_gradient, -z)
    residual = y - (z @ model.w.T + model.b)
    torch.testing.assert_close(point.likelihood_gradient, residual @ model.w / model.noise**2)
    torch.testing.assert_close(point.log_likelihood, model.likelihood(z).log_prob(y))


# --- The kernel ------------------------------------------------------------------------------------------------------


def test_the_kernel_keeps_its_target_and_is_reversible():
    """Draws of a two-mode density on a grid keep its moments, and the flow from A to B is that from B to A.

    The step size is so large that a third of the moves are refused: without the Metropolis test both would fail.
    """

    def parts(z):
        return -z[..., 0].square() / 8, -(z[..., 0].square() - 1).square() - 0.5 * z[..., 0]

    grid = torch.linspace(-4, 4, 40_001, dtype=torch.float64)
    weights = sum(parts(grid[:, None])).exp()
    with engine.seeded(0):
        z = grid[torch.multinomial(weights, 200_000, replacement=True)].reshape(-1, 1, 1)
        point, rate = transition(parts, evaluate(parts, z), torch.full((1,), 0.42, dtype=torch.float64), 1.0, 3)
    assert 0.4 < float(rate.mean()) < 0.8
    for power in (1, 2, 4):
        exact = float((weights * grid**power).sum() / weights.sum())
        spread = float((point.z**power).std() / math.sqrt(len(z)))
        assert float((point.z**power).mean()) == pytest.approx(exact, abs=4 * spread)
    low, high = (lambda z: z < -0.9), (lambda z: (z > 0.3) & (z < 1.4))
    there, back = int((low(z) & high(point.z)).sum()), int((high(z) & low(point.z)).sum())
    assert there > 500
    assert abs(there - back) < 4 * math.sqrt(there + back)


def test_acceptance_is_the_probability_of_what_happens():
    with engine.seeded(0):
        start = evaluate(quartic, torch.randn(20_000, 1, 2, dtype=torch.float64))
        point, rate = transition(quartic, start, torch.full((1,), 0.6, dtype=torch.float64), 1.0, 4)
    moved = (point.z != start.z).any(-1).double()
    assert float(moved.mean()) == pytest.approx(float(rate.mean()), abs=4 * 0.5 / math.sqrt(20_000))
    assert 0.2 < float(rate.mean()) < 0.9


def test_energies_that_are_not_finite_are_refused():
    def parts(z):
        tilt = -(z[..., 0] - 0.5).square()
        tilt = torch.where(z[..., 0] > 1, torch.nan, torch.where(z[..., 0] < -1, -torch.inf, tilt))
        return -z[..., 0].square() / 2, tilt

    with engine.seeded(0):
        point = evaluate(parts, torch.zeros(500, 1, 1, dtype=torch.float64))
        for _ in range(20):
            point, rate = transition(parts, point, torch.full((1,), 0.7, dtype=torch.float64), 1.0, 3)
            assert bool(((rate >= 0) & (rate <= 1)).all())
    assert float(point.z.abs().max()) <= 1
    assert float(point.z.std()) > 0.3


def test_chains_that_start_where_the_density_is_zero_or_nan_come_home():
    def parts(z):
        tilt = torch.where(z[..., 0] > 1, torch.nan, torch.where(z[..., 0] < -1, -torch.inf, 0 * z[..., 0]))
        return -z[..., 0].square() / 2, tilt

    with engine.seeded(0):
        point = evaluate(parts, torch.tensor([-1.5, 1.5], dtype=torch.float64).repeat(100).reshape(-1, 1, 1))
        assert bool((point.log_likelihood == -torch.inf).all())
        for _ in range(30):
            point, rate = transition(parts, point, torch.full((1,), 0.4, dtype=torch.float64), 1.0, 3)
            assert bool(((rate >= 0) & (rate <= 1)).all()), "from nothing to nothing is a rejection"
    assert float(point.z.abs().max()) <= 1


def test_an_infinite_density_is_refused():
    def parts(z):
        return -z[..., 0].square() / 2, torch.where(z[..., 0] > 0.5, torch.inf, 0 * z[..., 0])

    with engine.seeded(0):
        start = evaluate(parts, torch.zeros(500, 1, 1, dtype=torch.float64))
        point, _ = transition(parts, start, torch.full((1,), 0.4, dtype=torch.float64), 1.0, 3)
    assert float(point.z.max()) <= 0.5
    assert float(point.z.std()) > 0.2


def test_a_trajectory_that_leaves_the_numbers_does_not_reach_the_model():
    """torch's distributions refuse NaN; a step far too large must end as a rejection, not as their error."""
    model, y = LinearGaussian(validate=True), normals(3, 5)
    start = evaluate(joint(model, y), normals(4, 3, 2))
    with engine.seeded(0):
        for step in (1e3, 1e100, 1e300):
            point, rate = transition(joint(model, y), start, torch.full((3,), step, dtype=torch.float64), 1.0, 10)
            assert torch.equal(point.z, start.z)
            assert float(rate.max()) == 0


def test_step_size_follows_the_acceptance_and_the_schedule_is_sigmoidal():
    step = torch.tensor([1.0, 1.0, 1.0])
    after = adapted(step, torch.tensor([[0.0, 0.65, 1.0], [0.2, 0.65, 1.0]]))
    assert after[0] < 1 < after[2]
    assert float(after[1]) == pytest.approx(1)
    betas = temperatures(10)
    assert (betas[0], betas[5], betas[-1], len(betas)) == (0.0, pytest.approx(0.5), 1.0, 11)
    steps = [b - a for a, b in pairwise(betas)]
    sigmoid = [1 / (1 + math.exp(-4 * (2 * t / 10 - 1))) for t in range(11)]
    assert steps == pytest.approx([(b - a) / (sigmoid[-1] - sigmoid[0]) for a, b in pairwise(sigmoid)])
    assert temperatures(1) == [0.0, 1.0]


# --- Draws from posteriors -------------------------------------------------------------------------------------------


def test_draws_have_the_mean_and_covariance_of_an_exact_posterior():
    model = LinearGaussian()
    x = model.sample(12, seed=3)
    samples = hmc_posterior(model, x, num_samples=500, num_warmup=150, num_leapfrog=5, generator=seeded())
    assert isinstance(samples, PosteriorSamples)
    assert samples.z.shape == (500, 4, 12, 2)
    assert (len(samples), samples.z.dtype) == (12, torch.float64)
    assert samples.r_hat.shape == samples.ess.shape == (12, 2)
    assert float(samples.r_hat.max()) < 1.03
    assert float(samples.ess.min()) > 200
    sd = model.covariance.diagonal().sqrt()
    z = (samples.z.mean((0, 1)) - model.posterior(x).loc) / (sd / samples.ess.sqrt())
    assert float(z.abs().max()) < 4
    assert 0.6 < float(z.square().mean()) < 1.6, "the effective sample size tells the error of the mean"
    moments = torch.stack([torch.cov(samples.z[:, :, i].flatten(0, 1).T) for i in range(12)])
    assert float(((moments.mean(0) - model.covariance) / torch.outer(sd, sd)).abs().max()) < 0.04
    assert 0.55 < float(samples.acceptance.mean()) < 0.75
    assert float((samples.acceptance - 0.65).abs().max()) < 0.12
    assert "largest R-hat 1.0" in repr(samples)


def test_one_step_size_per_point():
    """Four times the information asks for about half the step size: points do not share one."""
    curve = Curve(lambda z: torch.stack([z[..., 0]] * 16, -1), noise=1.0, missing="observed-only")
    x = torch.zeros(2, 16, dtype=torch.float64)
    x[1, 1:] = torch.nan  # the second point was observed once: posterior variances 1/17 and 1/2
    samples = hmc_posterior(curve, x, num_samples=200, num_warmup=150, num_leapfrog=5, generator=seeded())
    assert float(samples.step_size[1] / samples.step_size[0]) == pytest.approx(math.sqrt(17 / 2), rel=0.25)
    assert float(samples.z[:, :, 0].var()) == pytest.approx(1 / 17, rel=0.2)
    assert float(samples.z[:, :, 1].var()) == pytest.approx(1 / 2, rel=0.2)


def test_chains_that_cannot_mix_are_found_out():
    """x = z^2 + noise at x = 9 has modes at +-3 with nothing between: each chain stays in the mode it started in."""
    curve = Curve(lambda z: z.square(), noise=0.1)
    x = torch.full((1, 1), 9.0, dtype=torch.float64)
    samples = hmc_posterior(curve, x, num_chains=8, num_samples=60, num_warmup=120, generator=seeded())
    means = samples.z.mean(0).flatten()
    assert float((means.abs() - 3).abs().max()) < 0.05
    assert 0 < int((means > 0).sum()) < 8
    assert float(samples.r_hat) > 10
    assert float(samples.ess) < 20


def test_posterior_of_bits_agrees_with_quadrature():
    class Bits(Curve):
        def likelihood(self, z):
            return Independent(Bernoulli(logits=torch.cat([2 * z, 1 - z, 3 * z.square() - 1], -1)), 1)

    x = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]], dtype=torch.float64)
    model, grid = Bits(None), torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None, None]
    weights = (model.prior().log_prob(grid) + model.likelihood(grid).log_prob(x)).exp()
    exact = (grid[..., 0] * weights).sum(0) / weights.sum(0)
    samples = hmc_posterior(model, x, num_samples=300, num_warmup=90, num_leapfrog=5, generator=seeded())
    error = samples.z.mean((0, 1)) - exact[:, None]
    assert float((error / (samples.z.std((0, 1)) / samples.ess.sqrt())).abs().max()) < 4


@pytest.mark.parametrize("event", [(), (1,), (2, 1, 2)])
def test_latents_of_any_shape(event):
    class Cube(Curve):
        def prior(self):
            one = torch.ones(event, dtype=torch.float64)
            return Independent(Normal(0 * one, one), len(event))

        def likelihood(self, z):
            return Independent(Normal(z.reshape(*z.shape[: z.ndim - len(event)], -1), 1.0), 1)

    size = math.prod(event)
    x = torch.ones(3, size, dtype=torch.float64)
    samples = hmc_posterior(Cube(None), x, num_samples=100, num_warmup=60, num_leapfrog=5, generator=seeded())
    assert samples.z.shape == (100, 4, 3, *event)
    assert samples.r_hat.shape == samples.ess.shape == (3, *event)
    assert float(samples.z.mean()) == pytest.approx(0.5, abs=0.15)


# --- Diagnostics -----------------------------------------------------------------------------------------------------


def autoregressive(phi, shape, seed=0):
    noise = normals(*shape, seed=seed)
    z = torch.empty_like(noise)
    z[0] = noise[0]
    for t in range(1, len(z)):
        z[t] = phi * z[t - 1] + math.sqrt(1 - phi**2) * noise[t]
    return z


@pytest.mark.parametrize("phi", [-0.3, 0.0, 0.5, 0.9])
def test_effective_sample_size_of_an_autoregressive_chain(phi):
    """Draws with autocorrelations phi^t are worth (1 - phi) / (1 + phi) independent ones each."""
    draws = autoregressive(phi, (4_000, 4, 5))
    exact = 16_000 * (1 - phi) / (1 + phi)
    assert float(effective_sample_size(draws).mean()) == pytest.approx(exact, rel=0.1)
    assert float(split_r_hat(draws).max()) < 1.02


def test_diagnostics_agree_with_formulas_written_out():
    draws = autoregressive(0.6, (41, 3)) + torch.tensor([0.0, 0.3, 0.0], dtype=torch.float64)
    chains = [half.tolist() for c in draws.T for half in (c[:20], c[-20:])]
    n, m = 20, len(chains)
    means = [sum(c) / n for c in chains]
    variances = [sum((v - mu) ** 2 for v in c) / (n - 1) for c, mu in zip(chains, means, strict=True)]
    between = n * sum((mu - sum(means) / m) ** 2 for mu in means) / (m - 1)
    within = sum(variances) / m
    pooled = (n - 1) / n * within + between / n
    assert float(split_r_hat(draws)) == pytest.approx(math.sqrt(pooled / within), rel=1e-12)

    def rho(t):
        lagged = [
            sum((c[i] - mu) * (c[i + t] - mu) for i in range(n - t)) / (n - 1)
            for c, mu in zip(chains, means, strict=True)
        ]
        return 1 - (within - sum(lagged) / m) / pooled

    tau, least = -1.0, math.inf
    for k in range(n // 2):
        pair = rho(2 * k) + rho(2 * k + 1)
        if pair <= 0:
            break
        least = min(least, pair)
        tau += 2 * least
    assert float(effective_sample_size(draws)) == pytest.approx(m * n / tau, rel=1e-12)


def test_diagnostics_of_chains_that_stand_still_or_drift():
    apart = torch.arange(4.0).expand(100, 4)
    assert float(split_r_hat(apart)) == math.inf
    assert float(effective_sample_size(apart)) < 8
    assert bool(split_r_hat(torch.zeros(100, 4)).isnan())
    drift = autoregressive(0.0, (200, 2)) * 0.1 + torch.linspace(0, 1, 200)[:, None]
    assert float(split_r_hat(drift)) > 1.5, "two halves of a drifting chain differ"


# --- Manners ---------------------------------------------------------------------------------------------------------


def test_repeats_bit_for_bit_and_blocks_do_not_meet(monkeypatch):
    model = LinearGaussian()
    x, options = model.sample(7, seed=1), {"num_samples": 8, "num_warmup": 6, "num_leapfrog": 3}
    state = torch.get_rng_state()
    first = hmc_posterior(model, x, generator=seeded(), **options)
    assert torch.equal(first.z, hmc_posterior(model, x, generator=seeded(), **options).z)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first.z, hmc_posterior(model, x, generator=seeded(1), **options).z)
    monkeypatch.setattr("vaekit.evaluation.chains.hmc.block_rows", lambda model, num_chains: 4)
    whole = hmc_posterior(model, x, generator=seeded(), **options)
    other = x.clone()
    other[4:] += 5
    changed = hmc_posterior(model, other, generator=seeded(), **options)
    assert torch.equal(whole.z[:, :, :4], changed.z[:, :, :4])
    assert not torch.equal(whole.z[:, :, 4:], changed.z[:, :, 4:])
    assert torch.equal(whole.ess[:4], changed.ess[:4])


def test_a_module_is_left_as_it_was():
    model = small_vae()
    model.train()
    model.decoder.eval()
    samples = hmc_posterior(model, torch.ones(2, 6), num_samples=4, num_warmup=3, generator=seeded())
    assert samples.z.dtype == torch.float32
    assert model.training
    assert not model.decoder.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not samples.z.requires_grad
    wide = hmc_posterior(model.double(), torch.ones(2, 6), num_samples=4, num_warmup=3, generator=seeded())
    assert wide.z.dtype == torch.float64


class WithPrior(LinearGaussian):
    def __init__(self, prior):
        super().__init__(latent=1)
        self.prior = lambda: prior


class Blind(LinearGaussian):
    def likelihood(self, z):
        return super().likelihood(z.detach())


class Constant(LinearGaussian):
    """A collapsed decoder that does not look at z, with parameters of its own."""

    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(5, dtype=torch.float64))

    def likelihood(self, z):
        return Independent(Normal(self.mean.expand(*z.shape[:-1], 5), 1.0), 1)


def test_what_cannot_be_sampled_is_refused():
    x, one = torch.zeros(2, 5, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    for prior in (Independent(Bernoulli(0.5 * one), 1), Categorical(torch.ones(3))):
        with pytest.raises(ConfigError, match=r"discrete\. Use log_marginal"):
            hmc_posterior(_AnyLatent(prior), x)
    for prior in (Independent(Uniform(-one, one), 1), torch.distributions.Dirichlet(torch.ones(3))):
        with pytest.raises(ConfigError, match="confined"):
            hmc_posterior(_AnyLatent(prior), x)
    for model in (Blind(), Constant()):
        with pytest.raises(ConfigError, match=r"gradient in z of the likelihood's.*log_marginal"):
            hmc_posterior(model, x)
    with pytest.raises(ConfigError, match="num_samples is at least 4"):
        hmc_posterior(LinearGaussian(), x, num_samples=3)
    for name in ("num_warmup", "num_chains", "num_leapfrog"):
        with pytest.raises(ConfigError, match=f"{name} is at least 1; got 0"):
            hmc_posterior(LinearGaussian(), x, **{name: 0})
    with pytest.raises(ShapeError):
        hmc_posterior(LinearGaussian(), x[0])


class _AnyLatent(LinearGaussian):
    """A decoder for latents of any kind, so that the data check passes."""

    def __init__(self, prior):
        super().__init__()
        self._prior = prior

    def prior(self):
        return self._prior

    def likelihood(self, z):
        batch = z.shape[: z.ndim - len(self._prior.event_shape)]
        mean = z.double().reshape(*batch, -1).sum(-1, keepdim=True)
        return Independent(Normal(mean.expand(*batch, 5), 1.0), 1)


def test_a_prior_without_gradient_is_named():
    class Frozen(LinearGaussian):
        def prior(self):
            class Detached(Normal):
                def log_prob(self, value):
                    return super().log_prob(value.detach())

            return Independent(Detached(torch.zeros(2, dtype=torch.float64), 1.0), 1)

    with pytest.raises(ConfigError, match="gradient in z of the prior's"):
        hmc_posterior(Frozen(), torch.zeros(2, 5, dtype=torch.float64))


def test_exported():
    assert vk.evaluation.hmc_posterior is hmc_posterior
