"""Clusters as components of a prior: closed forms, errors of Monte Carlo, agreement with labels, runs and files."""

import itertools

import numpy as np
import pytest
import torch
from known_models import LinearGaussian, small_vae
from sklearn import metrics
from sklearn.datasets import make_blobs
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal

import vaekit as vk
from vaekit import engine, queries
from vaekit.distributions import Mixture, Product
from vaekit.distributions.mixtures import log_components
from vaekit.errors import ConfigError, DataError, ShapeError, SupportError

F64 = torch.float64


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


class LinearMixture(LinearGaussian):
    """z of a mixture of three normals, x ~ N(Wz + b, s^2 I): p(c|x) and p(z|x) are closed forms.

    q is the normal with the moments of p(z|x), wider by a factor, or p(z|x) itself.
    """

    def __init__(self, wider=1.5, exact=False, of_torch=False, noise=0.8):
        super().__init__(noise=noise)
        self.wider, self.exact, self.of_torch = wider, exact, of_torch
        self.weights = torch.tensor([0.5, 0.2, 0.3], dtype=F64)
        self.loc = torch.tensor([[-1.0, 0.5], [1.0, 0.0], [0.2, -1.2]], dtype=F64)
        self.scale = torch.tensor([[0.6, 0.4], [0.5, 0.9], [0.7, 0.5]], dtype=F64)

    def prior(self):
        if self.of_torch:
            normal = Independent(Normal(self.loc, self.scale), 1)
            return MixtureSameFamily(Categorical(self.weights), normal)
        return Mixture(self.weights.log(), Product(Normal(self.loc, self.scale, validate_args=False), 1))

    def of_component(self, x):
        """p(c|x), shape (N, 3); means of p(z|x, c), shape (N, 3, L), and their covariances, shape (3, L, L)."""
        eye = torch.eye(len(self.b), dtype=F64)
        covariance = self.w @ torch.diag_embed(self.scale**2) @ self.w.T + self.noise**2 * eye
        evidence = MultivariateNormal(self.loc @ self.w.T + self.b, covariance).log_prob(x.unsqueeze(1))
        precision = torch.diag_embed(self.scale**-2) + self.w.T @ self.w / self.noise**2
        shift = self.loc / self.scale**2 + ((x - self.b) @ self.w / self.noise**2).unsqueeze(1)
        inner = torch.linalg.inv(precision)
        return (evidence + self.weights.log()).softmax(1), torch.einsum("cij,ncj->nci", inner, shift), inner

    def posterior(self, x):
        p, loc, inner = self.of_component(x)
        if self.exact:
            return MixtureSameFamily(Categorical(p), MultivariateNormal(loc, inner.expand(len(x), -1, -1, -1)))
        mean = (p.unsqueeze(-1) * loc).sum(1)
        away = loc - mean.unsqueeze(1)
        spread = inner + away.unsqueeze(-1) * away.unsqueeze(-2)
        return MultivariateNormal(mean, self.wider**2 * (p[..., None, None] * spread).sum(1))


def quadrature(model, x):
    """E_q[p(c|z)] of each row on a grid of z, shape (N, 3)."""
    line = torch.linspace(-7, 7, 561, dtype=F64)
    z = torch.cartesian_prod(line, line)
    q = model.posterior(x).log_prob(z.unsqueeze(1)).exp() * (line[1] - line[0]) ** 2
    given_z = log_components(model.prior(), z).softmax(-1)
    return torch.einsum("gn,gc->nc", q, given_z)


# --- Closed forms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of_torch", [False, True])
def test_weighted_responsibilities_are_those_of_the_closed_form(of_torch):
    model = LinearMixture(of_torch=of_torch)
    x = model.sample(60)
    found = queries.clusters(model, x, 4_000, method="importance", generator=noise())
    exact = model.of_component(x)[0]
    assert float(exact.max(1).values.min()) < 0.7, "some rows are undecided, so that the weights matter"
    away = (found.probabilities - exact) / found.stderr
    assert float(away.abs().max()) < 4.5  # 180 numbers
    assert 0.8 < float(away.square().mean().sqrt()) < 1.2, "the errors are as large as they say"
    assert float(found.stderr.max()) < 0.02
    assert not bool(found.unreliable.any())


def test_responsibilities_of_q_are_its_mean_by_quadrature():
    model = LinearMixture(wider=1.5)
    x = model.sample(40)
    found = queries.clusters(model, x, 4_000, generator=noise())
    expected = quadrature(model, x)
    away = (found.probabilities - expected) / found.stderr
    assert float(away.abs().max()) < 4.5
    assert 0.8 < float(away.square().mean().sqrt()) < 1.2
    exact = model.of_component(x)[0]
    assert float((expected - exact).abs().max()) > 0.05, "q is too wide, which weights right and q alone does not"
    assert bool((found.ess.round() == 4_000).all())


def test_draws_of_the_exact_posterior_need_no_weights():
    model = LinearMixture(exact=True)
    x = model.sample(30)
    found = queries.clusters(model, x, 4_000, generator=noise())
    assert float(((found.probabilities - model.of_component(x)[0]) / found.stderr).abs().max()) < 4.5


@pytest.mark.parametrize("method", ["posterior", "importance"])
def test_rows_sum_to_one_and_are_answered_alike_alone(method):
    model = LinearMixture()
    x = model.sample(70)
    found = queries.clusters(model, x, 100, method=method, generator=noise(3))
    assert found.probabilities.shape == found.stderr.shape == (70, 3)
    torch.testing.assert_close(found.probabilities.sum(1), torch.ones(70, dtype=F64), rtol=0, atol=1e-12)
    alone = queries.clusters(model, x[66:67], 100, method=method, generator=noise(3))
    torch.testing.assert_close(alone.probabilities, found.probabilities[66:67], rtol=1e-9, atol=1e-12)
    assert found.cluster.tolist() == found.probabilities.argmax(1).tolist()
    assert found.sizes.tolist() == np.bincount(found.cluster, minlength=3).tolist()
    single = queries.clusters(model, x, 1, method=method)
    assert bool(single.stderr.isnan().all())


class Holed(LinearMixture):
    """It bears holes."""

    def posterior(self, x):
        return super().posterior(x.nan_to_num())

    def likelihood(self, z):
        return Product(super().likelihood(z).base, 1, missing="observed-only")


@pytest.mark.parametrize("method", ["posterior", "importance"])
def test_a_row_of_holes_has_the_weights_of_the_prior(method):
    model = Holed()
    x = torch.stack([torch.full((5,), torch.nan, dtype=F64), model.sample(1)[0]])
    found = queries.clusters(model, x, 5_000, method=method, generator=noise())
    assert float(((found.probabilities[0] - model.weights) / found.stderr[0]).abs().max()) < 4
    exact = model.of_component(x[1:])[0] if method == "importance" else quadrature(model, x[1:])
    assert float(((found.probabilities[1] - exact[0]) / found.stderr[1]).abs().max()) < 4


# --- Priors with components ------------------------------------------------------------------------------------------


def priors():
    with engine.seeded(0):
        parts = {
            "normal mixture": vk.priors.NormalMixture(3, num_components=4),
            "full": vk.priors.NormalMixture(3, num_components=4, covariance="full"),
            "vamp": vk.priors.VampPrior(3, num_pseudo_inputs=4, weights="learned"),
        }
        made = {name: vk.presets.vae((6,), latent_dim=3, hidden=(8,), prior=prior)[0] for name, prior in parts.items()}
        made["hierarchical vamp"] = vk.presets.hierarchical_vamp((6,), latent_dim=3, hidden=(8,), num_pseudo_inputs=4)[
            0
        ]
    return made


@pytest.mark.parametrize("name", priors())
def test_components_add_up_to_the_density(name):
    model = priors()[name].double()
    with engine.evaluating(model):
        prior = model.prior()
        z = prior.sample((2, 5))
        joint = log_components(prior, z)
    assert joint.shape == (2, 5, 4)
    torch.testing.assert_close(joint.logsumexp(-1), prior.log_prob(z))
    found = queries.clusters(model, torch.bernoulli(torch.full((9, 6), 0.5)), 20, generator=noise())
    assert found.probabilities.shape == (9, 4)


def test_components_of_an_expanded_mixture_keep_its_batch():
    mixture = LinearMixture().prior()
    z = mixture.sample((7,))
    wide = mixture.expand((7,))
    torch.testing.assert_close(wide.log_components(z), mixture.log_components(z))
    assert wide.log_components(z[0]).shape == (7, 3)


def test_the_rows_under_one_component_are_sure():
    found = queries.clusters(LinearMixture(), LinearMixture().b.unsqueeze(0), 5)
    assert found.num_samples == 5
    with engine.seeded(0):
        prior = vk.priors.NormalMixture(2, num_components=1)
        model, _ = vk.presets.vae((6,), latent_dim=2, hidden=(8,), prior=prior)
    assert queries.clusters(model, torch.zeros(3, 6), 5).probabilities.tolist() == [[1.0]] * 3


def test_errors_say_which_priors_have_components():
    with pytest.raises(ConfigError, match=r"components of a mixture prior.*vade, or prior=normal-mixture"):
        queries.clusters(small_vae(), torch.zeros(2, 6))
    with pytest.raises(ConfigError, match="components"):
        queries.clusters(vk.presets.ladder_vae((6,), hidden=(8,))[0], torch.zeros(2, 6))
    with pytest.raises(ConfigError, match='method is "posterior" or "importance"'):
        queries.clusters(LinearMixture(), torch.zeros(2, 5), method="exact")
    with pytest.raises(ConfigError, match="num_samples"):
        queries.clusters(LinearMixture(), torch.zeros(2, 5), 0)
    with pytest.raises(ShapeError):
        queries.clusters(LinearMixture(), torch.zeros(2, 4))
    with pytest.raises((DataError, SupportError)):
        queries.clusters(LinearMixture(), torch.full((2, 5), torch.nan))


# --- Agreement with labels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(3, 3), (3, 4), (4, 3)])
def test_accuracy_is_that_of_the_best_of_all_assignments(sizes):
    rng = np.random.default_rng(0)
    labels = rng.integers(sizes[0], size=60)
    found = np.where(rng.random(60) < 0.6, (labels + 1) % sizes[1], rng.integers(sizes[1], size=60))
    score = vk.evaluation.cluster_agreement(labels, found)
    width = max(sizes)
    every = [np.mean(np.array(order)[found] == labels) for order in itertools.permutations(range(width))]
    assert score.value == pytest.approx(max(every))
    assert score.stderr == pytest.approx((score.value * (1 - score.value) / 60) ** 0.5)
    assert score.details["nmi"] == pytest.approx(metrics.normalized_mutual_info_score(labels, found))
    assert score.details["ari"] == pytest.approx(metrics.adjusted_rand_score(labels, found))
    assert np.mean([score.details["assignment"].get(c) == y for c, y in zip(found, labels, strict=True)]) == score.value


def test_names_of_clusters_and_classes_do_not_matter():
    labels = np.array(["b", "a", "c", "a", "b", "c"], dtype=object)
    score = vk.evaluation.cluster_agreement(labels, torch.tensor([7, 2, 5, 2, 7, 5]))
    assert score.value == score.details["nmi"] == score.details["ari"] == 1
    assert score.details["assignment"] == {2: "a", 5: "c", 7: "b"}
    with pytest.raises(ShapeError, match="labels and clusters of shape"):
        vk.evaluation.cluster_agreement([0, 1], [0, 1, 1])
    with pytest.raises(DataError, match="no rows"):
        vk.evaluation.cluster_agreement([], [])


# --- Runs and files --------------------------------------------------------------------------------------------------


def blobs(rows=300):
    """Three balls far apart in four dimensions, and their numbers."""
    x, labels = make_blobs(rows, 4, centers=3, cluster_std=0.5, random_state=0)
    return x.astype(np.float64), labels
