"""Clusters as components of a prior: closed forms, errors of Monte Carlo, agreement with labels, runs and files."""

import csv
import itertools

import numpy as np
import pytest
import torch
from known_models import LinearGaussian, small_vae
from sklearn import metrics
from sklearn.datasets import make_blobs
from sklearn.mixture import GaussianMixture
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal

import vaekit as vk
from vaekit import cli, engine, queries
from vaekit.data import Dataset
from vaekit.distributions import Mixture, Product
from vaekit.distributions.mixtures import log_components
from vaekit.errors import ConfigError, DataError, ShapeError, SupportError
from vaekit.models.view import View
from vaekit.report.clusters import of_clusters
from vaekit.report.figures import Gallery
from vaekit.training import Callback, StartClusters
from vaekit.training.second_stage import fit_mixture

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
    found = queries.clusters(model, x, 2_000, method="importance", generator=noise())
    exact = model.of_component(x)[0]
    assert float(exact.max(1).values.min()) < 0.7, "some rows are undecided, so that the weights matter"
    away = (found.probabilities - exact) / found.stderr
    assert float(away.abs().max()) < 4.5  # 180 numbers
    assert 0.8 < float(away.square().mean().sqrt()) < 1.2, "the errors are as large as they say"
    assert float(found.stderr.max()) < 0.03
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


FIT = {"preset": "vade", "prior": "normal-mixture:num_components=3", "max_epochs": 30, "hidden": (32,), "latent_dim": 2}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_blobs_are_found_exactly(seed):
    x, labels = blobs()
    run = vk.runs.fit_rows(Dataset(x, kind="array"), {**FIT, "seed": seed, "compile": "off"})
    assert run.model.prior.num_components == 3
    table = run.clusters(Dataset(x, labels=labels, kind="array"))
    score = vk.evaluation.cluster_agreement(labels, table.values[:, 0])
    assert score.value == score.details["ari"] == 1
    assert float(table.values[:, 1:].max(1).mean()) > 0.99
    assert "accuracy 1.0000 ± 0.0000" in table.notes[-1]
    weighted = run.clusters(x[:50], 50, "importance")
    np.testing.assert_array_equal(weighted.values[:, 0], table.values[:50, 0])


def mixed(path):
    """A table of a number, a word and a count, in two groups."""
    rng = np.random.default_rng(0)
    group = rng.integers(2, size=240)
    numbers, counts = rng.normal(8 * group, 1.0), rng.poisson(3 + 40 * group)
    words = np.where(rng.random(240) < 0.95, np.array(["red", "blue"])[group], "green")
    lines = ["id,size,colour,visits,label"]
    for i in range(240):
        size = "" if i % 17 == 3 else f"{numbers[i]:.4f}"
        lines.append(f"u{i},{size},{words[i]},{counts[i]},{'ab'[group[i]]}")
    path.write_text("\n".join(lines) + "\n")
    return group


def test_a_table_of_several_kinds_is_clustered_by_the_command_line(tmp_path, capsys):
    group = mixed(tmp_path / "rows.csv")
    run, data = str(tmp_path / "run"), str(tmp_path / "rows.csv")
    asked = ["prior=normal-mixture:num_components=2", "latent_dim=2", "hidden=32", "max_epochs=40", "compile=off"]
    names = ["--key", "id", "--label", "label", "--quiet"]
    assert cli.run(["fit", data, "-o", run, "--preset", "vade", *asked, *names]) == 0
    assert cli.run(["encode", run, data, "--clusters", "-o", str(tmp_path / "c.csv")]) == 0
    said = capsys.readouterr().err
    assert "2 of 2 clusters have rows" in said
    assert "beside the labels of these rows: accuracy" in said
    rows = list(csv.reader((tmp_path / "c.csv").read_text().splitlines()))
    assert rows[0] == ["id", "cluster", "p_0", "p_1"]
    assert [row[0] for row in rows[1:]] == [f"u{i}" for i in range(240)]
    assert {row[1] for row in rows[1:]} == {"0", "1"}
    numbers = np.array([row[1:] for row in rows[1:]], dtype=np.float64)
    np.testing.assert_allclose(numbers[:, 1:].sum(1), 1, rtol=1e-12)
    assert (numbers[:, 0] == numbers[:, 1:].argmax(1)).all()
    assert vk.evaluation.cluster_agreement(group, numbers[:, 0].astype(int)).value > 0.98
    # What is saved answers as what was asked, in every format.
    table = vk.runs.open(run).clusters(data)
    np.testing.assert_array_equal(table.values, numbers)
    assert cli.run(["encode", run, data, "--clusters", "--weighted", "--num-samples", "30", "-o", f"{run}.npy"]) == 0
    assert np.load(f"{run}.npy").shape == (240, 3)
    assert "30 draws from p(z|x), by importance weights" in capsys.readouterr().err
    again = vk.runs.open(run).clusters(data, 30, "importance").to_frame("pandas")
    assert again["cluster"].dtype == np.int64


def test_clusters_go_neither_with_draws_nor_with_a_plain_prior(tmp_path, capsys):
    np.save(tmp_path / "x.npy", blobs(40)[0])
    run, data, out = str(tmp_path / "run"), str(tmp_path / "x.npy"), str(tmp_path / "c.csv")
    assert cli.run(["fit", data, "-o", run, "max_epochs=1", "hidden=4", "latent_dim=1", "--quiet"]) == 0
    for options, words in [
        (["--clusters"], "components of a mixture prior"),
        (["--clusters", "--draw"], "--clusters is a mean over draws of z"),
        (["--weighted"], "--weighted and --num-samples go with --clusters"),
        (["--num-samples", "3"], "go with --clusters"),
    ]:
        assert cli.run(["encode", run, data, *options, "-o", out]) == 2
        assert words in capsys.readouterr().err


def test_saved_and_loaded_models_answer_alike(tmp_path):
    with engine.seeded(0):
        model, _ = vk.presets.vade((4,), latent_dim=2, num_clusters=3, hidden=(8,), likelihood="normal")
    vk.save(model, tmp_path / "model")
    x = torch.randn(20, 4, generator=noise())
    first, second = (queries.clusters(m, x, generator=noise(1)) for m in (model, vk.load(tmp_path / "model")))
    assert torch.equal(first.probabilities, second.probabilities)
    assert torch.equal(first.stderr, second.stderr)


# --- The start -------------------------------------------------------------------------------------------------------


class Weights(Callback):
    """Keeps the weights that the first step begins with."""

    def __init__(self):
        self.begun = []

    def on_fit_start(self, loop):
        self.begun.append({name: tensor.clone() for name, tensor in loop.model.state_dict().items()})


def vade(seed=0):
    with engine.seeded(seed):
        return vk.presets.vade((4,), latent_dim=2, num_clusters=3, hidden=(16,), likelihood="normal")


def started(model, objective, x, **how):
    """The weights before and after the start."""
    before, after = Weights(), Weights()
    options = {"max_epochs": 5, "progress": False, "compile": "off", **how}
    callbacks = [before, StartClusters(max_epochs=10, num_starts=1), after]
    vk.Trainer(callbacks=callbacks, **options).fit(model, objective, x)
    return before.begun[0], after.begun[0]


def test_the_start_trains_both_networks_and_fits_the_mixture_to_the_codes():
    x = torch.from_numpy(blobs()[0]).float()
    model, objective = vade()
    before, after = started(model, objective, x)
    assert all(not torch.equal(before[name], after[name]) for name in before if not name.startswith("decoder.head"))
    model.load_state_dict(after)
    codes = model.encode(x).double()
    beside = GaussianMixture(3, covariance_type="diag", random_state=0, n_init=3).fit(codes.numpy())
    with torch.no_grad():
        spread = model.posterior(x).variance.mean(0)
        found = model.prior().components
    order = [int((found.mean - torch.from_numpy(loc)).norm(dim=1).argmin()) for loc in beside.means_]
    torch.testing.assert_close(found.mean[order].double(), torch.from_numpy(beside.means_), atol=0.01, rtol=0.01)
    wanted = torch.from_numpy(beside.covariances_) + spread
    torch.testing.assert_close(found.variance[order].double(), wanted, atol=0.0, rtol=0.2)  # the spread is drawn


def test_the_start_repeats_bit_for_bit_and_leaves_torchs_stream_alone():
    x = torch.from_numpy(blobs()[0]).float()
    state = torch.get_rng_state()
    first, second = (started(*vade(), x)[1] for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(state, torch.get_rng_state())
    other = started(*vade(), x, seed=1)[1]
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_other_priors_and_models_that_go_on_are_left_as_they_are(tmp_path):
    x = torch.from_numpy(blobs()[0]).float()
    model, objective = vk.presets.vae((4,), latent_dim=2, hidden=(8,), likelihood="normal")
    before, after = started(model, objective, x)
    assert all(torch.equal(before[name], after[name]) for name in before)
    rows = Dataset(x.double().numpy(), kind="array")
    run = vk.runs.fit_rows(rows, {**FIT, "max_epochs": 3, "compile": "off"})
    longer = vk.runs.fit_rows(rows, {**FIT, "max_epochs": 1, "learning_rate": 1e-12, "compile": "off"}, start=run)
    for name, tensor in run.model.state_dict().items():
        torch.testing.assert_close(longer.model.state_dict()[name], tensor, rtol=0, atol=1e-6)


class StopAt(Callback):
    """Asks to end before the first step, or after another one, as a signal does."""

    def __init__(self, step):
        self.step = step

    def on_fit_start(self, loop):
        loop.signal = None if self.step else "SIGINT"

    def on_step_end(self, loop):
        loop.signal = "SIGINT" if loop.step == self.step else None


@pytest.mark.parametrize("stop", [0, 2, 6])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, stop):
    x = torch.from_numpy(blobs()[0]).float()
    how = {"progress": False, "compile": "off", "max_epochs": 4, "batch_size": 100}
    start = StartClusters(max_epochs=3, num_starts=1)
    whole, objective = vade()
    vk.Trainer(callbacks=[start], **how).fit(whole, objective, x)
    cut, objective = vade()
    with pytest.raises(KeyboardInterrupt):
        vk.Trainer(callbacks=[StopAt(stop), start], **how).fit(cut, objective, x, run=tmp_path)
    again, objective = vade()
    vk.Trainer(callbacks=[start], **how).fit(again, objective, x, run=tmp_path, resume=True)
    found, expected = again.state_dict(), whole.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_counts_of_the_start_are_checked():
    for wrong in ({"max_epochs": 0}, {"num_starts": 0}):
        with pytest.raises(ConfigError):
            StartClusters(**wrong)
    with pytest.raises(DataError, match="at least twice as many draws"):
        fit_mixture(vk.priors.NormalMixture(2, num_components=30), torch.zeros(20, 2), 5)


# --- The report ------------------------------------------------------------------------------------------------------


def test_a_report_shows_sizes_and_members():
    x = (torch.rand(60, 1, 8, 8, generator=noise()) > 0.5).float()
    x[:30, :, :4] = 0
    with engine.seeded(0):
        model, objective = vk.presets.vade((1, 8, 8), latent_dim=2, num_clusters=3, hidden=(16,))
    started(model, objective, x)
    labels = np.repeat(["upper", "lower"], 30)
    options = {"title": "T", "config": {}, "records": [], "num_samples": 4}
    page = vk.report.build(model, x=x, labels=labels, **options)
    assert 'id="clusters"' in page
    assert "With one label for each cluster the clusters are right in" in page
    assert "rows of the data that are in it" in page


def test_a_report_has_no_clusters_without_components_or_with_hundreds():
    for prior, size in (("standard-normal", 0), (vk.priors.VampPrior(2, num_pseudo_inputs=31), 31)):
        model, _ = vk.presets.vae((1, 8, 8), latent_dim=2, hidden=(8,), prior=prior)
        assert queries.num_components(model) == size
        gallery = Gallery(View.of(model, torch.zeros(3, 1, 8, 8)), None, {}, 0)
        assert of_clusters(gallery, 0) is None
