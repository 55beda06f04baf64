"""Diagnostics against closed forms and quadrature, and each verdict on a model that was built to deserve it."""

import json
import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch.distributions import Independent, MultivariateNormal, Normal

import vaekit as vk
from vaekit import engine
from vaekit.distributions import Product
from vaekit.errors import ConfigError, DataError
from vaekit.evaluation import diagnostics, proposals
from vaekit.evaluation.health.inference_gap import inference_gap

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


def correlated(dims, correlation, **kwargs):
    """A model whose posterior has equal variances and equal negative correlations in its precision."""
    precision = torch.full((dims, dims), -correlation, **torch64).fill_diagonal_(1.0)
    precision = precision * 1.1 / float(torch.linalg.eigvalsh(precision)[0])
    root = torch.linalg.cholesky(precision - torch.eye(dims, **torch64))
    gap = 0.5 * float(precision.diagonal().log().sum() - torch.logdet(precision))
    return Linear(0.5 * root.T, **kwargs), precision, gap


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("dims", "correlation"), [(2, 0.6), (2, 0.9), (16, 0.06)])
def test_weights_without_variance_do_not_bias_the_gaps(dims, correlation, seed):
    """p(x, z) / q(z) has no second moment under the best q, whose variances are 1 / P_ii; the encoder gives that q."""
    model, precision, expected = correlated(dims, correlation)
    if dims == 2:
        assert expected == pytest.approx(-0.5 * math.log(1 - correlation**2))
    assert float(torch.linalg.eigvalsh(2 * precision - precision.diagonal().diag())[0]) < 0
    gap = diagnostics(model, model.sample(64), generator=seeded(seed)).inference_gap
    assert gap.approximation.value == pytest.approx(expected, abs=max(0.01, 4 * gap.approximation.stderr))
    assert gap.approximation.stderr < 0.01
    assert gap.amortization.value == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("wrong", [{"shift": 1.2, "width": 1.3}, {"width": 0.3}, {"shift": 6.0, "width": 0.5}])
def test_a_poor_encoder_moves_the_amortisation_gap_alone(wrong):
    """KL of two normals of the same axes, and the same approximation gap whatever the encoder says."""
    model, _, expected = correlated(2, 0.6, **wrong)
    gap = diagnostics(model, model.sample(64), generator=seeded()).inference_gap
    shift, width = wrong.get("shift", 0.0) * wrong["width"], wrong["width"]
    # E_q[-log p(z|x)] for a quadratic form, less the entropy, beside those of the best q.
    quadratic = (1 - 0.6) * shift**2 + (width**2 - 1)
    amortisation = quadratic - 2 * math.log(width)
    assert gap.approximation.value == pytest.approx(expected, abs=max(0.01, 4 * gap.approximation.stderr))
    assert gap.amortization.value == pytest.approx(amortisation, abs=max(0.01, 4 * gap.amortization.stderr))


class Curved:
    """z in the plane, x = f(z) + noise with f nonlinear: q(z|x) is any one normal, and log p(x) a sum over a grid."""

    def __init__(self, wrap):
        self.wrap = wrap

    def posterior(self, x):
        return self.wrap(Normal(0.3 * x[:, :2], torch.full((len(x), 2), 0.5, **torch64)))

    def prior(self):
        return self.wrap(Normal(torch.zeros(2, **torch64), torch.ones(2, **torch64)))

    def likelihood(self, z):
        a, b = z[..., 0], z[..., 1]
        means = torch.stack([a + b.square(), torch.tanh(2 * b - a), a * b], -1)
        return self.wrap(Normal(means, torch.tensor(0.3, **torch64).expand_as(means)))

    def log_marginal(self, x):
        side = torch.linspace(-6, 6, 401, **torch64)
        z = torch.cartesian_prod(side, side).unsqueeze(1)
        joint = self.likelihood(z).log_prob(x) + self.prior().log_prob(z)
        return torch.logsumexp(joint, 0) + 2 * math.log(float(side[1] - side[0]))


@pytest.mark.parametrize("wrap", [lambda d: Product(d, 1), lambda d: Independent(d, 1)])
def test_log_p_of_the_gaps_against_quadrature_where_the_posterior_is_not_normal(wrap):
    model = Curved(wrap)
    with engine.seeded(3):
        x = model.likelihood(model.prior().sample((32,))).sample()
    exact = float(model.log_marginal(x).mean())
    gaps = [diagnostics(model, x, generator=seeded(seed)).inference_gap for seed in range(6)]
    errors = torch.tensor([gap.log_marginal.value - exact for gap in gaps])
    # One estimate scatters by 0.025, since the prior alone finds the second mode of some rows; the mean of six by 0.01.
    assert float(errors.abs().max()) < 0.1
    assert abs(float(errors.mean())) < 0.03


def test_the_mixture_of_proposals_is_unbiased_and_the_fitted_one_exact_for_a_normal_posterior():
    model, precision, _ = correlated(3, 0.4, shift=0.8, width=0.6)
    x = model.sample(5)
    with engine.seeded(0):
        t = proposals.fitted(model, model.posterior(x), x)
        evidence = proposals.log_marginal(model, x, [t, model.posterior(x)], 4_000)
        draws = t.sample(torch.Size((4_000,)))
    exact, _ = model.exact(x)
    torch.testing.assert_close(t.loc, exact, rtol=1e-6, atol=1e-6)
    scaled = t.axes * t.curvature.sqrt().unsqueeze(1)
    found = (scaled @ scaled.mT) / (t.scale.unsqueeze(-1) * t.scale.unsqueeze(-2))
    torch.testing.assert_close(found, precision.expand(5, 3, 3), rtol=1e-6, atol=1e-6)
    marginal = MultivariateNormal(torch.zeros(3, **torch64), model.w @ model.w.T + 0.25 * torch.eye(3, **torch64))
    torch.testing.assert_close(evidence, marginal.log_prob(x), rtol=0, atol=0.03)
    shape = torch.linalg.inv(precision).numpy()
    oracle = [
        scipy.stats.multivariate_t(m.numpy(), shape, df=10).logpdf(z) for m, z in zip(exact, draws[0], strict=True)
    ]
    np.testing.assert_allclose(t.log_prob(draws[:1])[0], oracle, atol=1e-5)
    covariance = torch.stack([torch.cov(draws[:, i].T) for i in range(5)]).mean(0)
    torch.testing.assert_close(covariance, torch.linalg.inv(precision) * 10 / 8, rtol=0.1, atol=0.02)


@pytest.mark.parametrize("family", ["Planar", "InverseAutoregressive"])
def test_flows_have_gaps_whether_or_not_their_density_is_known_elsewhere(family):
    with engine.seeded(0):
        encoder = vk.Conditional(vk.networks.MLP((6,), (8,)), getattr(vk.posteriors, family)(2))
        decoder = vk.Conditional(vk.networks.MLP(2, (8,)), vk.likelihoods.Bernoulli((6,)))
        model = vk.VAE(encoder, decoder, vk.priors.StandardNormal(2))
    x = torch.bernoulli(torch.full((8, 6), 0.5), generator=seeded())
    gap = diagnostics(model, x, generator=seeded()).inference_gap
    side = torch.linspace(-6, 6, 201)
    z = torch.cartesian_prod(side, side).unsqueeze(1)
    with torch.no_grad():
        joint = model.likelihood(z).log_prob(x) + model.prior().log_prob(z)
        exact = float((torch.logsumexp(joint, 0) + 2 * math.log(float(side[1] - side[0]))).mean())
    assert gap.log_marginal.value == pytest.approx(exact, abs=0.01)
    assert gap.approximation.value == pytest.approx(exact - gap.best_elbo.value, abs=0.01)


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


def test_a_model_of_torchs_distributions_is_judged_as_one_of_ours():
    class Torchs(Linear):
        def posterior(self, x):
            return Independent(super().posterior(x).base, 1)

        def prior(self):
            return Independent(super().prior().base, 1)

    ours, torchs = (kind(weight(), shift=0.3, width=0.8) for kind in (Linear, Torchs))
    x = ours.sample(80)
    first, second = (diagnostics(model, x, num_gap_rows=16, generator=seeded()) for model in (ours, torchs))
    torch.testing.assert_close(second.kl_per_dimension, first.kl_per_dimension, rtol=1e-12, atol=1e-12)
    assert float(second.kl_per_dimension.sum()) == pytest.approx(second.rate.value)
    for name in ("rate", "distortion"):
        assert getattr(second, name).value == pytest.approx(getattr(first, name).value, rel=1e-9)
    assert second.inference_gap.approximation.value == pytest.approx(first.inference_gap.approximation.value, rel=1e-6)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 40.0])
def test_log_p_for_the_gaps_is_that_of_the_data_in_their_own_units(unit):
    """log p(x) = log p(y) - D log(unit): the same rows have the same log p in every row of an evaluation."""
    model = Linear(weight())
    y = model.sample(40)
    model.transform = vk.transforms.Scale(0, unit)
    found = vk.evaluation.evaluate(model, y * unit, num_samples=200, generator=seeded())
    covariance = model.w @ model.w.T + model.noise**2 * torch.eye(6, **torch64)
    truth = MultivariateNormal(torch.zeros(6, **torch64), covariance).log_prob(y).mean() - 6 * math.log(unit)
    of_gap = {name: found[f"diagnostics.inference_gap.{name}"].value for name in ("log_marginal", "elbo", "best_elbo")}
    assert of_gap["log_marginal"] == pytest.approx(float(truth), abs=0.05)
    assert found["iwae"].value == pytest.approx(float(truth), abs=0.05)
    assert of_gap["elbo"] == pytest.approx(found["elbo"].value, abs=0.15)
    assert of_gap["best_elbo"] == pytest.approx(found["elbo"].value, abs=0.15)
    assert [row.name for row in found.findings] == ["diagnostics.findings.healthy"]


def test_arguments():
    model = Linear(weight())
    with pytest.raises(DataError, match="at least 2"):
        diagnostics(model, model.sample(1))
    with pytest.raises(ConfigError, match="max_rows"):
        diagnostics(model, model.sample(5), max_rows=1)
    with pytest.raises(ConfigError, match="num_gap_rows"):
        diagnostics(model, model.sample(5), num_gap_rows=-1)


class Point(torch.nn.Module):
    """A normal model whose q is narrower than float32 can tell apart."""

    weight = torch.tensor([[1.0, 0.5], [-0.3, 0.8], [0.2, 0.1]])

    def prior(self):
        return Independent(Normal(torch.zeros(2), 1.0), 1)

    def likelihood(self, z):
        return Independent(Normal(z @ self.weight.T, 1.0), 1)

    def posterior(self, x):
        return Independent(Normal(x @ self.weight, torch.full((len(x), 2), 1e-12)), 1)


def test_the_evidence_of_a_q_whose_draws_do_not_differ_is_a_number():
    model, x = Point(), 3 + torch.randn(20, 3, generator=seeded())
    with engine.evaluating(model), engine.seeded(0):
        gap = inference_gap(model, x, num_steps=5)
    covariance = torch.eye(3) + model.weight @ model.weight.T
    exact = torch.distributions.MultivariateNormal(torch.zeros(3), covariance).log_prob(x).double().mean()
    assert gap.log_marginal.value == pytest.approx(float(exact), abs=0.3)  # mostly draws of the prior
