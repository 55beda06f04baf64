"""Models that are conditioned on contexts: networks, the three methods, and how contexts come from data to batches."""

import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

import vaekit as vk
from vaekit import data, runs
from vaekit.conditional import Conditional
from vaekit.data import Dataset
from vaekit.data.by_schema import load_by_schema
from vaekit.data.contexts import contexts_found, contexts_of, with_contexts
from vaekit.distributions import Normal
from vaekit.distributions.enumerated import Enumerated
from vaekit.distributions.product import Product
from vaekit.errors import ConfigError, DataError, ShapeError
from vaekit.models import ConditionalVAE, View
from vaekit.networks import MLP, Concat, ContextInput, ConvDecoder, ConvEncoder, LinearPlus
from vaekit.networks.context import FiLM, Modulated


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_context_is_levels_one_by_one_numbers_standardised_and_what_is_missing():
    front = ContextInput((3, 0), holes=(0, 1), loc=(0.0, 10.0), scale=(1.0, 4.0))
    found = front(torch.tensor([[2.0, 14.0], [torch.nan, torch.nan]]))
    assert front.out_shape == (6,)
    expected = [[1.0, 0.0, 0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
    assert torch.equal(found, torch.tensor(expected))
    assert ContextInput((200,)).out_shape[0] < 20, "many levels are embedded"
    epoch = 1.7e9  # a number keeps its second in float64 until it is standardised
    clock = ContextInput((0,), loc=(epoch,), scale=(10.0,))
    assert clock(torch.tensor([[epoch + 5]], dtype=torch.float64)).item() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("context", "error", "said"),
    [
        ([[3.0, 0.0]], DataError, r"codes 0 ... 2 of levels; none was missing in the fit; row 0 has 3"),
        ([[1.0, 0.0], [0.5, 0.0]], DataError, "row 1 has 0.5"),
        ([[torch.nan, 0.0]], DataError, "none was missing in the fit; row 0 has nan"),
        ([[1.0, torch.inf]], DataError, "finite numbers, or NaN for unknown; row 0 has inf"),
        ([[1.0]], ShapeError, r"contexts have shape \(N, 2\) here"),
    ],
)
def test_a_context_that_the_model_does_not_know_is_refused(context, error, said):
    model, _ = vk.presets.conditional_vae(
        (4,), latent_dim=2, hidden=(4,), likelihood="normal", context=ContextInput((3, 0), holes=(1,))
    )
    with pytest.raises(error, match=said):
        View.of(model, torch.zeros(len(context), 4), context=torch.tensor(context))


def test_concat_puts_the_context_beside_a_vector_and_behind_the_planes_of_an_image():
    c = torch.tensor([[5.0, 6.0]])
    assert Concat(nn.Identity(), 2, 2)(torch.tensor([[1.0, 2.0]]), c).tolist() == [[1.0, 2.0, 5.0, 6.0]]
    x = torch.arange(4.0).reshape(1, 1, 2, 2)
    planes = Concat(nn.Identity(), (1, 2, 2), 2)(x, c)
    assert planes.shape == (1, 3, 2, 2)
    assert torch.equal(planes[:, :1], x)
    assert torch.equal(planes[0, 1:], torch.tensor([5.0, 6.0])[:, None, None].expand(2, 2, 2))
    assert Concat(ConvEncoder((3, 8, 8)), (8, 8), 2)(torch.zeros(2, 8, 8), torch.zeros(2, 2)).shape[0] == 2
    with pytest.raises(ConfigError, match=r"takes events of shape \(4,\) here; got \(3,\)"):
        Concat(MLP(3, (4,)), 2, 2)


def test_film_is_the_identity_at_first_and_scales_and_shifts_channels_then():
    film, h, c = FiLM(3, 2), torch.randn(4, 3, 5, generator=seeded()), torch.randn(4, 2, generator=seeded(1))
    assert torch.equal(film(h, c), h)
    nn.init.normal_(film.linear.weight, generator=seeded(2))
    gamma, beta = (c @ film.linear.weight.T).chunk(2, 1)
    torch.testing.assert_close(film(h, c), (1 + gamma)[:, :, None] * h + beta[:, :, None])


@pytest.mark.parametrize(
    "network",
    [
        MLP(6, (5, 4), dropout=0.5, context_dim=2),
        ConvEncoder((1, 8, 8), (4, 6), context_dim=2),
        ConvEncoder((1, 8, 8), (4, 6), batch_norm=False, context_dim=2),
        ConvDecoder(3, (1, 8, 8), (6, 4), context_dim=2),
    ],
    ids=["mlp", "conv", "conv-plain", "deconv"],
)
def test_a_modulated_network_has_a_film_in_front_of_each_activation(network):
    layers = network.layers if isinstance(network, MLP) else network.blocks
    assert isinstance(layers, Modulated)
    films = [i for i, layer in enumerate(layers) if isinstance(layer, FiLM)]
    assert len(films) == 2
    for i in films:
        assert not list(layers[i + 1].parameters()), "an activation follows"
        assert list(layers[i - 1].parameters()), "weights or a normalisation stand before"
    x, c = torch.randn(3, *network.in_shape, generator=seeded()), torch.randn(3, 2, generator=seeded(1))
    network.eval()
    before = network(x, c)
    for i in films:
        nn.init.normal_(layers[i].linear.weight)
    assert not torch.allclose(network(x, c), before)
    assert torch.allclose(network(x, c)[1:], network(x[1:], c[1:]), atol=1e-5), "a row has its own context"


def test_a_conditional_wants_the_context_that_its_network_takes():
    head = vk.posteriors.DiagonalNormal(2)
    conditional = Conditional(MLP(3, (4,), context_dim=5), head)
    assert conditional(torch.zeros(7, 4, 3), torch.zeros(4, 5)).batch_shape == (7, 4)
    assert conditional(torch.zeros(4, 3), torch.zeros(5)).batch_shape == (4,)
    with pytest.raises(ConfigError, match="MLP takes a context of 5 entries; got none"):
        conditional(torch.zeros(4, 3))
    with pytest.raises(ShapeError, match=r"takes contexts of shape \(4, 5\), one for each row; got \(3, 5\)"):
        conditional(torch.zeros(4, 3), torch.zeros(3, 5))
    plain = Conditional(MLP(3, (4,)), head)
    assert torch.equal(plain.params(torch.ones(2, 3)), plain.params(torch.ones(2, 3), torch.zeros(2, 5)))


def enumerated():
    loc, scale = torch.tensor([[[-1.0], [2.0]]] * 3).double(), torch.tensor([[[1.0], [0.5]]] * 3).double()
    log_probs = torch.tensor([[0.2, 0.8], [0.5, 0.5], [1.0, 0.0]]).double().log()
    return log_probs, loc, scale, Enumerated(log_probs, Product(Normal(loc, scale), 1))


def test_a_label_and_a_latent_together_have_the_density_of_both():
    log_probs, loc, scale, both = enumerated()
    assert (both.batch_shape, both.event_shape) == ((3,), (2,))
    z = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    mass = 0
    for label in range(2):
        value = torch.stack([torch.full_like(z, label), z], 1).unsqueeze(1)
        log_p = both.log_prob(value)
        expected = log_probs[:, label] + torch.distributions.Normal(loc[:, label, 0], scale[:, label, 0]).log_prob(
            z[:, None]
        )
        torch.testing.assert_close(log_p, expected)
        mass = mass + torch.trapezoid(log_p.exp(), z, dim=0)
    torch.testing.assert_close(mass, torch.ones(3).double(), atol=1e-7, rtol=0)


def test_draws_of_labels_and_latents_have_their_frequencies_and_moments():
    _, _, _, both = enumerated()
    with vk.engine.seeded(0):
        draws = both.sample((20_000,))
    assert draws.shape == (20_000, 3, 2)
    assert draws[..., 0].mean(0) == pytest.approx([0.8, 0.5, 0.0], abs=4 * 0.5 / math.sqrt(20_000))
    assert draws[..., 1].mean(0) == pytest.approx([0.2 * -1 + 0.8 * 2, 0.5, -1.0], abs=0.05)
    assert both.mean[:, 0].tolist() == [1.0, 0.0, 0.0]
    assert both.mean[:, 1].tolist() == pytest.approx([1.4, 0.5, -1.0])
    assert both.expand((4, 3)).sample().shape == (4, 3, 2)
    assert not both.has_rsample
    with pytest.raises(ShapeError, match="latents of that batch shape"):
        Enumerated(torch.zeros(3, 2), Product(Normal(torch.zeros(5, 1), torch.ones(5, 1)), 1))


def linear_model(conditions=("prior", "posterior", "likelihood")):
    """x = W z + b_y + noise, z ~ N(m_y, s_y), in float64: p(x|y) is normal and known."""
    with vk.engine.seeded(3):
        front = ContextInput((3,))
        size = front.out_shape[0]
        head = vk.likelihoods.Normal(4, scale=0.5)
        decoder = Conditional(Concat(LinearPlus((2 + size,), head.param_shape, ()), 2, size), head)
        encoder = Conditional(Concat(MLP(4 + size, (16,)), 4, size), vk.posteriors.FullNormal(2))
        prior = Conditional(MLP(size, (), context_dim=0), vk.posteriors.DiagonalNormal(2))
        own = prior if "prior" in conditions else vk.priors.StandardNormal(2)
        model = ConditionalVAE(encoder, decoder, own, front, proportions=(0.2, 0.5, 0.3)).double()
    return model.eval()


@pytest.fixture(scope="module")
def learned():
    """The linear model, whose encoder has learned rows of each label."""
    model = linear_model()
    optimizer = torch.optim.Adam(model.encoder.parameters(), lr=0.02)
    with vk.engine.seeded(5):
        for _ in range(300):
            labels = torch.randint(3, (100, 1)).double()
            given = model.given(labels)
            x = given.sample(100)
            loss = -vk.bounds.elbo(given, x).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def exact_log_p(model, x, label):
    """log p(x|y) of the linear model."""
    given = model.given(torch.tensor([float(label)]))
    prior = given.prior()
    mean, cov = prior.mean, torch.diag(prior.variance.reshape(-1))
    with torch.no_grad():
        at = given.likelihood(torch.eye(2).double()).mean - given.likelihood(torch.zeros(1, 2).double()).mean
        loc = given.likelihood(mean.reshape(1, 2)).mean[0]
    covariance = at.T @ cov @ at + 0.25 * torch.eye(4).double()
    return torch.distributions.MultivariateNormal(loc, covariance).log_prob(x)


@pytest.mark.parametrize("conditions", [("prior", "likelihood"), ("likelihood",)], ids=str)
@torch.no_grad()
def test_log_p_given_a_context_is_that_of_the_closed_form(conditions):
    model = linear_model(conditions)
    labels = torch.arange(12).double()[:, None] % 3
    x = model.given(labels).sample(12, generator=seeded())
    exact = torch.stack([exact_log_p(model, x[i], int(labels[i])) for i in range(12)])
    found = vk.evaluation.log_marginal(model, View.of(model, x, context=labels), num_samples=4000, generator=seeded())
    assert ((found.value - exact).abs() < 4 * found.stderr + 1e-3).all()
    again = vk.evaluation.log_marginal(model.given(labels), x, num_samples=4000, generator=seeded())
    assert torch.equal(found.value, again.value), "the model under contexts is the same question"


@torch.no_grad()
def test_log_p_without_a_context_sums_over_the_labels(learned):
    model = learned
    with vk.engine.seeded(0):
        x = model.sample(10)
    exact = torch.stack([exact_log_p(model, x, label) for label in range(3)], 1)
    exact = (exact + torch.tensor([0.2, 0.5, 0.3]).double().log()).logsumexp(1)
    found = vk.evaluation.log_marginal(model, x, num_samples=20_000, generator=seeded())
    assert ((found.value - exact).abs() < 4 * found.stderr + 1e-3).all()
    classified = vk.queries.classify(model, x, 4000, generator=seeded())
    good = ~classified.unreliable.any(1)
    assert good.sum() >= 7
    assert ((classified.log_p - exact).abs() < 4 * classified.log_p_stderr + 1e-3)[good].all()


def test_rows_under_their_contexts_are_what_each_is_alone():
    model = linear_model()
    labels = torch.tensor([[2.0], [0.0], [1.0]]).double()
    x = torch.randn(3, 4, generator=seeded(), dtype=torch.float64)
    given = model.given(labels)
    assert given.num_contexts == 3
    assert model.given(torch.tensor([1.0])).num_contexts is None
    for i in range(3):
        alone = given[i : i + 1]
        assert torch.allclose(alone.posterior(x[i : i + 1]).mean, given.posterior(x).mean[i])
        assert torch.allclose(model.given(labels[i]).encode(x[i : i + 1]), given.encode(x)[i])
        assert torch.allclose(alone.prior().mean, given.prior().mean[i])
    assert torch.allclose(given.reconstruct(x), View.of(model, x, context=labels).reconstruct())
    assert given.sample(3, generator=seeded()).shape == (3, 4)
    assert model.given(labels[0]).sample(7).shape == (7, 4)
    assert model.sample(7).shape == (7, 4)
    assert model.encode(x).shape == (3, 3), "label and z"


def test_many_samples_under_their_contexts_are_decoded_in_passes():
    model = linear_model()
    labels = torch.arange(2500).double()[:, None] % 3
    with torch.no_grad():
        means = torch.stack(
            [model.given(torch.tensor([float(c)])).sample(4000, generator=seeded()).mean(0) for c in range(3)]
        )
    x = model.given(labels).sample(2500, generator=seeded(1))
    for c in range(3):
        assert torch.allclose(x[labels[:, 0] == c].mean(0), means[c], atol=0.3)


def test_what_cannot_be_is_said():
    model = linear_model()
    x = torch.zeros(3, 4).double()
    with pytest.raises(ShapeError, match=r"contexts have shape \(B, 1\) for B rows"):
        model.given(torch.zeros(3, 2))
    with pytest.raises(ConfigError, match="under contexts of 3 rows has as many samples; got n = 5"):
        model.given(torch.zeros(3, 1)).sample(5)
    with pytest.raises(ShapeError, match="context has one entry for each of 3 rows"):
        View.of(model, x, context=torch.zeros(2, 1))
    plain, _ = vk.presets.vae((4,), latent_dim=2, hidden=(4,), likelihood="normal")
    with pytest.raises(ConfigError, match="given"):
        View.of(plain, torch.zeros(3, 4), context=torch.zeros(3, 1))
    with pytest.raises(ConfigError, match="conditioned on nothing"):
        vk.queries.classify(plain, torch.zeros(3, 4))
    several, _ = vk.presets.conditional_vae((4,), latent_dim=2, hidden=(4,), likelihood="normal", levels=(2, 0))
    with pytest.raises(ConfigError, match="describes x given a context, which was not handed over"):
        several.sample(2)
    with pytest.raises(ConfigError, match="the context is no single label"):
        vk.queries.classify(several, torch.zeros(3, 4))
    with pytest.raises(ConfigError, match="proportions are p"):
        vk.presets.conditional_vae(
            (4,), latent_dim=2, hidden=(4,), likelihood="normal", levels=(3,), proportions=(0.5, 0.5)
        )
    with pytest.raises(ConfigError, match="no part of the model takes a context"):
        ConditionalVAE(plain.encoder, plain.decoder, plain.prior, ContextInput((2,)))
    for words in ({"conditions": ("z",)}, {"conditioning": "add"}, {"networks": "rnn"}, {"conditions": ()}):
        with pytest.raises(ConfigError, match="are of"):
            vk.presets.conditional_vae((4,), latent_dim=2, likelihood="normal", **words)


@pytest.mark.parametrize("compile", ["off", pytest.param("on", marks=pytest.mark.slow)])
def test_training_under_contexts_learns_what_they_say(compile):
    """x is the context and noise: with it the bound nears the entropy of the noise, without it cannot."""
    labels = torch.arange(600)[:, None].float() % 3
    x = 3 * labels + 0.1 * torch.randn(600, 2, generator=seeded())
    with vk.engine.seeded(0):
        model, objective = vk.presets.conditional_vae(
            (2,), latent_dim=1, hidden=(16,), likelihood="normal", levels=(3,)
        )
    view = View.of(model, x, context=labels)
    trainer = vk.Trainer(max_epochs=60, batch_size=50, learning_rate=1e-2, compile=compile, progress=False)
    history = trainer.fit(model, objective, view)
    entropy = 2 * (0.5 * math.log(2 * math.pi * math.e) + math.log(0.1))
    assert history["train_elbo"][-1] > -entropy - 0.7
    drawn = model.given(torch.tensor([2.0])).sample(500, generator=seeded())
    assert drawn.mean(0).tolist() == pytest.approx([6.0, 6.0], abs=0.3)


@pytest.mark.parametrize(
    "how", [{}, {"conditioning": "film", "networks": "conv", "conditions": ("prior", "likelihood")}]
)
def test_a_saved_conditional_model_answers_as_before(tmp_path, how):
    with vk.engine.seeded(0):
        model, _ = vk.presets.conditional_vae(
            (1, 8, 8), latent_dim=2, hidden=(8,), context=ContextInput((3, 0), (0,), (0.0, 2.0), (1.0, 3.0)), **how
        )
    vk.save(model, tmp_path / "run")
    again = vk.load(tmp_path / "run")
    x, context = torch.zeros(4, 1, 8, 8), torch.tensor([[1.0, 4.0], [torch.nan, 2.0], [0.0, 0.0], [2.0, -1.0]])
    assert torch.equal(again.given(context).encode(x), model.eval().given(context).encode(x))


def test_labels_become_contexts_by_what_the_fit_met():
    rows = Dataset(np.zeros((4, 2)), np.array(["b", "a", "b", "c"]))
    schema = contexts_found(rows, "species")
    assert [column.name for column in schema.columns] == ["species"]
    assert contexts_of(schema, rows).tolist() == [[1.0], [0.0], [1.0], [2.0]]
    assert contexts_of(schema, Dataset(np.zeros((2, 2)))) is None
    with pytest.raises(DataError, match=r"row 1 of 'data' has the species 'z', which the fit never met; it knows 'a'"):
        contexts_of(schema, Dataset(np.zeros((2, 2)), np.array(["a", "z"])))
    with pytest.raises(DataError, match="has no labels, and a conditional model is one given something"):
        contexts_found(Dataset(np.zeros((2, 2))))
    with pytest.raises(DataError, match="all rows of 'data' have the label 1"):
        contexts_found(Dataset(np.zeros((2, 2)), np.array([1, 1])))
    part = with_contexts(rows, schema).take([3, 0])
    assert part.contexts.tolist() == [[2.0], [1.0]]


@pytest.fixture(scope="module")
def table():
    """Rows whose mean moves with a batch and an age, which some rows lack."""
    rng = np.random.default_rng(0)
    batch, age = rng.choice(["a", "b"], 300), np.where(rng.random(300) < 0.1, np.nan, rng.uniform(20, 60, 300))
    x = rng.normal(size=(300, 2)) + 5 * (batch == "b")[:, None] + np.nan_to_num(age, nan=40.0)[:, None]
    columns = {"u": x[:, 0], "v": x[:, 1], "batch": batch, "age": pa.array(age, from_pandas=True)}
    return pa.table(columns | {"kind": np.where(x[:, 0] > 40, "p", "q")})


@pytest.fixture(scope="module")
def table_run(table):
    how = data.Reading(context=("batch", "age"))
    return runs.fit_rows(load_by_schema(table, reading=how), {"latent_dim": 1, "seed": 0})


def test_columns_of_a_table_are_contexts_of_any_kind(table, table_run):
    rows = load_by_schema(table, label="kind", reading=data.Reading(context=("batch", "age")))
    assert rows.columns == ("u", "v")
    schema = contexts_found(rows, "kind")
    assert [(column.name, column.kind) for column in schema.columns] == [
        ("kind", "binary"),
        ("batch", "binary"),
        ("age", "continuous"),
    ]
    found = contexts_of(schema, rows)
    assert found[:, 1].tolist() == [float(name == "b") for name in table["batch"].to_pylist()]
    assert np.array_equal(found[:, 2], table["age"].to_numpy(), equal_nan=True)
    assert np.array_equal(with_contexts(rows, schema).take([5, 2]).contexts, found[[5, 2]], equal_nan=True)
    assert table_run.settings.preset == "conditional-vae"
    constant = table.append_column("site", pa.array(["x"] * 300))
    with pytest.raises(DataError, match="Column 'site' of 'frame' is constant, which says nothing of a row"):
        contexts_found(load_by_schema(constant, reading=data.Reading(context=("site",))))


def test_a_run_given_columns_scores_what_a_row_is_for_its_context(table, table_run):
    rows = table_run.rows(table)
    moved = table.set_column(2, "batch", pa.array(["b" if name == "a" else "a" for name in table["batch"].to_pylist()]))
    as_it_is, for_another = (table_run.score(each).values[:, 0] for each in (table, moved))
    assert np.median(as_it_is - for_another) > 2, "a shift of 5 standard deviations, of which z can tell a part"
    assert np.array_equal(table_run.score(rows).values[:, 0], as_it_is)
    p_values = table_run.detect(table).values[:, 1]
    assert 0 < (p_values <= 0.05).mean() < 0.12
    assert (table_run.detect(moved).values[:, 1] <= 0.05).mean() > 0.5
    drawn = table_run.sample(400, given={"batch": "b", "age": 30}, seed=1)
    assert drawn.values[:, :2].mean(0) == pytest.approx([35, 35], abs=0.6)
    assert drawn.front["age"].tolist() == [30.0] * 400
    unknown_age = table_run.sample(2, given={"batch": "b"})  # some rows of the fit lack it
    assert unknown_age.values.shape == (2, 3)


def test_what_a_run_given_columns_cannot_answer_is_said(table, table_run):
    with pytest.raises(DataError, match=r"has no column 'age' \(--context\)"):
        table_run.score(table.drop(["age"]))
    with pytest.raises(DataError, match=r"'c'"):
        table_run.score(table.set_column(2, "batch", pa.array(["c"] * 300)))
    with pytest.raises(ConfigError, match="batch is not given: --given batch=VALUE"):
        table_run.sample(2, given={"age": 30})
    with pytest.raises(ConfigError, match="--given NAME=VALUE"):
        table_run.sample(2)
    with pytest.raises(ConfigError, match="not one of a model given a single label"):
        table_run.classify(table)
    for preset, said in (("vae", "vae is given nothing"), ("m2", "m2 learns from one label")):
        with pytest.raises(ConfigError, match=said):
            runs.fit_rows(load_by_schema(table, reading=data.Reading(context=("batch",))), {"preset": preset})


@pytest.fixture(scope="module")
def digits_run():
    rows = data.load("digits:train").take(np.arange(400))
    given = {"preset": "conditional-vae", "max_epochs": 3, "hidden": (16,), "latent_dim": 2, "compile": "off"}
    return runs.fit_rows(rows, given)


def test_a_run_reads_contexts_with_its_rows(digits_run):
    rows = digits_run.rows("digits:test")
    assert rows.contexts.shape == (360, 1)
    scored = digits_run.score(rows, num_samples=10)
    assert "log_p is log p(x | label), by the label of each row" in scored.notes
    bare = Dataset(rows.x, value_range=rows.value_range, kind="image")
    assert any("all of its levels are summed over" in note for note in digits_run.score(bare, num_samples=10).notes)
    found = digits_run.classify(rows, num_samples=10)
    columns = list(found.to_dict())
    assert columns[:2] == ["row", "label"]
    assert columns[2:] == [f"p_{c}" for c in range(10)] + [f"stderr_{c}" for c in range(10)] + ["log_p"]
    assert found.values[:, :10].sum(1) == pytest.approx(1)
    assert digits_run.encode(rows).columns == ("z0", "z1")
    assert digits_run.encode(bare).columns == ("z0", "z1", "z2"), "label and z, where the label is unknown"
    results = digits_run.evaluate(digits_run.parts("digits:test"), num_samples=5)
    assert results["diagnostics.rate"].value > 0


def test_a_run_resumes_and_goes_on_under_its_contexts(tmp_path):
    words = {"preset": "conditional-vae", "max_epochs": 2, "hidden": (8,), "latent_dim": 2, "compile": "off"}
    runs.fit("digits", tmp_path / "a", words, progress=False)
    run = runs.open(tmp_path / "a")
    assert [column.name for column in run.data.context_schema.columns] == ["label"]
    assert run.config.metadata["temperature"] > 0
    assert runs.fit("digits", tmp_path / "a", words, progress=False, resume=True) is None
    runs.fit("digits", tmp_path / "b", {"max_epochs": 1}, progress=False, start=tmp_path / "a")
    assert runs.open(tmp_path / "b").model.num_labels == 10


@torch.no_grad()
def test_chains_and_annealing_know_contexts(learned):
    labels = torch.arange(6).double()[:, None] % 3
    x = learned.given(labels).sample(6, generator=seeded(2))
    exact = torch.stack([exact_log_p(learned, x[i], int(labels[i])) for i in range(6)])
    view = View.of(learned, x, context=labels)
    annealed = vk.evaluation.ais(learned, view, num_steps=60, num_leapfrog=5, generator=seeded())
    assert ((annealed.value - exact).abs() < 4 * annealed.stderr + 0.02).all()
    chains = vk.evaluation.hmc_posterior(learned, view, num_samples=100, num_warmup=60, generator=seeded())
    means = learned.given(labels).posterior(x).mean
    assert (chains.z.mean((0, 1)) - means).abs().max() < 0.5


def test_questions_about_cells_are_asked_under_the_context_of_each_row():
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 300)
    z = random.normal(size=300)
    frame = {"u": (5.0 * labels + z).round(3), "v": (z + 0.3 * random.normal(size=300)).round(3)}
    table = pa.table({**frame, "y": labels})
    holed = pa.table({"u": [None, None, 5.0], "v": [0.1, 0.1, None], "y": [0, 1, 1]})
    given = {"preset": "conditional-vae", "max_epochs": 60, "hidden": (16,), "latent_dim": 1, "compile": "off"}
    both = pa.concat_tables([table, holed.cast(table.schema)])
    run = runs.fit_rows(load_by_schema(both, label="y"), {**given, "learning_rate": 0.01}, label="y")
    partial = run.rows(holed)
    filled = run.impute(partial, num_samples=200)
    assert filled.values[0, 0] == pytest.approx(0, abs=1.5), "the label says where the other column lies"
    assert filled.values[1, 0] == pytest.approx(5, abs=1.5)
    again = run.impute(run.rows(holed.take([1])), num_samples=200)
    assert again.values[0, 0] == pytest.approx(filled.values[1, 0], abs=1e-4), "a row is answered as if it were alone"
    odd = run.score_elements(run.rows(pa.table({"u": [5.0, 5.0], "v": [0.0, 0.0], "y": [0, 1]})), num_samples=200)
    assert odd.values[0, 0] > odd.values[1, 0] + 3
    drawn = run.sample(50, given=partial.take([1]))
    assert drawn.values[:, 0].mean() == pytest.approx(5, abs=1)


def test_an_ensemble_of_conditional_models_is_refused_before_it_is_trained():
    rows = data.load("digits:train").take(np.arange(40))
    with pytest.raises(ConfigError, match="num_models averages models of x alone, and conditional-vae is given labels"):
        runs.fit_rows(rows, {"preset": "conditional-vae", "num_models": 2})
