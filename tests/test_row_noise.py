"""Noise that belongs to a row: draws with keys, and the numbers of draws without."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from components import POSTERIORS, prior_for
from components import rows as table_rows
from known_models import LinearGaussian
from test_view import RANDOM, model_with, seeded, table

import vaekit as vk
from vaekit.distributions.base import from_noise, noise_shape
from vaekit.distributions.normal import UnitNormal
from vaekit.errors import ConfigError, ShapeError
from vaekit.models.draws import RowNoise, content_keys
from vaekit.models.view import View


def keyed(model, x, num_samples=70, seed=3, **options):
    return vk.evaluation.log_marginal(
        model, x, num_samples=num_samples, generator=seeded(seed), key=options.pop("key", "content"), **options
    )


KEYED = {
    "normal": {},
    "full": {"posterior": "full-normal"},
    "low rank": {"posterior": vk.posteriors.LowRankNormal(2, rank=1)},
    "flow": {"posterior": "planar"},
    "bits": {"posterior": "bernoulli", "prior": "bernoulli"},
}


def keyed_model(name):
    with vk.engine.seeded(5):
        model, _ = vk.presets.vae((3,), latent_dim=2, hidden=(8,), likelihood="normal", **KEYED[name])
    return model.eval()


@pytest.mark.parametrize("name", KEYED)
def test_a_row_scores_the_same_alone_and_among_others(name):
    model, x = keyed_model(name), torch.randn(70, 3)
    whole = keyed(model, x)
    order = torch.randperm(70)
    shuffled = keyed(model, x[order])
    alone = keyed(model, x[66:67])
    torch.testing.assert_close(shuffled.value, whole.value[order], atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(shuffled.ess, whole.ess[order], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(alone.value, whole.value[66:67], atol=2e-5, rtol=1e-5)
    chunked = keyed(model, x, chunk_size=5)
    torch.testing.assert_close(chunked.value, whole.value, atol=2e-5, rtol=1e-5)
    assert not torch.allclose(keyed(model, x, seed=4).value, whole.value, atol=1e-4)


@pytest.mark.parametrize("name", KEYED)
def test_the_first_draws_do_not_depend_on_how_many_follow(name):
    model, x = keyed_model(name), torch.randn(5, 3)
    few, many = (torch.cat([d.z for d in View.of(model, x).draws(k, seeded(), key="row")]) for k in (10, 130))
    assert many.shape[:2] == (130, 5)
    assert torch.equal(few, many[:10])
    assert len(many[:, 0].unique(dim=0)) > 3


def test_equal_rows_have_equal_noise_by_content_and_their_own_by_number():
    model, x = keyed_model("normal"), torch.zeros(3, 3)
    by_content, by_row = keyed(model, x).value, keyed(model, x, key="row").value
    torch.testing.assert_close(by_content, by_content[:1].expand(3))
    assert len(by_row.unique()) == 3
    integers = keyed(model, x, key=torch.tensor([1, 0, 2])).value
    torch.testing.assert_close(integers, by_row[[1, 0, 2]])


@pytest.mark.parametrize("key", ["content", "row"])
def test_keyed_estimates_are_right(key):
    """Against log p(x) in closed form: a linear model whose posterior is not exact; errors are those that they say."""
    model = LinearGaussian()
    x = model.sample(300)

    def wider(x):
        q = LinearGaussian.posterior(model, x)
        return torch.distributions.MultivariateNormal(q.loc, 1.5 * q.covariance_matrix)

    model.posterior = wider
    estimate = keyed(model, x, num_samples=500, key=key)
    z_scores = (estimate.value - model.log_prob(x)) / estimate.stderr
    assert float(z_scores.abs().max()) < 4.5
    assert abs(float(z_scores.mean())) < 0.2
    assert 0.85 < float(z_scores.std()) < 1.15


@pytest.mark.parametrize("name", RANDOM)
def test_the_noise_of_a_transform_belongs_to_the_row(name):
    model, x = model_with(RANDOM[name], "bernoulli" if name == "bits" else "normal"), table(20)
    whole, part = keyed(model, x), keyed(model, x[7:9])
    torch.testing.assert_close(part.value, whole.value[7:9], atol=2e-5, rtol=1e-5)


def test_a_posterior_that_draws_noise_of_its_own_is_asked_row_by_row():
    with vk.engine.seeded(0):
        model, _ = vk.presets.semi_amortized((3,), latent_dim=2, hidden=(8,), likelihood="normal", num_steps=2)
    x = torch.randn(6, 3)
    whole, part = keyed(model, x, 10), keyed(model, x[2:4], 10)
    torch.testing.assert_close(part.value, whole.value[2:4], atol=2e-5, rtol=1e-5)


def test_a_model_of_someone_else_is_drawn_row_by_row():
    inner = keyed_model("normal")
    foreign = SimpleNamespace(posterior=inner.posterior, prior=inner.prior, likelihood=inner.likelihood)
    x = torch.randn(6, 3)
    torch.testing.assert_close(keyed(foreign, x[2:4]).value, keyed(foreign, x).value[2:4], atol=2e-5, rtol=1e-5)


def test_without_a_key_nothing_changes():
    """Numbers of the first version: noise in blocks of 64 rows x 64 draws, each under a seed of its own."""
    model, x = keyed_model("normal"), torch.linspace(-2, 2, 210).reshape(70, 3)
    plain = vk.evaluation.log_marginal(model, x, num_samples=70, generator=seeded())
    some = [0, 1, 63, 64, 69]  # of both blocks of rows
    values = torch.tensor([-14.33978, -11.33356, -6.46788, -7.12281, -8.64099], dtype=torch.float64)
    errors = torch.tensor([0.17774, 0.77848, 0.21836, 0.25022, 0.37629], dtype=torch.float64)
    torch.testing.assert_close(plain.value[some], values, atol=1e-4, rtol=0)
    delta = ((70 / plain.ess[some] - 1) / 69).sqrt()
    torch.testing.assert_close(delta, errors, atol=1e-4, rtol=0)
    assert not torch.equal(plain.value, keyed(model, x, seed=0).value)


def test_keys_of_content():
    x = torch.tensor([[8.0, 0.0], [8.0, -0.0], [torch.nan, 1.0], [8.0, 1e-300]], dtype=torch.float64)
    keys = content_keys(x)
    assert keys[0] == keys[1], "zeros of either sign are one number"
    assert len(keys.unique()) == 3
    assert torch.equal(content_keys(x[:1].int()), keys[:1]), "integers and floats are one number"
    assert torch.equal(content_keys(x[:1].float()), keys[:1])
    assert content_keys(x).dtype == torch.int64


@pytest.mark.parametrize(
    "key",
    [
        "name",
        torch.tensor([0.5, 1.5]),
        torch.zeros(2, 1, dtype=torch.int64),
        torch.tensor([True, False]),
        np.array([True, False]),
        [True, False],
    ],
)
def test_an_unknown_key_is_refused(key):
    with pytest.raises(ConfigError, match='key is "row", "content" or integers'):
        keyed(keyed_model("normal"), torch.zeros(2, 3), key=key)


@pytest.mark.parametrize("key", [torch.tensor([7]), torch.tensor(7), [1, 2, 3]])
def test_each_row_has_a_key(key):
    """A single key for all rows would give them the same noise without a word."""
    with pytest.raises(ShapeError, match="key has one entry for each of 2 rows"):
        keyed(keyed_model("normal"), torch.zeros(2, 3), key=key)


def test_keys_may_be_any_integers():
    """Also a list or an array, which is not taken for a word."""
    model, x = keyed_model("normal"), torch.randn(2, 3, generator=seeded(4))
    wanted = keyed(model, x, key=torch.tensor([5, 9])).value
    assert torch.equal(keyed(model, x, key=[5, 9]).value, wanted)
    assert torch.equal(keyed(model, x, key=np.array([5, 9], dtype=np.int32)).value, wanted)
    assert not torch.equal(keyed(model, x, key=[5, 8]).value, wanted)


@pytest.mark.parametrize("key", ["row", "content", torch.arange(50, 100)])
def test_rows_chosen_by_number_bring_their_keys(key):
    """As those of a slice do, in the order in which they are asked for."""
    view = View.of(model_with(RANDOM["bits"], "bernoulli"), table())
    noise = RowNoise(key, 7, len(view))
    chosen, all_rows = torch.tensor([9, 2]), view.batch(slice(0, 10), noise)
    batch = view.batch(chosen, noise)
    assert torch.equal(batch.key, all_rows.key[chosen])
    assert torch.equal(batch.x, all_rows.x[chosen])


NOISY = [(n, f) for n, f in table_rows(POSTERIORS) if n in ("DiagonalNormal", "FullNormal", "LowRankNormal", "Planar")]


@pytest.mark.parametrize(("name", "make"), NOISY)
def test_given_noise_gives_draws_of_the_distribution(name, make):
    """Moments of draws from given noise are those of the distribution's own draws."""
    with vk.engine.seeded(0):
        head = make(3)
        q = head(0.5 * torch.randn(2, *head.param_shape))
    assert noise_shape(q) is not None
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((40_000, 2, *noise_shape(q))))
    with torch.no_grad():
        given, own = from_noise(q, noise), q.sample(torch.Size((40_000,)))
    assert given.shape == own.shape
    scale = own.std(0)
    assert float(((given.mean(0) - own.mean(0)) / scale).abs().max()) < 0.04
    covariances = [torch.cov(z[:, 0].T) for z in (given, own)]
    torch.testing.assert_close(*covariances, atol=0.04 * float(scale.square().max()), rtol=0.05)
    assert prior_for(head) is not None


class Half(torch.distributions.Normal):
    """|N(loc, scale)|: draws of its own, with the fields of a normal distribution."""

    def rsample(self, sample_shape=()):
        return super().rsample(sample_shape).abs()


class Turned(torch.distributions.Independent):
    """Draws of its own around those of a base that is made of noise."""

    def rsample(self, sample_shape=()):
        return -super().rsample(sample_shape)


class Shrunk(vk.distributions.LowRankNormal):
    """Inherits a way from noise to draws, and draws in another one."""

    def rsample(self, sample_shape=()):
        return 0.5 * super().rsample(sample_shape)


LOC, ONES = torch.zeros(2, 3), torch.ones(2, 3)


@pytest.mark.parametrize(
    "q",
    [
        Half(LOC, ONES),
        torch.distributions.Independent(Half(LOC, ONES), 1),
        vk.distributions.Product(Half(LOC, ONES), 1),
        Turned(torch.distributions.Normal(LOC, ONES), 1),
        Shrunk(LOC, ONES, ONES.unsqueeze(-1), 1),
    ],
    ids=["normal", "independent", "product", "around", "hook"],
)
def test_draws_of_a_subclass_are_its_own(q):
    """Noise that is given to the class above would pass by what the subclass does."""
    assert noise_shape(q) is None


def test_a_subclass_that_draws_as_the_class_above_keeps_its_noise():
    for kind in (vk.distributions.Normal, UnitNormal):
        q = kind(LOC, ONES, validate_args=False)
        noise = torch.randn(5, 2, 3)
        assert noise_shape(q) == ()
        assert torch.equal(from_noise(q, noise), noise)


def test_keys_do_not_pass_by_an_override():
    """q = p = |N(0, 1)|: log p(x) with keys and without agree."""
    half = SimpleNamespace(
        posterior=lambda x: torch.distributions.Independent(Half(torch.zeros(len(x), 1), 1.0), 1),
        prior=lambda: torch.distributions.Independent(Half(torch.zeros(1), 1.0), 1),
        likelihood=lambda z: torch.distributions.Independent(torch.distributions.Normal(z, 1.0), 1),
    )
    x = torch.full((1, 1), 2.0)
    plain = vk.evaluation.log_marginal(half, x, num_samples=20_000, generator=seeded()).value
    torch.testing.assert_close(keyed(half, x, num_samples=20_000).value, plain, atol=0.03, rtol=0)
