"""The VAE: sampling, encoding, reconstruction, interpolation, in the units of the data, repeatably."""

import numpy as np
import pytest
import torch
from components import LIKELIHOODS, POSTERIORS, BernoulliPosterior, BernoulliPrior, prior_for
from torch import nn

from vaekit import VAE, Conditional, likelihoods, networks, posteriors, priors
from vaekit.errors import ConfigError, DataError, ShapeError, SupportError
from vaekit.models import View
from vaekit.transforms import Binarize, Compose, Dequantize, Logit, Scale, Standardize

F64 = torch.float64


def make(head=None, posterior=None, transform=None, network=None) -> VAE:
    head = head or likelihoods.Bernoulli((1, 4, 4))
    posterior = posterior or posteriors.DiagonalNormal(2)
    return VAE(
        encoder=Conditional(network or networks.MLP(head.event_shape, (8,), "tanh"), posterior),
        decoder=Conditional(networks.MLP(posterior.event_shape, (8,), "tanh"), head),
        prior=prior_for(posterior),
        transform=transform,
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- Composition -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_every_pair_of_likelihood_and_posterior_does_everything(likelihood, posterior, dtype):
    model = make(LIKELIHOODS[likelihood][-1]((1, 4, 4)), POSTERIORS[posterior][-1](2)).to(dtype)
    event = model.decoder.head.event_shape  # those of tables are flat
    x = model.sample(5, generator=generator())
    assert x.shape == (5, *event)
    for result, shape in (
        (model.encode(x), (5, *model.latent_shape)),
        (model.encode(x, mean=False), (5, *model.latent_shape)),
        (model.reconstruct(x), (5, *event)),
        (model.reconstruct(x, mean=False), (5, *event)),
        (model.interpolate(x[:2], x[2:4], 3), (2, 3, *event)),
        (model.sample(2, mean=True), (2, *event)),
    ):
        assert result.shape == shape
        assert result.dtype == dtype
        holes = result.isnan() if likelihood == "SelfMasked" else torch.tensor(False)  # which are draws of it
        assert (result.isfinite() | holes).all()
        assert not result.requires_grad


def test_the_parameters_are_those_of_q_and_those_of_p():
    model = make(likelihoods.Normal(3))
    q, p = list(model.posterior_parameters()), list(model.generative_parameters())
    assert {id(t) for t in q} == {id(t) for t in model.encoder.parameters()}
    assert {id(t) for t in q}.isdisjoint(id(t) for t in p)
    assert {id(t) for t in q + p} == {id(t) for t in model.parameters()}
    assert any(t is model.decoder.head.scale_parameter.raw for t in p)
    learned = VAE(
        Conditional(networks.MLP(3, (4,)), BernoulliPosterior(2)),
        Conditional(networks.MLP(2, (4,)), likelihoods.Normal(3)),
        BernoulliPrior((2,)),
    )
    assert any(t is learned.prior.logits for t in learned.generative_parameters())


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match=r"DiagonalNormal has events of shape \(3,\).*StandardNormal of shape \(2,\)"):
        VAE(
            Conditional(networks.MLP(5), posteriors.DiagonalNormal(3)),
            Conditional(networks.MLP(2), likelihoods.Normal(5)),
            priors.StandardNormal(2),
        )
    with pytest.raises(ShapeError, match=r"MLP takes events of shape \(5,\), but is given events of shape \(1, 4, 4\)"):
        make(network=networks.MLP(5, (8,)))


def test_parts_that_ask_for_it_are_told_which_model_they_belong_to():
    class Asking(priors.StandardNormal):
        def bind(self, model):
            self.seen = (model.encoder, model.decoder.adapter is not None)

    class AskingHead(posteriors.DiagonalNormal):
        def bind(self, model):
            self.seen = (model.prior, True)

    encoder = Conditional(networks.MLP(3, (4,)), AskingHead(2))
    decoder = Conditional(networks.MLP(2, (4,)), likelihoods.Normal(3))
    model = VAE(encoder, decoder, Asking(2))
    assert model.prior.seen == (model.encoder, True), "bound when the other parts are complete"
    assert model.encoder.head.seen == (model.prior, True)
    model.prior = Asking(2)
    model.bind()
    assert model.encoder.head.seen == (model.prior, True)


# --- Sampling --------------------------------------------------------------------------------------------------------


def test_samples_are_draws_and_means_only_on_request():
    model = make()
    draws = model.sample(200, generator=generator())
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    means = model.sample(200, mean=True, generator=generator())
    assert means.min() > 0
    assert means.max() < 1
    stderr = (means * (1 - means)).sum(0).sqrt()
    assert bool(((draws - means).sum(0).abs() < 5 * stderr).all())


def test_a_generator_repeats_and_leaves_the_global_stream_alone():
    model = make()
    x = model.sample(6, generator=generator())
    for draw in (
        lambda g: model.sample(6, generator=g),
        lambda g: model.encode(x, mean=False, generator=g),
        lambda g: model.reconstruct(x, mean=False, generator=g),
        lambda g: model.decode(torch.zeros(6, 2), mean=False, generator=g),
    ):
        before = torch.get_rng_state()
        first = draw(generator(1))
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(first, draw(generator(1)))
        assert not torch.equal(first, draw(generator(2)))
    g = generator(1)
    assert not torch.equal(model.sample(6, generator=g), model.sample(6, generator=g))
    before = torch.get_rng_state()
    assert not torch.equal(model.sample(6), model.sample(6))  # without one, torch's own stream
    assert not torch.equal(torch.get_rng_state(), before)


def test_more_rows_than_one_pass_holds():
    model = make()
    x = model.sample(2500, generator=generator())
    codes = model.encode(x)
    assert codes.shape == (2500, 2)
    torch.testing.assert_close(codes[2048:], model.encode(x[2048:]))
    assert model.sample(0).shape == (0, 1, 4, 4)


# --- Encoding --------------------------------------------------------------------------------------------------------


def test_codes_are_means_twice_the_same_or_draws_on_request():
    model = make()
    x = model.sample(50, generator=generator())
    before = torch.get_rng_state()
    assert torch.equal(model.encode(x), model.encode(x))
    assert torch.equal(torch.get_rng_state(), before)
    with torch.no_grad():
        q = model.posterior(x)
    torch.testing.assert_close(model.encode(x), q.mean)
    draws = torch.stack([model.encode(x, mean=False) for _ in range(400)])
    assert not torch.equal(draws[0], draws[1])
    assert bool(((draws.mean(0) - q.mean).abs() < 5 * (q.variance / 400).sqrt()).all())


def test_the_mean_of_a_random_transform_repeats():
    model = make(likelihoods.Normal(3), transform=Dequantize(8))
    x = torch.randint(0, 8, (20, 3))
    assert torch.equal(model.encode(x), model.encode(x))
    assert torch.equal(model.reconstruct(x), model.reconstruct(x))
    assert torch.equal(model.encode(x), model.encode(x, generator=generator(5))), "its noise belongs to the rows"
    assert not torch.equal(model.encode(x), model.encode(View.of(model, x).under(5)))


def test_eval_mode_is_used_and_restored():
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
    model = make(network=network)
    model.train()
    network[3].eval()
    x = model.sample(12, generator=generator())
    statistics = network[2].running_mean.clone()
    with torch.no_grad():
        first = model.encode(x)
    assert torch.equal(first, model.encode(x))
    torch.testing.assert_close(first[3:4], model.encode(x[3:4]))  # no row depends on its neighbours
    model.reconstruct(x)
    assert torch.equal(network[2].running_mean, statistics)
    assert (model.training, network[2].training, network[3].training) == (True, True, False)


# --- Reconstruction and interpolation --------------------------------------------------------------------------------


def test_reconstruction_is_the_mean_at_the_mean_code():
    model = make()
    x = model.sample(7, generator=generator())
    with torch.no_grad():
        expected = model.likelihood(model.posterior(x).mean).mean
    torch.testing.assert_close(model.reconstruct(x), expected)
    torch.testing.assert_close(model.decode(model.encode(x)), expected)
    assert set(model.reconstruct(x, mean=False).unique().tolist()) <= {0.0, 1.0}


def test_interpolation_begins_and_ends_at_the_reconstructions():
    model = make()
    x = model.sample(6, generator=generator())
    lines = model.interpolate(x[:3], x[3:], num_steps=5)
    assert lines.shape == (3, 5, 1, 4, 4)
    torch.testing.assert_close(lines[:, 0], model.reconstruct(x[:3]))
    torch.testing.assert_close(lines[:, -1], model.reconstruct(x[3:]))
    middle = model.decode((model.encode(x[:3]) + model.encode(x[3:])) / 2)
    torch.testing.assert_close(lines[:, 2], middle)
    with pytest.raises(ShapeError, match="as many rows; got 3 and 2"):
        model.interpolate(x[:3], x[:2])


# --- Units -----------------------------------------------------------------------------------------------------------


def test_everything_is_in_the_units_of_the_data():
    data = torch.randn(500, 3, dtype=F64) * torch.tensor([1.0, 100.0, 0.01], dtype=F64) + 1000
    transform = Standardize(3).double().fit(data)
    bare = make(likelihoods.Normal(3, scale=0.1)).double()
    model = VAE(bare.encoder, bare.decoder, bare.prior, transform).double()
    x = data[:20]
    torch.testing.assert_close(model.encode(x), bare.encode(transform(x)))
    torch.testing.assert_close(model.reconstruct(x), transform.inverse(bare.reconstruct(transform(x))))
    sample = model.sample(9, generator=generator())
    torch.testing.assert_close(sample, transform.inverse(bare.sample(9, generator=generator())))
    assert bool((sample[:, 0] > 900).all())


def test_bytes_go_in_and_levels_come_out():
    x = torch.randint(0, 256, (6, 1, 4, 4), dtype=torch.uint8)
    model = make(likelihoods.Normal((1, 4, 4)), transform=Compose([Dequantize(256), Logit(0.01)]))
    sample = model.sample(30, generator=generator())
    assert torch.equal(sample, sample.round())
    assert bool(((sample >= 0) & (sample <= 255)).all())
    assert model.encode(x).shape == (6, 2)
    assert torch.equal(model.encode(x), model.encode(x.numpy()))
    bits = make(transform=Compose([Scale(0, 255), Binarize("fixed")]))
    assert bits.encode(x).shape == (6, 2)


# --- Bad input -------------------------------------------------------------------------------------------------------


def test_shapes_that_do_not_fit_come_with_the_way_out():
    model = make()
    with pytest.raises(ShapeError, match=r"shape \(N, 1, 4, 4\); got \(5, 4, 4\). Add the channel: x\[:, None\]"):
        model.encode(torch.zeros(5, 4, 4))
    with pytest.raises(ShapeError, match=r"got \(3,\). Add the batch dimension: x\[None\]"):
        make(likelihoods.Normal(3)).reconstruct(torch.zeros(3))
    with pytest.raises(ShapeError, match=r"got \(5, 16\)\.$"):
        model.encode(torch.zeros(5, 16))
    with pytest.raises(DataError, match="x has 0 rows"):
        model.encode(torch.zeros(0, 1, 4, 4))


def test_values_that_do_not_fit_come_with_the_way_out():
    model = make()
    with pytest.raises(SupportError, match=r"Bernoulli expects x in \{0, 1\}.*Binarise"):
        model.encode(torch.full((2, 1, 4, 4), 0.5))
    bad = torch.zeros(3, 1, 4, 4)
    bad[1, 0, 2, 3] = torch.nan
    with pytest.raises(DataError, match=r"1 values that are NaN or infinite, the first at \(1, 0, 2, 3\)"):
        model.encode(bad)
    with pytest.raises(DataError, match="expected numbers; got an array of dtype <U1"):
        model.encode(np.full((3, 1, 4, 4), "a"))


def test_a_posterior_without_a_mean_says_so():
    class Uneven(torch.distributions.Normal):
        @property
        def mean(self):
            raise NotImplementedError("no mean")

    class Head(posteriors.DiagonalNormal):
        def forward(self, params):
            product = super().forward(params)
            product.base.__class__ = Uneven
            return product

    model = make(posterior=Head(2))
    x = model.sample(3, generator=generator())
    with pytest.raises(ConfigError, match="the posterior, Uneven, has no mean to take as a code"):
        model.encode(x)
    assert model.encode(x, mean=False).shape == (3, 2)
