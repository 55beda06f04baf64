"""Annealed importance sampling: exact identities of the weights, closed forms, both bounds, units, manners."""

import math
import sys

import pytest
import torch
from known_models import Curve, LinearGaussian, small_vae
from torch.distributions import Bernoulli, Independent, Normal

import vaekit as vk
from vaekit import engine
from vaekit.bounds import log_mean_exp
from vaekit.errors import ConfigError, DataError, ShapeError
from vaekit.evaluation import Sandwich, ais, bdmc, log_marginal
from vaekit.evaluation.chains.ais import AnnealedBlock, Plan


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def nothing():
    pass


# --- The weights -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_steps", [1, 2, 4])
def test_weights_are_unbiased_in_both_directions(num_steps):
    """E[w] = p(x) and, from exact draws, E[1/w] = 1/p(x), however coarse the schedule: what makes both results bounds.

    With a wrong order of the temperatures, a missing move, a kernel that does not keep its target or a step size that
    looks at its own chain, one of them fails.
    """
    model, num_points = Curve(lambda z: torch.cat([z, 0.7 * z.sin()], -1), noise=1.5), 4_000
    with engine.seeded(1):
        z = model.prior().sample((num_points,))
        x = model.likelihood(z).sample()
        block = AnnealedBlock(model, x, Plan(4, num_steps, 3), nothing)
        (forward, rates), (reverse, _) = block.forward(), block.reverse(z)
    truth = model.log_prob(x)
    for log_weights, sign in ((forward, 1), (reverse, -1)):
        ratios = (log_weights - sign * truth).exp().mean(0)
        stderr = float(ratios.std() / math.sqrt(num_points))
        assert stderr < 0.03
        assert float(ratios.mean()) == pytest.approx(1, abs=4 * stderr)
        assert sign * float((sign * log_weights - truth).mean()) < -0.05, "each weight by itself is a loose bound"
    assert bool(rates.isnan().all()) == (num_steps == 1)


def test_one_step_is_importance_sampling_from_the_prior():
    model = LinearGaussian()
    x = model.sample(3)
    estimate = ais(model, x, num_steps=1, num_chains=50, generator=seeded())
    with engine.seeded(engine.block_seed(engine.draw_seed(seeded()), 0)):
        z = model.prior().sample((50, 3))
    torch.testing.assert_close(estimate.value, log_mean_exp(model.likelihood(z).log_prob(x)))
    assert bool(estimate.terms["acceptance"].isnan().all())


def test_agrees_with_the_closed_form_within_its_errors():
    model = LinearGaussian()
    x = model.sample(150)
    truth = model.log_prob(x)
    coarse = ais(model, x, num_steps=5, num_leapfrog=5, generator=seeded())
    fine = ais(model, x, num_steps=100, num_leapfrog=5, generator=seeded())
    assert abs(fine.mean - float(truth.mean())) < 0.05
    assert float((fine.value - truth).mean()) < 3 * fine.mean_stderr
    z = (fine.value - truth) / fine.stderr
    assert 0.7 < float(z.std()) < 1.5
    assert float((coarse.value - truth).mean()) < 10 * min(float((fine.value - truth).mean()), -0.01)
    assert (fine.method, fine.num_samples, fine.quantity, len(fine)) == ("ais", 16, "density", 150)
    assert bool(((fine.ess >= 1) & (fine.ess <= 16) & (fine.max_weight >= 1 / 16)).all())
    acceptance = fine.terms["acceptance"]
    assert float(acceptance.mean()) == pytest.approx(0.65, abs=0.05)
    assert float((acceptance - 0.65).abs().max()) < 0.15


@pytest.mark.parametrize("num_steps", [10, 60])
def test_short_schedules_are_tuned_as_well(num_steps):
    model = LinearGaussian(noise=0.1)
    estimate = ais(model, model.sample(20), num_steps=num_steps, generator=seeded())
    assert float(estimate.terms["acceptance"].mean()) == pytest.approx(0.65, abs=0.12)


def test_bits_agree_with_quadrature():
    class Bits(Curve):
        def likelihood(self, z):
            return Independent(Bernoulli(logits=torch.cat([4 * z, 1 - 3 * z, 5 * z.square() - 1], -1)), 1)

    x = torch.tensor([[a, b, c] for a in (0.0, 1.0) for b in (0.0, 1.0) for c in (0.0, 1.0)], dtype=torch.float64)
    model = Bits(None)
    truth = model.log_prob(x)
    assert float(truth.exp().sum()) == pytest.approx(1)
    estimate = ais(model, x, num_steps=60, num_chains=64, num_leapfrog=5, generator=seeded())
    assert estimate.quantity == "mass"
    torch.testing.assert_close(estimate.value, truth, atol=0.1, rtol=0)
    assert float(((estimate.value - truth) / estimate.stderr).abs().max()) < 4


def test_finds_the_mode_that_the_encoder_misses():
    """x = z^2 + noise at x = 4 has modes at +-2; q sits on one, and importance sampling is low by log 2, unaware."""

    class OneSided(Curve):
        def posterior(self, x):
            return Independent(Normal(x.sqrt(), 0.1), 1)

    model, x = OneSided(lambda z: z.square(), noise=0.3), torch.full((20, 1), 4.0, dtype=torch.float64)
    truth = float(model.log_prob(x).mean())
    assert log_marginal(model, x, num_samples=2_000).mean == pytest.approx(truth - math.log(2), abs=0.02)
    estimate = ais(model, x, num_steps=100, num_chains=32, num_leapfrog=5, generator=seeded())
    assert estimate.mean == pytest.approx(truth, abs=0.1)


def test_densities_that_are_zero_or_nan_somewhere():
    """x ~ N(z, 1) is cut to z < 1 (and spoilt to NaN beyond 2): log p(x) is that of the cut model."""

    class Cut(Normal):
        def log_prob(self, value):
            inside = torch.where(self.loc < 1, super().log_prob(value), -torch.inf)
            return torch.where(self.loc > 2, torch.nan, inside)

    class Model(Curve):
        def likelihood(self, z):
            return Independent(Cut(z, torch.ones_like(z), validate_args=False), 1)

    x = torch.tensor([[-1.0], [0.0], [2.0]], dtype=torch.float64).repeat(20, 1)
    posterior_mass = Normal(x[:, 0] / 2, math.sqrt(0.5)).cdf(torch.tensor(1.0))
    truth = Normal(0.0, math.sqrt(2)).log_prob(x[:, 0]) + posterior_mass.log()
    estimate = ais(Model(None), x, num_steps=40, num_leapfrog=5, generator=seeded())
    error = (estimate.value - truth).reshape(20, 3)
    assert float(error.mean(0).abs().max()) < 4 * float(error.std(0).max()) / math.sqrt(20)
    assert float(error.std()) < 0.3


# --- Both bounds -----------------------------------------------------------------------------------------------------


def test_bounds_enclose_the_closed_form_and_close_in():
    model = LinearGaussian()
    gaps = []
    for num_steps in (3, 12, 50):
        sandwich = bdmc(model, 250, num_steps=num_steps, num_leapfrog=5, num_chains=8, generator=seeded())
        truth = model.log_prob(sandwich.x)
        for estimate, side in ((sandwich.lower, -1), (sandwich.upper, 1)):
            error = side * (estimate.value - truth)
            assert float(error.mean()) > -3 * float(error.std()) / math.sqrt(250), (num_steps, estimate.method)
        gaps.append(sandwich.gap)
    assert gaps[0].value > 2 * gaps[1].value > 4 * gaps[2].value > 0
    assert gaps[2].value < 0.2
    assert isinstance(sandwich, Sandwich)
    assert (sandwich.lower.method, sandwich.upper.method) == ("ais", "reverse ais")
    assert len(sandwich) == 250
    differences = sandwich.upper.value - sandwich.lower.value
    assert sandwich.gap.value == pytest.approx(sandwich.upper.mean - sandwich.lower.mean)
    assert sandwich.gap.stderr == pytest.approx(float(differences.std()) / math.sqrt(250))
    assert "<= log p(x) <=" in repr(sandwich)


def test_simulated_points_follow_the_model():
    model = LinearGaussian()
    sandwich = bdmc(model, 4_000, num_steps=1, num_chains=1, generator=seeded())
    assert sandwich.x.shape == (4_000, 5)
    assert sandwich.z.shape == (4_000, 2)
    residual = (sandwich.x - model.likelihood(sandwich.z).mean) / model.noise
    for values in (residual, sandwich.z):
        assert float(values.mean()) == pytest.approx(0, abs=0.05)
        assert float(values.std()) == pytest.approx(1, abs=0.03)
    assert math.isnan(bdmc(model, 1, num_steps=2, num_chains=1).gap.stderr)


def test_reverse_from_exact_draws_bounds_from_above():
    """The same draw of p(z|x) for all chains: above in the mean, by less with more steps."""
    model = LinearGaussian()
    x = model.sample(300)
    with engine.seeded(5):
        z = model.posterior(x).sample()
    errors = []
    for num_steps in (4, 40):
        upper = ais(model, x, z=z, num_steps=num_steps, num_leapfrog=5, num_chains=8, generator=seeded())
        error = upper.value - model.log_prob(x)
        assert float(error.mean()) > -3 * float(error.std()) / math.sqrt(300)
        errors.append(float(error.mean()))
    assert errors[0] > 0.2 > errors[1]
    assert upper.method == "reverse ais"
    assert float(upper.terms["acceptance"].mean()) == pytest.approx(0.65, abs=0.05)


# --- Units -----------------------------------------------------------------------------------------------------------


def test_values_are_in_the_units_of_the_data():
    x = torch.randn(4, 6, generator=seeded()) * 7 + 3
    plain, inner = small_vae("normal", vk.transforms.Standardize(6).fit(x)), small_vae("normal")
    options = {"num_steps": 4, "num_leapfrog": 2}
    raw = ais(plain, x, generator=seeded(), **options)
    model_space = ais(inner, plain.transform(x), generator=seeded(), **options)
    shift = plain.transform.scale.log().sum().double()
    torch.testing.assert_close(raw.value, model_space.value - shift, atol=1e-4, rtol=0)
    sandwich = bdmc(plain, 4, generator=seeded(), **options)
    same = bdmc(inner, 4, generator=seeded(), **options)
    assert torch.equal(sandwich.x, same.x)
    assert torch.equal(sandwich.lower.value, same.lower.value)
    again = ais(inner, sandwich.x, z=sandwich.z, generator=seeded(), **options)
    assert again.value.shape == (4,)


def test_quantity_is_named_and_dequantised_data_have_no_bound_from_above():
    integers = torch.randint(0, 4, (3, 6), dtype=torch.uint8)
    model = small_vae("normal", vk.transforms.Dequantize(4))
    options = {"num_steps": 2, "num_leapfrog": 1, "num_chains": 2}
    assert ais(model, integers, **options).quantity == "bound on a mass"
    assert bdmc(model, 2, **options).lower.quantity == "density"
    with pytest.raises(ConfigError, match="Use bdmc"):
        ais(model, integers, z=torch.zeros(3, 2), **options)


def test_agrees_with_importance_sampling_on_a_network():
    model, x = small_vae().double(), torch.bernoulli(torch.full((10, 6), 0.4, dtype=torch.float64))
    weighted = log_marginal(model, x, num_samples=5_000, generator=seeded())
    annealed = ais(model, x, num_steps=160, generator=seeded())
    spread = (annealed.stderr.square() + weighted.stderr.square()).sqrt()
    assert float(((annealed.value - weighted.value) / spread).abs().max()) < 4
    assert float(spread.max()) < 0.06


# --- Manners ---------------------------------------------------------------------------------------------------------


def test_repeats_bit_for_bit_and_blocks_do_not_meet(monkeypatch):
    model, options = LinearGaussian(), {"num_steps": 4, "num_leapfrog": 2, "num_chains": 3}
    x, state = model.sample(7), torch.get_rng_state()
    first = ais(model, x, generator=seeded(), **options)
    assert torch.equal(first.value, ais(model, x, generator=seeded(), **options).value)
    pair = [bdmc(model, 5, generator=seeded(), **options) for _ in range(2)]
    assert torch.equal(pair[0].upper.value, pair[1].upper.value)
    assert torch.equal(pair[0].x, pair[1].x)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first.value, ais(model, x, generator=seeded(1), **options).value)
    monkeypatch.setattr(sys.modules["vaekit.evaluation.chains.ais"], "block_rows", lambda model, num_chains: 4)
    whole, other = ais(model, x, generator=seeded(), **options), x.clone()
    other[4:] += 5
    changed = ais(model, other, generator=seeded(), **options)
    assert torch.equal(whole.value[:4], changed.value[:4])
    assert not torch.equal(whole.value[4:], changed.value[4:])
    assert bdmc(model, 7, generator=seeded(), **options).z.shape == (7, 2)
    ais(model, x, **options)
    assert not torch.equal(state, torch.get_rng_state()), "without a generator the noise comes from torch's stream"


def test_no_pass_of_the_decoder_takes_more_than_a_block():
    model, largest = small_vae(dims=1_000), []
    decode = model.likelihood

    def count(z):
        largest.append(z.shape[:-1].numel())
        return decode(z)

    model.likelihood = count
    ais(model, torch.ones(100, 1_000), num_steps=2, num_leapfrog=1, generator=seeded())
    assert 900 < max(largest) <= 2**20 // 1_000
    largest.clear()
    ais(model, torch.ones(2, 1_000), num_chains=3_000, num_steps=2, num_leapfrog=1, generator=seeded())
    assert max(largest) == 3_000, "the chains of one point stay together"


@pytest.mark.parametrize("around", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_gradients_stay_inside(around):
    model, options = small_vae(), {"num_steps": 3, "num_leapfrog": 2}
    model.train()
    model.decoder.eval()
    with around():
        x = torch.ones(2, 6)
        estimate = ais(model, x, generator=seeded(), **options)
        reverse = ais(model, x, z=torch.zeros(2, 2), generator=seeded(), **options)
        bdmc(model, 2, generator=seeded(), **options)
    assert model.training
    assert not model.decoder.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not estimate.value.requires_grad
    assert torch.equal(estimate.value, ais(model, torch.ones(2, 6), generator=seeded(), **options).value)
    assert bool(reverse.value.isfinite().all())


def test_precision_and_dtype():
    x, options = torch.ones(3, 6), {"num_steps": 20, "num_leapfrog": 3}
    seen = []

    class Watch(torch.nn.Module):
        def forward(self, h):
            seen.append(h.dtype)
            return h

    model = small_vae()
    model.decoder.network.layers.append(Watch())
    narrow = ais(model, x, precision="bf16", generator=seeded(), **options)
    assert torch.bfloat16 in seen
    seen.clear()
    wide = ais(model.double(), x, generator=seeded(), **options)
    assert set(seen) == {torch.float64}
    assert wide.value.dtype == narrow.value.dtype == torch.float64
    assert float((wide.value - narrow.value).abs().max()) < 0.3


def test_a_bar_asked_for_stays_off_what_is_no_terminal(capsys):
    model, options = LinearGaussian(), {"num_steps": 3, "num_leapfrog": 1, "num_chains": 2}
    shown = ais(model, model.sample(2), progress=True, generator=seeded(), **options)
    assert torch.equal(shown.value, ais(model, model.sample(2), generator=seeded(), **options).value)
    bdmc(model, 2, progress=True, **options)
    assert capsys.readouterr() == ("", "")


def test_a_prior_per_row():
    """A conditioned prior has a batch shape of its own: z_b ~ N(c_b, 1), x ~ N(z, 1)."""
    centres = torch.tensor([[-2.0], [0.0], [3.0]], dtype=torch.float64)

    class Conditioned(Curve):
        def prior(self):
            return Independent(Normal(centres, torch.ones_like(centres)), 1)

    x = torch.zeros(3, 1, dtype=torch.float64)
    estimate = ais(Conditioned(lambda z: z), x, num_steps=40, num_chains=32, generator=seeded())
    truth = Normal(centres[:, 0], math.sqrt(2)).log_prob(x[:, 0])
    assert float((estimate.value - truth).abs().max()) < 0.15


def test_what_cannot_be_annealed_is_refused():
    model = LinearGaussian()
    x = model.sample(3)
    for name in ("num_chains", "num_steps", "num_leapfrog"):
        with pytest.raises(ConfigError, match=f"{name} is at least 1; got 0"):
            ais(model, x, **{name: 0})
    with pytest.raises(ConfigError, match="num_points is at least 1"):
        bdmc(model, 0)
    with pytest.raises(ShapeError, match=r"expected z of shape \(3, 2\), one exact posterior draw per row"):
        ais(model, x, z=torch.zeros(2, 2))
    with pytest.raises(DataError, match="NaN or infinite"):
        ais(model, x, z=torch.full((3, 2), torch.nan))
    with pytest.raises(ShapeError):
        ais(model, x[0])
    with pytest.raises(DataError, match="NaN"):
        ais(model, torch.full_like(x, torch.nan))
    model.prior = lambda: Independent(Bernoulli(torch.full((2,), 0.5, dtype=torch.float64)), 1)
    for run in (lambda: ais(model, x), lambda: bdmc(model, 3)):
        with pytest.raises(ConfigError, match=r"discrete\. Use log_marginal \(importance sampling\)"):
            run()
