"""Mixtures and the priors made of them: densities against scipy, a model with known log p(x), pseudo-inputs."""

import copy

import numpy as np
import pytest
import torch
from components import BernoulliPosterior, whole
from scipy import special, stats
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal

import vaekit as vk
from vaekit import bounds, engine, kl
from vaekit.distributions import Mixture, Product, mixtures
from vaekit.errors import ConfigError, DataError, ShapeError

F64 = torch.float64


def normals(k=5, event=(3,), seed=0, scale=0.5):
    with engine.seeded(seed):
        loc = 2 * torch.randn(k, *event, dtype=F64)
        width = scale * torch.exp(0.3 * torch.randn(k, *event, dtype=F64))
        return torch.randn(k, dtype=F64), loc, width


# --- The distribution ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [(3,), (2, 2)])
def test_a_diagonal_mixture_has_the_density_of_scipy(event):
    logits, loc, scale = normals(event=event)
    d = Mixture(logits, Product(Normal(loc, scale), len(event)))
    z = torch.randn(4, 6, *event, dtype=F64)
    terms = stats.norm.logpdf(z.numpy()[:, :, None], loc.numpy(), scale.numpy()).reshape(4, 6, 5, -1).sum(-1)
    expected = special.logsumexp(terms + special.log_softmax(logits.numpy()), axis=-1)
    np.testing.assert_allclose(d.log_prob(z).numpy(), expected, rtol=1e-10)
    base = MixtureSameFamily(Categorical(logits=logits), Independent(Normal(loc, scale), len(event)))
    torch.testing.assert_close(d.mean, base.mean)
    torch.testing.assert_close(d.variance, base.variance)


def test_a_mixture_of_full_covariances_has_the_density_of_scipy():
    logits, loc, _ = normals(k=3)
    tril = torch.eye(3, dtype=F64) + 0.4 * torch.randn(3, 3, 3, dtype=F64).tril(-1)
    d = Mixture(logits, MultivariateNormal(loc, scale_tril=tril))
    z = torch.randn(7, 3, dtype=F64)
    weights = special.softmax(logits.numpy())
    parts = [w * stats.multivariate_normal.pdf(z, m, t @ t.T) for w, m, t in zip(weights, loc, tril, strict=True)]
    np.testing.assert_allclose(d.log_prob(z).exp().numpy(), sum(parts), rtol=1e-10)


def test_narrow_components_far_out_keep_their_density_in_float32():
    # (z - m)^2 / s^2 multiplied out in float32 would be off by tens of nats here.
    logits, loc, scale = normals(k=4, event=(40,), scale=1e-3)
    loc = loc.float().double()  # the question is how float32 computes, not how it rounds its arguments
    scale = scale.float().double()
    z = (loc + scale).float()
    wide = Mixture(logits, Product(Normal(loc, scale), 1)).log_prob(z.double())
    narrow = Mixture(logits.float(), Product(Normal(loc.float(), scale.float()), 1)).log_prob(z)
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow.double(), wide, atol=1e-3, rtol=1e-5)


def test_chunks_change_neither_densities_nor_gradients_nor_the_law_of_draws(monkeypatch):
    logits, loc, scale = normals()
    for components in (Product(Normal(loc, scale), 1), MultivariateNormal(loc, torch.diag_embed(scale**2))):
        z = torch.randn(50, 3, dtype=F64, requires_grad=True)
        d = Mixture(logits, components)
        whole_, (gradient,) = d.log_prob(z), torch.autograd.grad(d.log_prob(z).sum(), z)
        monkeypatch.setattr(mixtures, "_VALUES", 64)
        torch.testing.assert_close(d.log_prob(z), whole_)
        torch.testing.assert_close(torch.autograd.grad(d.log_prob(z).sum(), z)[0], gradient)
        with engine.seeded(1):
            draws = d.sample((20_000,))
        stderr = d.variance.sqrt() / 20_000**0.5
        assert bool(((draws.mean(0) - d.mean).abs() < 5 * stderr).all())
        monkeypatch.undo()


def test_components_are_drawn_by_their_weights():
    logits = torch.tensor([0.2, 0.0, 0.5, 0.3], dtype=F64).log()
    loc = torch.arange(4.0, dtype=F64)[:, None]
    with engine.seeded(0):
        z = Mixture(logits, Product(Normal(loc, torch.full_like(loc, 1e-3)), 1)).sample((40_000,)).round().long()
    counts = torch.bincount(z.flatten(), minlength=4) / 40_000
    np.testing.assert_allclose(counts.numpy(), [0.2, 0.0, 0.5, 0.3], atol=5 * 0.5 / 200)
    assert counts[1] == 0


def test_expansion_and_batches_broadcast():
    logits, loc, scale = normals()
    d = Mixture(logits, Product(Normal(loc, scale), 1))
    wide = d.expand((4, 2))
    assert wide.sample((3,)).shape == (3, 4, 2, 3)
    z = torch.randn(3, dtype=F64)
    torch.testing.assert_close(wide.log_prob(z), d.log_prob(z).expand(4, 2))
    with pytest.raises(ShapeError, match=r"components of batch shape \(K,\); got \(5,\) and \(2, 5\)"):
        Mixture(logits, Product(Normal(loc.expand(2, 5, 3), scale.expand(2, 5, 3)), 1))


# --- The learned mixture ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_a_mixture_starts_with_about_the_moments_of_the_standard_normal(covariance):
    with engine.seeded(0):
        p = vk.priors.NormalMixture(4, 2_000, covariance).double()()
    torch.testing.assert_close(p.mean, torch.zeros(4, dtype=F64), atol=0.1, rtol=0)
    torch.testing.assert_close(p.variance, torch.ones(4, dtype=F64), atol=0.1, rtol=0)


def test_assigned_parameters_are_those_of_the_density():
    rng = np.random.default_rng(0)
    weights, loc = np.array([0.3, 0.7]), rng.normal(size=(2, 3))
    root = rng.normal(size=(2, 3, 3))
    full = root @ root.transpose(0, 2, 1) + 0.1 * np.eye(3)
    prior = vk.priors.NormalMixture(3, 2, "full").double()
    prior.assign(*map(torch.from_numpy, (weights, loc, full)))
    z = rng.normal(size=(5, 3))
    parts = [w * stats.multivariate_normal.pdf(z, m, c) for w, m, c in zip(weights, loc, full, strict=True)]
    np.testing.assert_allclose(prior().log_prob(torch.from_numpy(z)).exp().detach().numpy(), sum(parts), rtol=1e-9)
    prior = vk.priors.NormalMixture(3, 2).double()
    variances = np.stack([np.diag(c) for c in full])
    prior.assign(*map(torch.from_numpy, (weights, loc, variances)))
    parts = [
        w * stats.multivariate_normal.pdf(z, m, np.diag(v)) for w, m, v in zip(weights, loc, variances, strict=True)
    ]
    np.testing.assert_allclose(prior().log_prob(torch.from_numpy(z)).exp().detach().numpy(), sum(parts), rtol=1e-9)
    with pytest.raises(ShapeError, match=r"expected weights, means and covariances of shape \(2,\), \(2, 3\)"):
        prior.assign(*map(torch.from_numpy, (weights, loc, root)))


def test_mixtures_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="at least 1 component"):
        vk.priors.NormalMixture(2, 0)
    with pytest.raises(ConfigError, match='"diagonal" or "full"; got \'tied\''):
        vk.priors.NormalMixture(2, covariance="tied")
    with pytest.raises(ShapeError, match="one dimension"):
        vk.priors.NormalMixture((2, 2), covariance="full")


# --- VampPrior -------------------------------------------------------------------------------------------------------


def vamp(k=4, head=None, transform=None, network=None, posterior=None, **arguments):
    """A model of five dimensions and two latents with a linear decoder, so that p(x) is a known mixture."""
    with engine.seeded(0):
        head = head or vk.likelihoods.Normal(5, scale=0.5)
        return vk.VAE(
            vk.Conditional(network or vk.networks.MLP(5, (8,), "tanh"), posterior or vk.posteriors.DiagonalNormal(2)),
            vk.Conditional(vk.networks.MLP(2, ()), head),
            vk.priors.VampPrior(2, num_pseudo_inputs=k, **arguments),
            transform,
        ).double()


def exact_log_prob(model, x):
    """log p(x) of a linear decoder with noise 1/2: a mixture of Gaussians in x."""
    q, linear = model.encoder(model.prior.points()), model.decoder.adapter.linear
    covariance = linear.weight @ torch.diag_embed(q.variance) @ linear.weight.T + 0.25 * torch.eye(5, dtype=F64)
    parts = MultivariateNormal(linear(q.mean), covariance)
    return MixtureSameFamily(Categorical(logits=model.prior().logits), parts).log_prob(x)


@pytest.mark.parametrize("weights", ["uniform", "learned"])
def test_bounds_hold_where_log_p_of_x_is_known(weights):
    model = vamp(weights=weights)
    if weights == "learned":
        model.prior.logits.data.copy_(torch.tensor([0.0, 1.0, -1.0, 0.5]))
    with torch.no_grad():
        model.encoder.adapter.linear.weight.mul_(3.0)  # components apart from each other
        x = model.sample(20, generator=torch.Generator().manual_seed(0))
        exact = exact_log_prob(model, x)
        estimate = vk.evaluation.log_marginal(model, x, num_samples=4_000, generator=torch.Generator().manual_seed(1))
        good = estimate.ess > 200  # an untrained q misses some points, which is no fault of the prior
        assert good.sum() >= 10
        assert bool(((estimate.value - exact).abs() < 5 * estimate.stderr + 1e-3)[good].all())
        with engine.seeded(2):
            elbo = bounds.elbo(model, x, 2_000)
    assert bool((elbo < exact + 0.05).all())
    assert float((exact - elbo).mean()) > 0.05


def test_the_prior_is_the_mean_of_the_posteriors_at_its_points():
    model = vamp(k=3)
    z = torch.randn(6, 2, dtype=F64)
    q = model.posterior(model.prior.points())
    expected = torch.logsumexp(q.log_prob(z[:, None]), 1) - np.log(3)
    torch.testing.assert_close(model.prior().log_prob(z), expected)


def test_it_works_with_other_posteriors_whose_density_is_known():
    for posterior in (vk.posteriors.FullNormal(2), BernoulliPosterior(2)):
        model = vamp(posterior=posterior)
        x = model.sample(6, generator=torch.Generator().manual_seed(0))
        value = vk.objectives.ELBO(kl="sampled")(model, x).value
        gradients = torch.autograd.grad(value, list(model.parameters()))
        assert all(g.isfinite().all() and g.abs().sum() > 0 for g in gradients)
        assert kl.kl_divergence(model.posterior(x), model.prior()) is None


def test_the_encoder_stays_the_encoders_and_pseudo_inputs_are_the_priors():
    model = vamp(weights="learned")
    assert {name for name, _ in model.prior.named_parameters()} == {"pseudo_inputs", "logits"}
    assert {key for key in model.state_dict() if "prior" in key} == {"prior.pseudo_inputs", "prior.logits"}
    generative = {id(p) for p in model.generative_parameters()}
    assert {id(p) for p in model.prior.parameters()} <= generative
    assert generative.isdisjoint(id(p) for p in model.encoder.parameters())
    gradients = torch.autograd.grad(model.prior().log_prob(torch.ones(2, dtype=F64)), list(model.encoder.parameters()))
    assert all(g.abs().sum() > 0 for g in gradients), "the prior moves the encoder too"


def test_copies_and_saved_models_have_their_own_encoder(tmp_path):
    model = vamp()
    z = torch.randn(5, 2, dtype=F64)
    before = model.prior().log_prob(z)
    twin = copy.deepcopy(model)
    vk.save(model, tmp_path)
    loaded = vk.load(tmp_path)
    torch.testing.assert_close(loaded.prior().log_prob(z), before, rtol=0, atol=0)
    with torch.no_grad():
        model.encoder.adapter.linear.bias.add_(1.0)
    assert not torch.allclose(model.prior().log_prob(z), before)
    torch.testing.assert_close(twin.prior().log_prob(z), before, rtol=0, atol=0)
    torch.testing.assert_close(loaded.prior().log_prob(z), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("head", "rows"),
    [
        (vk.likelihoods.Normal(5), torch.randn(4, 5, dtype=F64)),
        (vk.likelihoods.ContinuousBernoulli(5), torch.rand(4, 5, dtype=F64) * 0.9 + 0.05),
        (vk.likelihoods.DiscretizedLogistic(5, num_levels=100), torch.randint(3, 96, (4, 5)).to(F64)),
        (vk.likelihoods.Poisson(5), torch.randint(1, 5_000, (4, 5)).to(F64)),
        (vk.likelihoods.LogNormal(5), torch.rand(4, 5, dtype=F64) + 0.2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_pseudo_inputs_begin_at_rows_of_any_kind(head, rows):
    model = vamp(head=head)
    model.prior.initialize(rows)
    torch.testing.assert_close(model.prior.points(), rows)
    assert model.prior().log_prob(torch.zeros(2, dtype=F64)).isfinite()


def test_rows_of_bits_are_moved_a_little_way_in_so_that_they_can_move():
    model = vamp(head=vk.likelihoods.Bernoulli(5))
    bits = torch.bernoulli(torch.full((4, 5), 0.5))
    model.prior.initialize(bits)
    torch.testing.assert_close(model.prior.points(), 0.02 + 0.96 * bits.double())


def test_rows_go_through_the_transform_and_are_chosen_where_there_are_more():
    x = 100 + 7 * torch.randn(50, 5, dtype=F64)
    model = vamp(transform=vk.transforms.Standardize(5).fit(x))
    with engine.seeded(0):
        model.prior.initialize(x.numpy())
    back = model.transform.inverse(model.prior.points()).detach()
    assert len({int(i) for i in torch.cdist(back, x).argmin(1)}) == 4
    assert float(torch.cdist(back, x).amin(1).max()) < 1e-4
    with pytest.raises(DataError, match="4 pseudo-inputs need as many rows to begin at; got 3"):
        model.prior.initialize(x[:3])
    with pytest.raises(ShapeError, match="expected rows of shape"):
        model.prior.initialize(x[:, :2])


def test_the_prior_is_one_fixed_distribution_while_training():
    class Noisy(torch.nn.Module):
        in_shape, out_shape = (5,), (6,)

        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.BatchNorm1d(6), torch.nn.Dropout(0.5))

        def forward(self, x):
            return self.layers(x)

    model = vamp(network=Noisy()).train()
    z = torch.ones(2, dtype=F64)
    statistics = model.encoder.network.layers[1].running_mean.clone()
    first, second = model.prior().log_prob(z), model.prior().log_prob(z)
    assert torch.equal(first, second)
    assert torch.equal(model.encoder.network.layers[1].running_mean, statistics)
    assert all(m.training for m in model.modules())


def test_what_cannot_be_is_refused_with_the_way_out():
    with pytest.raises(ConfigError, match="Hand it to a VAE"):
        vk.priors.VampPrior(2, 5)()
    with pytest.raises(ConfigError, match="num_pseudo_inputs is at least 1"):
        vk.priors.VampPrior(2, num_pseudo_inputs=0)
    with pytest.raises(ConfigError, match='"uniform" or "learned"'):
        vk.priors.VampPrior(2, weights="none")
    with pytest.raises(ShapeError, match=r"pseudo-inputs have shape \(4,\), the model's data \(5,\)"):
        vamp(data_shape=4)
    model = vamp()
    with pytest.raises(ConfigError, match="factorised posterior and prior with a closed form"):
        vk.objectives.ELBO(free_bits=0.1)(model, torch.zeros(3, 5, dtype=F64))


def test_five_thousand_pseudo_inputs_train_and_evaluate_in_bounded_memory():
    model = whole(vk.priors.VampPrior(40, num_pseudo_inputs=5_000)).eval()
    with torch.no_grad():
        z = model.prior().sample((64, 64))
        values = model.prior().log_prob(z)  # 20 million pairs: 3 GB if all dimensions were held at once
    assert values.shape == (64, 64)
    assert values.isfinite().all()
