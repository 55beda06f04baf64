"""Diagnostics against closed forms and quadrature, and each verdict on a model that was built to deserve it."""

import json
import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

import vaekit as vk
from vaekit import engine
from vaekit.distributions import Product
from vaekit.errors import ConfigError, DataError
from vaekit.evaluation import diagnostics

torch64 = {"dtype": torch.float64}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Linear:
    """z ~ N(0, I), x ~ N(Wz, s^2 I) with a diagonal q(z|x), given by how it differs from the best diagonal one."""

    def __init__(self, weight, noise=0.5, temper=1.0, shift=0.0, mix=None, width=1.0):
        self.w, self.noise, self.temper, self.shift, self.mix, self.width = weight, noise, temper, shift, mix, width

    def exact(self, x, temper=1.0):
        variance = self.noise**2 * temper
        precision = torch.eye(self.w.shape[1], **torch64) + self.w.T @ self.w / variance
        covariance = torch.linalg.inv(precision)
        return x @ self.w @ covariance / variance, precision

    def posterior(self, x):
        mean, precision = self.exact(x, self.temper)
        scale = precision.diagonal().rsqrt() * self.width
        mean = mean if self.mix is None else mean @ self.mix
        return Product(Normal(mean + self.shift * scale, scale.expand_as(mean)), 1)

    def prior(self):
        zero = torch.zeros(self.w.shape[1], **torch64)
        return Product(Normal(zero, torch.ones_like(zero)), 1)

    def likelihood(self, z):
        return Product(Normal(z @ self.w.T, torch.tensor(self.noise, **torch64)), 1)

    def sample(self, n):
        with engine.seeded(5):
            return self.likelihood(self.prior().sample((n,))).sample()


def weight(dims=6, latent=2, scale=1.0):
    return scale * torch.randn(dims, latent, generator=seeded(1), **torch64)


def names(found):
    return [finding.name for finding in found.findings]


def test_information_of_one_latent_against_quadrature():
    """I(x; z) and KL(q(z), p(z)) of a mixture of 200 normals, by a sum over a fine grid of z."""
    model = Linear(weight(latent=1))
    x = model.sample(200)
    found = diagnostics(model, x, num_gap_rows=0, generator=seeded())
    q = model.posterior(x)
    z = torch.linspace(-8, 8, 20_001, **torch64)
    density = Normal(q.base.loc, q.base.scale).log_prob(z).exp()
    mixture, step = density.mean(0), float(z[1] - z[0])
    entropy = -float((mixture * mixture.clamp(min=1e-300).log()).sum()) * step
    information = entropy - float((0.5 * (2 * math.pi * math.e * q.base.scale**2).log()).mean())
    gap = -entropy - float((mixture * model.prior().base.log_prob(z.unsqueeze(1)).squeeze()).sum()) * step
    code = found.aggregate
    assert code.mutual_information.value == pytest.approx(information, abs=4 * code.mutual_information.stderr)
    assert code.gap.value == pytest.approx(gap, abs=4 * code.gap.stderr)
    assert code.limit == pytest.approx(math.log(200))
    assert not code.saturated
    moments = float((mixture * z).sum()) * step, float((mixture * z**2).sum()) * step
    assert float(code.mean) == pytest.approx(moments[0], abs=1e-6)
    assert float(code.std) == pytest.approx(math.sqrt(moments[1] - moments[0] ** 2), abs=1e-6)


def test_rate_is_information_plus_gap_and_rate_plus_distortion_is_minus_the_elbo():
    model = Linear(weight())
    x = model.sample(600)
    found = diagnostics(model, x, num_gap_rows=0, generator=seeded())
    code = found.aggregate
    total = code.mutual_information.value + code.gap.value
    assert total == pytest.approx(found.rate.value, abs=4 * math.hypot(code.mutual_information.stderr, 0.02))
    bound = vk.evaluation.elbo(model, x, num_samples=200, generator=seeded())
    assert found.rate.value + found.distortion.value == pytest.approx(-bound.mean, abs=0.15)
    assert float(found.kl_per_dimension.sum()) == pytest.approx(found.rate.value)
    assert code.active_units == 2


def test_more_information_than_the_points_can_tell_is_said_to_be_saturated():
    model = Linear(weight(latent=5, dims=20), noise=0.05)
    assert diagnostics(model, model.sample(50), num_gap_rows=0, generator=seeded()).aggregate.saturated


def test_both_inference_gaps_against_closed_forms():
    """With a Gaussian posterior of precision P, the best diagonal q has its mean and the variances 1 / P_ii."""
    model = Linear(weight(), shift=1.2, width=1.3)
    x = model.sample(40)
    gap = diagnostics(model, x, generator=seeded()).inference_gap
    mean, precision = model.exact(x)
    exact = MultivariateNormal(mean, precision_matrix=precision)
    best = MultivariateNormal(mean, torch.diag(1 / precision.diagonal()))
    q = model.posterior(x)
    amortised = MultivariateNormal(q.base.loc, torch.diag_embed(q.base.scale**2))
    kl = torch.distributions.kl_divergence
    assert gap.approximation.value == pytest.approx(float(kl(best, exact).mean()), abs=0.02)
    expected = float((kl(amortised, exact) - kl(best, exact)).mean())
    assert gap.amortization.value == pytest.approx(expected, abs=0.05 + 0.03 * expected)
    evidence = MultivariateNormal(torch.zeros(6, **torch64), model.w @ model.w.T + 0.25 * torch.eye(6, **torch64))
    rows = gap.log_marginal
    assert rows.value == pytest.approx(float(evidence.log_prob(x).mean()), abs=0.05)
    assert gap.agreement > 0.99
    assert gap.num_points == 40


@pytest.mark.parametrize("family", ["DiagonalNormal", "LowRankNormal", "FullNormal"])
def test_the_best_q_is_found_whatever_the_layout_of_its_parameters(family):
    """A nearly linear decoder with four bits per unit: the exact posterior is close to normal."""
    with engine.seeded(0):
        encoder = vk.Conditional(vk.networks.MLP((16,), (8,)), getattr(vk.posteriors, family)(4))
        decoder = vk.Conditional(vk.networks.MLP(4, (8,)), vk.likelihoods.Bernoulli((16,)))
        model = vk.VAE(encoder, decoder, vk.priors.StandardNormal(4))
    x = torch.bernoulli(torch.full((16, 16), 0.5), generator=seeded())
    gap = diagnostics(model, x, generator=seeded()).inference_gap
    assert gap.approximation.value + 4 * gap.approximation.stderr >= 0
    assert gap.approximation.value < 0.1


def test_the_best_q_needs_nothing_and_the_parameters_get_no_gradients():
    with engine.seeded(0):
        model, _ = vk.presets.vae((6,), latent_dim=2, hidden=(8,), likelihood="bernoulli")
    x = torch.bernoulli(torch.full((30, 6), 0.4), generator=seeded())
    model.train()
    state = torch.get_rng_state()
    first = diagnostics(model, x, generator=seeded())
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    again = diagnostics(model, x, generator=seeded())
    assert first.results() == again.results()
    json.dumps([vars(row) for row in first.results()], allow_nan=False)
    healthy = Linear(weight())
    found = diagnostics(healthy, healthy.sample(300), generator=seeded())
    assert abs(found.inference_gap.amortization.value) < 0.02
    assert names(found) == ["healthy"]


def test_a_decoder_that_ignores_z_is_a_collapse():
    model = Linear(torch.zeros(6, 3, **torch64))
    found = diagnostics(model, model.sample(200), generator=seeded())
    assert names(found) == ["posterior collapse"]
    assert found.aggregate.active_units == 0
    assert "0 of 3 units" in found.findings[0].evidence


def test_a_tempered_posterior_is_over_regularised():
    """The exact posterior for beta = 10 beside a decoder that was fitted without it."""
    model = Linear(weight(dims=12), temper=10.0)
    found = diagnostics(model, model.sample(300), generator=seeded())
    assert names(found) == ["over-regularisation"]


def test_an_encoder_that_points_elsewhere_lags():
    swapped = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], **torch64)
    model = Linear(weight(), mix=swapped)
    found = diagnostics(model, model.sample(300), generator=seeded())
    assert names(found) == ["lagging inference"]
    assert found.inference_gap.agreement < 0.9


def test_codes_next_to_points_far_from_the_prior_are_those_of_an_autoencoder():
    """x = z / 6 with little noise, and codes that were never held to the prior: their spread is 6."""
    model = Linear(torch.eye(2, **torch64), noise=0.01)
    x = 6 * model.sample(300)
    found = diagnostics(model, x, generator=seeded())
    assert "decay to an autoencoder" in names(found)
    assert float(found.aggregate.std.median()) == pytest.approx(6, rel=0.2)


def test_a_scale_at_its_floor_is_found():
    with engine.seeded(0):
        head = vk.likelihoods.Normal(3, scale="per-dimension", min_scale=0.05)
        model = vk.VAE(
            vk.Conditional(vk.networks.MLP(3, (8,)), vk.posteriors.DiagonalNormal(2)),
            vk.Conditional(vk.networks.MLP(2, (8,)), head),
            vk.priors.StandardNormal(2),
        )
    with torch.no_grad():
        head.scale_parameter.raw[0] = -30.0
    found = diagnostics(model, torch.randn(50, 3, generator=seeded()), num_gap_rows=0, generator=seeded())
    assert found.scale.at_floor == pytest.approx(1 / 3)
    assert found.scale.smallest == pytest.approx(0.05)
    assert "scale at its floor" in names(found)


def test_a_posterior_of_unknown_family_has_no_gap_and_a_full_one_no_kl_per_dimension():
    class Full(Linear):
        def posterior(self, x):
            mean, precision = self.exact(x)
            return MultivariateNormal(mean, precision_matrix=precision)

    model = Full(weight())
    found = diagnostics(model, model.sample(60), generator=seeded())
    assert found.inference_gap is None
    assert found.kl_per_dimension is None
    assert found.aggregate.active_units == 2


def test_arguments():
    model = Linear(weight())
    with pytest.raises(DataError, match="at least 2"):
        diagnostics(model, model.sample(1))
    with pytest.raises(ConfigError, match="max_rows"):
        diagnostics(model, model.sample(5), max_rows=1)
    with pytest.raises(ConfigError, match="num_gap_rows"):
        diagnostics(model, model.sample(5), num_gap_rows=-1)
