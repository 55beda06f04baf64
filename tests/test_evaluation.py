"""log p(x), ELBO and IWAE per point: closed forms, repetition, chunks, units."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

import vaekit as vk
from vaekit import engine
from vaekit.distributions import Product
from vaekit.errors import ConfigError, DataError, ShapeError, SupportError
from vaekit.evaluation import elbo, elbo_and_iwae, iwae, log_marginal
from vaekit.models import draws
from vaekit.models.view import View


class LinearGaussian:
    """A foreign model, no module: z ~ N(0, I), x ~ N(Wz + b, s^2 I), q(z|x) exact or wider by a factor."""

    def __init__(self, widen=1.0, dims=5, latent=2):
        generator = torch.Generator().manual_seed(1)
        self.w = torch.randn(dims, latent, generator=generator, dtype=torch.float64)
        self.b = torch.randn(dims, generator=generator, dtype=torch.float64)
        self.noise, self.widen = 0.5, widen
        precision = torch.eye(latent, dtype=torch.float64) + self.w.T @ self.w / self.noise**2
        self.covariance = torch.linalg.inv(precision)

    def posterior(self, x):
        mean = (x - self.b) @ self.w @ self.covariance / self.noise**2
        return MultivariateNormal(mean, self.widen * self.covariance)

    def prior(self):
        zero = torch.zeros(self.w.shape[1], dtype=torch.float64)
        return Product(Normal(zero, torch.ones_like(zero)), 1)

    def likelihood(self, z):
        return Product(Normal(z @ self.w.T + self.b, torch.tensor(self.noise, dtype=torch.float64)), 1)

    def log_prob(self, x):
        eye = torch.eye(len(self.b), dtype=torch.float64)
        return MultivariateNormal(self.b, self.w @ self.w.T + self.noise**2 * eye).log_prob(x)

    def sample(self, n):
        z = self.prior().sample((n,))
        return self.likelihood(z).sample()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_exact_posterior_gives_log_p_without_variance():
    model = LinearGaussian()
    x = model.sample(70)
    for estimate in (
        log_marginal(model, x, num_samples=3, generator=seeded()),
        iwae(model, x, num_samples=3, generator=seeded()),
        elbo(model, x, num_samples=3, kl="sampled", generator=seeded()),
    ):
        torch.testing.assert_close(estimate.value, model.log_prob(x), atol=1e-9, rtol=0)
        torch.testing.assert_close(estimate.ess, torch.full((70,), 3.0, dtype=torch.float64))
        assert float(estimate.stderr.max()) < 1e-7
        torch.testing.assert_close(estimate.max_weight, torch.full((70,), 1 / 3, dtype=torch.float64)) if (
            estimate.method != "elbo"
        ) else None


def test_bounds_are_ordered_and_errors_are_honest():
    """ELBO < IWAE_5 < IWAE_50 < log p(x) in the mean, and 2,000 estimates scatter as their standard errors say."""
    model = LinearGaussian(widen=1.5)
    x = model.sample(2_000)
    truth = model.log_prob(x)
    lower = elbo(model, x, num_samples=50, generator=seeded())
    bounds = [iwae(model, x, num_samples=k, generator=seeded(k)) for k in (5, 50)]
    gaps = [float((truth - e.value).mean()) for e in (lower, *bounds)]
    assert gaps[0] > gaps[1] > gaps[2] > -3 * bounds[1].mean_stderr
    precise = log_marginal(model, x, num_samples=2_000, generator=seeded())
    z = (precise.value - truth) / precise.stderr
    assert abs(float(z.mean())) < 4 / math.sqrt(2_000) + 0.1
    assert 0.93 < float((z.abs() < 1.96).double().mean()) < 0.97
    assert lower.mean_stderr == pytest.approx(float((lower.stderr**2).sum().sqrt()) / 2_000)


def test_stderr_of_the_elbo_is_that_of_a_mean():
    model = LinearGaussian(widen=1.5)
    x = model.sample(1).expand(2_000, -1)
    estimate = elbo(model, x, num_samples=20, generator=seeded())
    assert float(estimate.value.std()) == pytest.approx(float(estimate.stderr.square().mean().sqrt()), rel=0.06)
    torch.testing.assert_close(estimate.value, estimate.terms["log_likelihood"] - estimate.terms["kl"])


def small_vae(likelihood="bernoulli", transform=None, dims=6):
    with engine.seeded(3):
        return vk.presets.vae((dims,), latent_dim=2, hidden=(8,), likelihood=likelihood, transform=transform)[0]


def test_repeats_bit_for_bit_and_does_not_depend_on_chunks():
    model, x = small_vae(), torch.bernoulli(torch.full((150, 6), 0.4))
    state = torch.get_rng_state()
    first = log_marginal(model, x, num_samples=130, generator=seeded())
    again = log_marginal(model, x, num_samples=130, generator=seeded())
    assert torch.equal(first.value, again.value)
    assert torch.equal(first.stderr, again.stderr)
    assert torch.equal(state, torch.get_rng_state())
    for chunk in (1, 7, 64, 100_000):
        other = log_marginal(model, x, num_samples=130, generator=seeded(), chunk_size=chunk)
        torch.testing.assert_close(other.value, first.value, rtol=1e-5, atol=0)
    different = log_marginal(model, x, num_samples=130, generator=seeded(1))
    assert not torch.equal(first.value, different.value)
    state = torch.get_rng_state()
    log_marginal(model, x, num_samples=3)
    assert not torch.equal(state, torch.get_rng_state()), "without a generator the noise comes from torch's stream"


@pytest.mark.parametrize("k", [1, 63, 64, 65, 200])
def test_k_is_honoured_exactly(k):
    model = small_vae()
    counted, decode = [], model.likelihood

    def count(z):
        counted.append(z.shape[:-1].numel())
        return decode(z)

    model.likelihood = count
    x = torch.ones(3, 6)
    estimate = log_marginal(model, x, num_samples=k, generator=seeded())
    assert sum(counted) == 3 * k + 1, "one dry run, and K draws for each row"
    assert estimate.num_samples == k


@pytest.mark.parametrize("k", [64, 512, 513, 700, 1024])
def test_blocks_that_are_handed_over_together_hold_every_draw_once(k, monkeypatch):
    model, x = small_vae(), torch.bernoulli(torch.full((70, 6), 0.4))
    found = []
    for together in (1, 8):
        monkeypatch.setattr(draws, "_TOGETHER", together)
        with torch.no_grad(), engine.seeded(2):
            drawn = list(draws.blocks(View.of(model, x), draws.Sampling(k)))
        assert max(len(block.draws.log_weights) for block in drawn) == min(k, 64 * together)
        for field in ("log_likelihood", "log_prior", "log_posterior"):
            columns = [[getattr(b.draws, field) for b in drawn if b.rows.start == start] for start in (0, 64)]
            found.append(torch.cat([torch.cat(column) for column in columns], 1))
    assert found[0].shape == (k, 70)
    assert all(torch.equal(a, b) for a, b in zip(found[:3], found[3:], strict=True))
    assert len(found[0].unique(dim=0)) == k


def test_elbo_and_iwae_share_the_draws_of_log_marginal():
    model, x = small_vae(), torch.ones(2, 6)
    both = elbo_and_iwae(model, x, num_samples=64, generator=seeded())
    alone = log_marginal(model, x, num_samples=64, generator=seeded())
    torch.testing.assert_close(both[1].value, alone.value)
    torch.testing.assert_close(both[1].stderr, alone.stderr)


def test_one_draw_has_no_error_estimate():
    estimate = log_marginal(small_vae(), torch.ones(4, 6), num_samples=1, generator=seeded())
    assert bool(estimate.stderr.isnan().all())
    torch.testing.assert_close(estimate.ess, torch.ones(4, dtype=torch.float64))


def test_units_and_quantities():
    x = torch.randn(40, 6) * 7 + 3
    plain = small_vae("normal", vk.transforms.Standardize(6).fit(x))
    estimate = log_marginal(plain, x, num_samples=20, generator=seeded())
    inner = small_vae("normal")
    model_space = log_marginal(inner, plain.transform(x), num_samples=20, generator=seeded())
    shift = plain.transform.scale.log().sum().double()
    torch.testing.assert_close(estimate.value, model_space.value - shift, atol=1e-4, rtol=0)
    assert estimate.quantity == model_space.quantity == "density"

    integers = torch.randint(0, 4, (40, 6), dtype=torch.uint8)
    dequantized = small_vae("normal", vk.transforms.Dequantize(4))
    assert log_marginal(dequantized, integers, num_samples=2).quantity == "bound on a mass"
    chain = [vk.transforms.Scale(0, 3), vk.transforms.Binarize()]
    bits = small_vae("bernoulli", vk.transforms.Compose(chain))
    assert log_marginal(bits, integers, num_samples=2).quantity == "mass"
    grey = small_vae(vk.likelihoods.Bernoulli(6, grey=True), vk.transforms.Scale(0, 3))
    scaled = small_vae(vk.likelihoods.Bernoulli(6, grey=True))
    raw = log_marginal(grey, integers, num_samples=4, generator=seeded())
    assert raw.quantity == "no density"
    same = log_marginal(scaled, integers.float() / 3, num_samples=4, generator=seeded())
    torch.testing.assert_close(raw.value, same.value)


def test_float64_stays_float64_and_bf16_is_close():
    model = small_vae("normal").double()
    x = torch.randn(10, 6)
    wide = log_marginal(model, x, num_samples=50, generator=seeded())
    narrow = log_marginal(model.float(), x, num_samples=50, generator=seeded(), precision="bf16")
    assert wide.value.dtype == torch.float64
    assert float((wide.value - narrow.value).abs().max()) < 3


def test_evaluation_leaves_the_mode_and_batch_statistics_alone():
    model, _ = vk.presets.conv_vae((1, 8, 8), latent_dim=2, channels=(4,))
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    log_marginal(model, torch.ones(5, 1, 8, 8), num_samples=2)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_bad_input_is_refused():
    model = small_vae()
    with pytest.raises(SupportError, match=r"Bernoulli expects x in \{0, 1\}; got values in \[0, 0.99\]"):
        log_marginal(model, torch.tensor([[0, 0.99, 0, 0, 0, 0]]), num_samples=2)
    with pytest.raises(ShapeError, match="Add the batch dimension"):
        log_marginal(model, torch.zeros(6), num_samples=2)
    with pytest.raises(DataError, match="x has 0 rows"):
        log_marginal(model, torch.zeros(0, 6), num_samples=2)
    with pytest.raises(DataError, match="NaN"):
        log_marginal(model, torch.full((2, 6), torch.nan), num_samples=2)
    with pytest.raises(ConfigError, match="at least 1"):
        log_marginal(model, torch.zeros(2, 6), num_samples=0)
    with pytest.raises(ConfigError, match="no closed form"):
        elbo(_NoClosedForm(), torch.zeros(2, 5, dtype=torch.float64), kl="analytic")


class _NoClosedForm(LinearGaussian):
    def prior(self):
        zero = torch.zeros(2, dtype=torch.float64)
        return torch.distributions.Independent(torch.distributions.StudentT(5.0, zero), 1)


def test_the_mean_of_an_estimate_and_its_errors():
    model, x = small_vae(), torch.bernoulli(torch.full((30, 6), 0.4))
    lower = elbo(model, x, num_samples=20, generator=seeded())
    assert lower.sampling_stderr == pytest.approx(float(lower.value.std()) / math.sqrt(30))
    terms = lower.terms["log_likelihood"] - lower.terms["kl"]
    assert lower.mean == pytest.approx(float(terms.mean()))
    assert "Estimate(mean=" in repr(lower)
