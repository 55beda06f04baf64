"""Several stochastic layers: densities as products of conditionals, bounds where log p(x) is known, sharing, files."""

import copy
import math

import numpy as np
import pytest
import torch
from components import LIKELIHOODS
from scipy import stats
from torch.distributions import MultivariateNormal, Normal

import vaekit as vk
from vaekit import bounds, engine, kl
from vaekit.distributions import Ancestral, Mixture, Product
from vaekit.errors import ConfigError, ShapeError
from vaekit.training import fit_prior

F64 = torch.float64
SIZES = (3, 2, 1)
HEADS = {
    "bottom-up": lambda sizes=SIZES, hidden=(6,): vk.posteriors.BottomUp(sizes, hidden),
    "top-down": lambda sizes=SIZES, hidden=(6,): vk.posteriors.TopDown(sizes, hidden, width=5),
    "ladder": lambda sizes=SIZES, hidden=(6,): vk.posteriors.Ladder(sizes, hidden, width=5),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make(head, prior=None, likelihood=None, decoder=None, sizes=SIZES, seed=0):
    with engine.seeded(seed):
        likelihood = likelihood or vk.likelihoods.Normal(5, scale=0.5)
        return vk.VAE(
            vk.Conditional(vk.networks.MLP(likelihood.event_shape, (8,), "tanh"), head),
            vk.Conditional(decoder or vk.networks.MLP(sum(sizes), (8,), "tanh"), likelihood),
            prior or vk.priors.Hierarchical(sizes, (6,)),
        ).double()


# --- The distribution ------------------------------------------------------------------------------------------------


def chain(order):
    """Three linear layers of sizes 1, 2, 1, and the joint Gaussian that they are."""
    up = [torch.tensor([[1.0], [-2.0]], dtype=F64), torch.tensor([[0.5, 1.0]], dtype=F64)]  # z1 -> z2 -> z3
    down = [w.T for w in reversed(up)]
    maps = up if order == "up" else down

    def step(weight):
        def next_layer(z, state):
            return Product(Normal(z @ weight.T + 1.0, 0.5 * torch.ones((), dtype=F64), validate_args=False), 1), None

        return next_layer

    one = torch.ones(1, dtype=F64)
    d = Ancestral(Product(Normal(0.3 * one, 2 * one), 1), [step(w) for w in maps], (1, 2, 1), order)
    # x = A x + b + noise, x in the order of drawing.
    a = torch.zeros(4, 4, dtype=F64)
    a[1:3, 0:1], a[3:4, 1:3] = maps[0], maps[1]
    inverse = torch.linalg.inv(torch.eye(4, dtype=F64) - a)
    mean = inverse @ torch.tensor([0.3, 1.0, 1.0, 1.0], dtype=F64)
    covariance = inverse @ torch.diag(torch.tensor([4.0, 0.25, 0.25, 0.25], dtype=F64)) @ inverse.T
    layout = torch.tensor([0, 1, 2, 3] if order == "up" else [3, 1, 2, 0])
    return d, mean[layout], covariance[layout][:, layout]


@pytest.mark.parametrize("order", ["up", "down"])
def test_linear_layers_are_the_joint_gaussian(order):
    d, mean, covariance = chain(order)
    z = torch.randn(3, 5, 4, dtype=F64)
    expected = stats.multivariate_normal.logpdf(z.numpy(), mean.numpy(), covariance.numpy())
    np.testing.assert_allclose(d.log_prob(z).numpy(), expected, rtol=1e-10)
    torch.testing.assert_close(d.log_prob_per_layer(z).sum(-1), d.log_prob(z))
    torch.testing.assert_close(d.mean, mean)
    with engine.seeded(0):
        draws = d.sample((40_000,))
    assert bool(((draws.mean(0) - mean).abs() < 5 * (covariance.diagonal() / 40_000).sqrt()).all())
    np.testing.assert_allclose(torch.cov(draws.T).numpy(), covariance.numpy(), atol=0.04 * float(covariance.max()))


def test_the_state_reaches_later_steps_and_expansion_leaves_the_density_alone():
    def second(z, state):
        assert state is None
        return Product(Normal(z, torch.ones_like(z)), 1), z

    def third(z, state):  # z_1 depends on z_3 through the state
        return Product(Normal(z + 10 * state, 0.1 * torch.ones_like(z)), 1), None

    loc = torch.tensor([[0.0], [1.0]], dtype=F64)
    d = Ancestral(Product(Normal(loc, torch.ones_like(loc)), 1), [second, third], (1, 1, 1))
    z = torch.randn(4, 2, 3, dtype=F64)
    z1, z2, z3 = z.numpy().transpose(2, 0, 1)
    expected = stats.norm.logpdf(z3, loc[:, 0]) + stats.norm.logpdf(z2, z3) + stats.norm.logpdf(z1, z2 + 10 * z3, 0.1)
    np.testing.assert_allclose(d.log_prob(z).numpy(), expected, rtol=1e-10)
    wide = d.expand((4, 2))
    torch.testing.assert_close(wide.log_prob(z[0]), d.log_prob(z[0]).expand(4, 2))
    assert wide.rsample((3,)).shape == (3, 4, 2, 3)


def test_layers_that_do_not_fit_are_refused():
    d, _, _ = chain("up")
    with pytest.raises(ConfigError, match='"down" or "up"; got \'left\''):
        Ancestral(d.first, d.steps, (1, 2, 1), "left")
    with pytest.raises(ShapeError, match=r"3 layers need 2 steps and a first layer of shape \(1,\); got 1 and \(1,\)"):
        Ancestral(d.first, d.steps[:1], (1, 2, 1), "up")


# --- Posteriors and priors -------------------------------------------------------------------------------------------


def normal(params):
    """The oracle's reading of (mean, raw scale)."""
    loc, raw = params.detach().chunk(2, -1)
    return stats.norm(loc.numpy(), np.log1p((math.e - 1) * np.exp(raw.numpy())))


def test_each_density_is_the_product_of_its_conditionals():
    h, z = torch.randn(4, 5, dtype=F64), torch.randn(4, 6, dtype=F64)
    z1, z2, z3 = z.split(SIZES, -1)
    n1, n2, n3 = z1.numpy(), z2.numpy(), z3.numpy()
    head = HEADS["bottom-up"]().double()
    params = torch.randn(4, 6, dtype=F64)
    parts = (normal(params).logpdf(n1), normal(head.above[0](z1)).logpdf(n2), normal(head.above[1](z2)).logpdf(n3))
    expected = sum(part.sum(-1) for part in parts)
    np.testing.assert_allclose(head(params).log_prob(z).detach().numpy(), expected, rtol=1e-10)

    head = HEADS["top-down"]().double()
    given = [torch.cat([h, above], -1) for above in (z2, z3)]
    parts = (
        normal(head.top(h)).logpdf(n3),
        normal(head.below[1](given[1])).logpdf(n2),
        normal(head.below[0](given[0])).logpdf(n1),
    )
    expected = sum(part.sum(-1) for part in parts)
    np.testing.assert_allclose(head(h).log_prob(z).detach().numpy(), expected, rtol=1e-10)

    prior = vk.priors.Hierarchical(SIZES, (6,)).double()
    parts = (
        stats.norm.logpdf(n3),
        normal(prior.below[1](z3)).logpdf(n2),
        normal(prior.below[0](z2)).logpdf(n1),
    )
    expected = sum(part.sum(-1) for part in parts)
    np.testing.assert_allclose(prior().log_prob(z).detach().numpy(), expected, rtol=1e-10)


def test_the_ladder_multiplies_the_priors_conditional_with_what_it_saw():
    model = make(HEADS["ladder"]((1, 1)), sizes=(1, 1))
    head, prior = model.encoder.head, model.prior
    h, grid = torch.randn(5, dtype=F64), torch.linspace(-12, 12, 4_001, dtype=F64)[:, None]
    top = torch.tensor([0.7], dtype=F64)
    q = head(h)
    z = torch.cat([grid, top.expand(len(grid), 1)], -1)
    density = (q.log_prob(z) - q.first.log_prob(top)).exp().detach().numpy()  # of q(z_1 | z_2, x)
    product = np.exp(prior.conditional(0, top).log_prob(grid).detach().numpy())
    product = product * normal(head.estimates[0](h)).pdf(grid.numpy())[:, 0]
    product = product / (product.sum() * float(grid[1, 0] - grid[0, 0]))
    np.testing.assert_allclose(density, product, atol=1e-8)


def test_the_ladder_follows_an_exchanged_prior_and_stands_alone_under_any_other():
    model = make(HEADS["ladder"]())
    z, x = torch.randn(6, dtype=F64), torch.randn(1, 5, dtype=F64)
    before = model.posterior(x).log_prob(z)
    model.prior = vk.priors.Hierarchical(SIZES, (6,)).double()
    model.bind()
    assert not torch.allclose(model.posterior(x).log_prob(z), before)
    plain = make(HEADS["ladder"](), prior=vk.priors.StandardNormal(6))
    loose = copy.deepcopy(plain.encoder.head)
    loose._bound = ()
    torch.testing.assert_close(
        plain.posterior(x).log_prob(z), loose(plain.encoder.params(x)).log_prob(z), rtol=0, atol=0
    )


def test_copies_share_their_own_prior():
    model = make(HEADS["ladder"]())
    x, z = torch.randn(1, 5, dtype=F64), torch.randn(6, dtype=F64)
    twin, before = copy.deepcopy(model), model.posterior(x).log_prob(z)
    with torch.no_grad():
        model.prior.below[0].linear.bias.add_(1.0)
    assert not torch.allclose(model.posterior(x).log_prob(z), before)
    assert torch.equal(twin.posterior(x).log_prob(z), before)
    assert not [key for key in model.state_dict() if key.startswith("encoder") and "below" in key]


# --- Bounds ----------------------------------------------------------------------------------------------------------


def linear_hierarchy(kind):
    """Linear maps of fixed scales throughout, and the exact N(m, S) of x."""
    model = make(HEADS[kind](SIZES, ()), vk.priors.Hierarchical(SIZES, ()), decoder=vk.networks.MLP(6, ()))
    with torch.no_grad():
        for part, size in zip(model.prior.below, SIZES, strict=False):
            part.linear.weight[size:].zero_()
    z = torch.zeros(6, dtype=F64)
    maps, mean, covariance = model.prior.below, torch.zeros(1, dtype=F64), torch.eye(1, dtype=F64)
    for layer in (1, 0):  # the joint of (z_layer, ..., z_L), by one affine map at a time
        size, above = SIZES[layer], SIZES[layer + 1]
        weight, bias = maps[layer].linear.weight[:size], maps[layer].linear.bias
        scale = model.prior.conditional(layer, z[:above]).base.scale
        lift = torch.cat([torch.cat([weight, weight.new_zeros(size, len(mean) - above)], 1), torch.eye(len(mean))], 0)
        mean = torch.cat([weight @ mean[:above] + bias[:size], mean])
        covariance = lift @ covariance @ lift.T
        covariance[:size, :size] += torch.diag(scale**2)
    linear = model.decoder.adapter.linear
    noise = 0.25 * torch.eye(5, dtype=F64)
    return model, MultivariateNormal(linear(mean), linear.weight @ covariance @ linear.weight.T + noise)


def fit_encoder(model, x):
    """A few E steps: importance sampling needs a q that is near p(z|x)."""
    parameters = list(model.posterior_parameters())
    optimizer = torch.optim.Adam(parameters, lr=0.05)
    with engine.seeded(0):
        for _ in range(80):
            optimizer.zero_grad()
            (-bounds.iwae(model, x, 4).mean()).backward(inputs=parameters)
            optimizer.step()


@pytest.mark.parametrize("kind", HEADS)
def test_bounds_hold_on_a_linear_hierarchy(kind):
    model, exact = linear_hierarchy(kind)
    fit_encoder(model, exact.sample((128,)).detach())
    with torch.no_grad(), engine.seeded(0):
        x = exact.sample((40,))
        draws = model.sample(20_000, generator=generator())
        assert bool(((draws.mean(0) - exact.mean).abs() < 5 * exact.variance.sqrt() / 20_000**0.5).all())
        truth = exact.log_prob(x)
        weights = bounds.log_weights(model, x, 5_000)
        elbo, iwae = weights.mean(0), bounds.log_mean_exp(weights)
        error = (weights.exp() / weights.exp().mean(0)).std(0) / 5_000**0.5
        assert bool((elbo < truth).all())
        assert bool(((iwae - truth) < 5 * error + 0.02).all())
        assert float((truth - iwae).abs().median()) < 0.03, "and the weights average to p(x)"


@pytest.mark.parametrize("kind", HEADS)
def test_every_parameter_learns_and_files_keep_the_model(kind, tmp_path):
    model = make(HEADS[kind](), likelihood=vk.likelihoods.Bernoulli(5), decoder=None)
    x = torch.bernoulli(torch.full((16, 5), 0.5, dtype=F64), generator=generator())
    for objective in (vk.objectives.ELBO(), vk.objectives.IWAE(3), vk.objectives.STL(2), vk.objectives.DReG(3)):
        gradients = torch.autograd.grad(objective(model, x).value, list(model.parameters()))
        for (name, _), gradient in zip(model.named_parameters(), gradients, strict=True):
            assert gradient.isfinite().all(), name
            assert gradient.abs().sum() > 0, name
    vk.save(model, tmp_path)
    again = vk.load(tmp_path)
    first, second = (
        vk.evaluation.log_marginal(m, x, num_samples=20, generator=generator(), compile="off").value
        for m in (model, again)
    )
    assert torch.equal(first, second)


@pytest.mark.parametrize("kind", HEADS)
def test_everything_else_takes_hierarchies_as_they_are(kind):
    model = make(HEADS[kind](), likelihood=LIKELIHOODS["Bernoulli"][0](5)).float()
    x = model.sample(30, generator=generator())
    assert model.encode(x).shape == (30, 6)
    assert model.reconstruct(x).shape == (30, 5)
    found = vk.evaluation.diagnostics(model, x, num_gap_rows=0, generator=generator())
    assert math.isfinite(found.rate.value)
    assert found.kl_per_dimension is None
    assert float(found.aggregate.mutual_information.value) <= math.log(30) + 1e-3


def test_a_decoder_may_see_one_layer_or_all():
    network = vk.networks.Parts(vk.networks.MLP(3, (8,), "tanh"), SIZES)
    model = make(HEADS["ladder"](), decoder=network)
    z = torch.randn(4, 6, dtype=F64)
    other = torch.cat([z[:, :3], torch.randn(4, 3, dtype=F64)], -1)
    torch.testing.assert_close(model.likelihood(z).mean, model.likelihood(other).mean)
    upper = vk.networks.Parts(vk.networks.MLP(3, ()), SIZES, chosen=(1, 2)).double()
    torch.testing.assert_close(upper(z), z[:, 3:])
    with pytest.raises(ConfigError, match=r"places from 0 to 2; got \(3,\)"):
        vk.networks.Parts(vk.networks.MLP(3, ()), SIZES, chosen=(3,))


# --- A VampPrior at the top ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["top-down", "ladder"])
def test_a_vamp_prior_at_the_top_is_the_posteriors_own_first_factor(kind):
    prior = vk.priors.Hierarchical(SIZES, (6,), top=vk.priors.VampPrior(1, num_pseudo_inputs=4))
    model = make(HEADS[kind](), prior)
    p = model.prior()
    assert isinstance(p.first, Mixture)
    top = torch.randn(7, 1, dtype=F64)
    q = model.posterior(model.prior.top.points()).first
    torch.testing.assert_close(p.first.log_prob(top), torch.logsumexp(q.log_prob(top[:, None]), 1) - math.log(4))
    x = model.sample(6, generator=generator())
    gradients = torch.autograd.grad(vk.objectives.ELBO()(model, x).value, list(model.parameters()))
    assert all(g.isfinite().all() and g.abs().sum() > 0 for g in gradients)


def test_a_vamp_prior_at_the_top_needs_a_posterior_that_begins_there():
    prior = vk.priors.Hierarchical(SIZES, (6,), top=vk.priors.VampPrior(1, num_pseudo_inputs=4))
    with pytest.raises(ConfigError, match="one that begins at the top layer of that size, such as TopDown or Ladder"):
        make(HEADS["bottom-up"](), prior)
    with pytest.raises(ShapeError, match=r"the top layer has size 1, its prior events of shape \(2,\)"):
        vk.priors.Hierarchical(SIZES, top=vk.priors.StandardNormal(2))


# --- What is defined for other posteriors only -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", HEADS)
def test_what_needs_a_factorised_posterior_says_so(kind):
    model = make(HEADS[kind]())
    x = torch.zeros(4, 5, dtype=F64)
    assert kl.kl_divergence(model.posterior(x), model.prior()) is None
    with pytest.raises(ConfigError, match="factorised posterior and prior with a closed form"):
        vk.objectives.ELBO(free_bits=0.1)(model, x)
    with pytest.raises(ConfigError, match="defined for a factorised posterior.*got Ancestral"):
        vk.objectives.BetaTC()(model, x)
    with pytest.raises(ConfigError, match="closed form"):
        vk.objectives.ELBO(kl="analytic")(model, x)


def test_a_prior_cannot_be_exchanged_under_a_ladder():
    with pytest.raises(ConfigError, match=r"Ladder is made of the prior's own conditionals"):
        fit_prior(make(HEADS["ladder"]()), torch.zeros(4, 5))
    fitted = fit_prior(make(HEADS["top-down"]()), torch.zeros(20, 5), num_draws=200, generator=generator())
    assert fitted.prior.covariance == "full"
