"""Paired differences: against closed forms, and as a test that keeps its level."""

import math

import pytest
import torch
from torch.distributions import Normal

import vaekit as vk
from vaekit import engine
from vaekit.distributions import Product
from vaekit.errors import ConfigError
from vaekit.evaluation import compare


class Gaussian:
    """z ~ N(0, 1), x ~ N(z + shift, s^2), with the exact posterior: log p(x) has no Monte Carlo error."""

    def __init__(self, shift=0.0, noise=1.0, width=1.0):
        self.shift, self.noise, self.width = shift, noise, width

    def posterior(self, x):
        precision = 1 + 1 / self.noise**2
        mean = (x - self.shift) / self.noise**2 / precision
        return Product(Normal(mean, torch.full_like(mean, self.width * precision**-0.5)), 1)

    def prior(self):
        return Product(Normal(torch.zeros(1).double(), torch.ones(1).double()), 1)

    def likelihood(self, z):
        return Product(Normal(z + self.shift, torch.full_like(z, self.noise)), 1)

    def log_prob(self, x):
        return Normal(self.shift, math.sqrt(1 + self.noise**2)).log_prob(x).squeeze(-1)


def data(n, seed=0):
    return math.sqrt(2) * torch.randn(n, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_differences_are_those_of_the_closed_forms():
    x, good, bad = data(500), Gaussian(), Gaussian(shift=0.5)
    found = compare({"bad": bad, "good": good}, x, num_samples=3, generator=torch.Generator().manual_seed(0))
    assert list(found.estimates) == ["good", "bad"]
    (pair,) = found.differences
    exact = good.log_prob(x) - bad.log_prob(x)
    assert (pair.first, pair.second, pair.better) == ("good", "bad", "good")
    assert pair.value == pytest.approx(float(exact.mean()))
    assert pair.stderr == pytest.approx(float(exact.std()) / math.sqrt(500))
    assert pair.mean_stderr < 1e-7
    assert pair.p_value == pytest.approx(math.erfc(pair.value / pair.stderr / math.sqrt(2)))
    summary = found.summary()
    assert set(summary["models"]) == {"good", "bad"}
    assert summary["differences"][0]["better"] == "good"


def test_equal_models_are_called_different_no_more_often_than_the_level_says():
    """Both are off by the same amount to either side, so that the expected difference is 0: 200 repetitions."""
    verdicts = []
    for seed in range(200):
        found = compare([Gaussian(0.3), Gaussian(-0.3)], data(60, seed), num_samples=2)
        verdicts.append(found.differences[0].better is not None)
    assert 0.015 < sum(verdicts) / 200 < 0.09


def test_several_pairs_are_corrected_for_and_ordered():
    models = [Gaussian(shift) for shift in (1.0, 0.0, 0.4)]
    found = compare(models, data(400), num_samples=2)
    assert list(found.estimates) == ["1", "2", "0"]
    assert [(d.first, d.second) for d in found.differences] == [("1", "2"), ("1", "0"), ("2", "0")]
    assert all(d.value > 0 for d in found.differences)


def test_random_transforms_are_paired():
    """Two copies of one model differ by nothing but the draws of z: the bits that they see are the same."""
    with engine.seeded(0):
        model, _ = vk.presets.vae((40,), latent_dim=2, hidden=(8,), likelihood="bernoulli")
    model.transform = vk.transforms.Binarize("fresh")
    x = torch.rand(100, 40, generator=torch.Generator().manual_seed(0))
    (pair,) = compare([model, model], x, num_samples=20).differences
    assert pair.value == 0.0
    assert pair.better is None
    assert math.isnan(pair.p_value)


def test_different_quantities_are_refused():
    mass, _ = vk.presets.vae((4,), latent_dim=2, hidden=(4,), likelihood="bernoulli")
    density, _ = vk.presets.vae((4,), latent_dim=2, hidden=(4,), likelihood="normal")
    with pytest.raises(ConfigError, match="different things"):
        compare([mass, density], torch.zeros(5, 4))
    with pytest.raises(ConfigError, match="at least two"):
        compare([mass], torch.zeros(5, 4))
