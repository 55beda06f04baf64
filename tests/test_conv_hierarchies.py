"""Layers of maps: densities by quadrature, the posterior relative to the prior, sharing, learning, files."""

import copy
import math

import pytest
import torch
from sklearn.datasets import load_digits

import vaekit as vk
from vaekit import bounds, engine
from vaekit.errors import ConfigError, ShapeError
from vaekit.networks.residual import Descent, ResidualBlock

F64 = torch.float64
MAPS = ((2, 4, 4), (3, 2, 2), (1, 2, 2))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make(maps=MAPS, shape=(1, 8, 8), channels=4, likelihood=vk.likelihoods.Bernoulli, seed=0):
    with engine.seeded(seed):
        return vk.VAE(
            vk.Conditional(vk.networks.ConvPyramid(shape, maps, channels), vk.posteriors.ConvLadder(maps, channels)),
            vk.Conditional(vk.networks.ConvTopDown(maps, shape, channels), likelihood(shape)),
            vk.priors.ConvHierarchical(maps, channels),
        ).double()


def plane(width=9.0, points=121):
    """A square grid over two latents of one element each, and its cell."""
    axis = torch.linspace(-width, width, points, dtype=F64)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).flatten(0, 1)
    return grid, float(axis[1] - axis[0]) ** 2


def bits(n=6, shape=(1, 8, 8)):
    return torch.bernoulli(torch.full((n, *shape), 0.3, dtype=F64), generator=generator())


def test_prior_and_posterior_are_normalised_and_bounds_hold_by_quadrature():
    model = make(((1, 1, 1), (1, 1, 1)), (1, 2, 2))
    grid, cell = plane()
    x = bits(5, (1, 2, 2))
    with torch.no_grad(), engine.seeded(0):
        assert abs(float(model.prior().log_prob(grid).exp().sum()) * cell - 1) < 1e-4
        density = model.posterior(x).log_prob(grid[:, None]).exp().sum(0) * cell
        torch.testing.assert_close(density, torch.ones(5, dtype=F64), atol=1e-4, rtol=0)
        joint = model.prior().log_prob(grid)[:, None] + model.likelihood(grid[:, None]).log_prob(x)
        exact = torch.logsumexp(joint, 0) + math.log(cell)
        weights = bounds.log_weights(model, x, 4_000)
    assert bool((weights.mean(0) < exact).all())
    error = (weights.exp() / weights.exp().mean(0)).std(0) / 4_000**0.5
    assert bool(((bounds.log_mean_exp(weights) - exact).abs() < 5 * error + 1e-3).all())


def test_the_posterior_is_the_prior_where_x_says_nothing():
    model = make()
    for estimate in model.encoder.head.estimates:
        torch.nn.init.zeros_(estimate[-1].weight)
        torch.nn.init.zeros_(estimate[-1].bias)
    z = model.prior().sample((3,))
    q = model.posterior(bits(3))
    torch.testing.assert_close(q.log_prob(z), model.prior().log_prob(z))
    assert not torch.allclose(q.log_prob(z), vk.priors.StandardNormal(z.shape[-1]).double()().log_prob(z))


def test_each_layer_sees_all_above_it():
    prior = make().prior
    sizes = prior.sizes
    z = torch.randn(1, sum(sizes), dtype=F64, requires_grad=True)
    lowest = prior().log_prob_per_layer(z)[..., 0].sum()
    (gradient,) = torch.autograd.grad(lowest, z)
    assert all(bool((part.abs() > 0).all()) for part in gradient.split(sizes, -1))
    top = prior().log_prob_per_layer(z)[..., 2].sum()
    (gradient,) = torch.autograd.grad(top, z)
    assert float(gradient[:, : sizes[0] + sizes[1]].abs().max()) == 0


def test_many_draws_at_once_are_those_one_by_one():
    model = make()
    x = bits(3)
    q = model.posterior(x)
    z = q.sample((4,))
    together = q.log_prob(z)
    rows = [[model.posterior(x[b : b + 1]).log_prob(z[k, b]) for b in range(3)] for k in range(4)]
    apart = torch.stack([torch.cat(row) for row in rows])
    torch.testing.assert_close(together, apart)
    torch.testing.assert_close(model.likelihood(z).log_prob(x)[1], model.likelihood(z[1]).log_prob(x))


def test_every_parameter_learns_and_belongs_to_one_half():
    model = make()
    x = bits(8)
    for objective in (vk.objectives.ELBO(), vk.objectives.STL(), vk.objectives.DReG(2)):
        gradients = torch.autograd.grad(objective(model, x).value, list(model.parameters()))
        for (name, _), gradient in zip(model.named_parameters(), gradients, strict=True):
            assert gradient.isfinite().all(), name
            assert gradient.abs().sum() > 0, name
    q, p = ({id(t) for t in half} for half in (model.posterior_parameters(), model.generative_parameters()))
    assert q.isdisjoint(p)
    assert {id(t) for t in model.prior.parameters()} <= p


def test_files_and_copies_keep_the_way_down(tmp_path):
    model = make()
    x, z = bits(4), torch.randn(48, dtype=F64)
    before = model.posterior(x).log_prob(z)
    twin = copy.deepcopy(model)
    vk.save(model, tmp_path)
    with torch.no_grad():
        model.prior.start.add_(1.0)
    assert not torch.allclose(model.posterior(x).log_prob(z), before)
    for other in (twin, vk.load(tmp_path)):
        torch.testing.assert_close(other.posterior(x).log_prob(z), before, rtol=0, atol=0)


def test_without_that_prior_the_layers_are_independent():
    model = make()
    model.prior = vk.priors.StandardNormal(model.latent_shape).double()
    model.bind()
    q, x = model.posterior(bits(2)), bits(2)
    z = torch.randn(2, 48, dtype=F64)
    moved = torch.cat([z[:, :-4], torch.randn(2, 4, dtype=F64)], -1)
    torch.testing.assert_close(q.log_prob_per_layer(z)[:, :2], q.log_prob_per_layer(moved)[:, :2])
    assert vk.objectives.ELBO()(model, x).value.isfinite()


def test_odd_sides_and_other_likelihoods():
    model = make(((2, 7, 4), (2, 3, 2)), (3, 13, 7), likelihood=vk.likelihoods.Normal)
    x = model.sample(4, generator=generator())
    assert x.shape == (4, 3, 13, 7)
    assert model.reconstruct(x).shape == x.shape
    flat = make(((2, 2, 2),), (6, 5))
    assert flat.sample(2, generator=generator()).shape == (2, 6, 5)


def test_maps_that_cannot_be_are_refused():
    with pytest.raises(ShapeError, match=r"maps do not grow.*got \(2, 2\) below \(4, 4\)"):
        vk.priors.ConvHierarchical(((1, 2, 2), (1, 4, 4)))
    with pytest.raises(ShapeError, match=r"a latent map of a convolutional network is \(C, H, W\)"):
        vk.priors.ConvHierarchical(((4,),))
    with pytest.raises(ShapeError, match="at least one latent map"):
        vk.posteriors.ConvLadder(())
    with pytest.raises(ConfigError, match="factorised posterior"):
        vk.objectives.ELBO(free_bits=0.1)(make(), bits(2))


def test_the_pieces_keep_their_shapes():
    h = torch.randn(2, 4, 3, 5, dtype=F64)
    assert ResidualBlock(4).double()(h).shape == h.shape
    step = Descent(4, (2, 3, 5), (6, 9)).double()
    z = torch.randn(7, 2, 30, dtype=F64)
    assert step(h, z).shape == (7, 2, 4, 6, 9)
    torch.testing.assert_close(step(h, z)[3, 1], step(h[1:], z[3, 1:])[0])


@pytest.mark.slow
def test_a_small_stack_trains_on_a_cpu():
    x = torch.from_numpy(load_digits().images > 7).float()[:, None]
    model = make(channels=16).float()
    objective = vk.objectives.ELBO(beta=vk.schedules.Linear(0.0, 1.0, 300))  # without, no layer comes into use
    trainer = vk.Trainer(
        max_epochs=15, batch_size=64, learning_rate=3e-3, progress=False, compile="off", precision="float32"
    )
    history = trainer.fit(model, objective, x[:1400], x[1400:])
    pixels = (x[:1400].mean(0) * 1400 + 1) / 1402  # the best that independent pixels can do
    alone = torch.distributions.Bernoulli(pixels).log_prob(x[1400:]).flatten(1).sum(1).mean()
    assert history["valid_elbo"][-1] > float(alone) + 2
