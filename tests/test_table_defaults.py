"""What a table is fitted by unless told otherwise: factor analysis, the model that starts from it, and its training."""

import copy
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.decomposition import FactorAnalysis

import vaekit as vk
from vaekit import bounds, cli, engine, networks, objectives, posteriors, recipes
from vaekit.data import Dataset
from vaekit.data.schema import Schema
from vaekit.errors import ConfigError
from vaekit.recipes import budget, factors
from vaekit.recipes.factors import Factors, best_factors, fit_factors
from vaekit.recipes.start import find_start, numbers_of, start_from

F64 = torch.float64


def numbers(n=400, size=7, latent_dim=2, holes=0.2, seed=0):
    """Rows of a factor model, with holes."""
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(size, latent_dim))
    x = 3 + rng.normal(size=(n, latent_dim)) @ loadings.T + rng.normal(size=(n, size)) * rng.uniform(0.3, 1.0, size)
    x[rng.random(x.shape) < holes] = np.nan
    return x


def as_data(frame):
    schema = Schema.found(frame)
    x = schema.encode(frame)
    return Dataset(x, schema=schema, kind="table", columns=tuple(column.name for column in schema.modelled))


def table(n=400, **options):
    x = numbers(n, **options)
    return as_data(pd.DataFrame(x, columns=[f"x{i}" for i in range(x.shape[1])]))


def mixed(n=500, seed=0):
    """Columns of every family of heads, all moved by one factor, some cells empty."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)

    def with_holes(values):
        return pd.Series(values).where(rng.random(n) > 0.1)

    return pd.DataFrame(
        {
            "number": with_holes(z + 0.5 * rng.normal(size=n)),
            "price": with_holes(np.exp(z + 0.3 * rng.normal(size=n))),
            "grade": with_holes(np.clip(np.round(3 + 1.5 * z + rng.normal(size=n)), 1, 5)),
            "kind": with_holes(np.array(["a", "b", "c"])[np.digitize(z + 0.5 * rng.normal(size=n), [-0.5, 0.8])]),
            "yes": with_holes((z + rng.normal(size=n) > 0.5).astype(float)),
            "visits": with_holes(rng.poisson(np.exp(0.5 + 0.8 * z)).astype(float)),
            "debt": with_holes(np.where(rng.random(n) < 0.5, 0.0, np.exp(0.5 * z) * 100)),
            "heavy": with_holes(z + 0.4 * rng.standard_t(2, size=n)),
        }
    )


# --- Factor analysis -------------------------------------------------------------------------------------------------


def test_log_p_and_posterior_of_factors_are_those_of_the_normal_distribution():
    rng = np.random.default_rng(1)
    model = Factors(rng.normal(size=5), rng.normal(size=(5, 2)), rng.uniform(0.2, 1.0, 5))
    s = rng.normal(size=(20, 5))
    s[rng.random(s.shape) < 0.3] = np.nan
    s[3] = np.nan
    covariance = model.loadings @ model.loadings.T + np.diag(model.variance)
    log_p, (mean, spread) = model.log_prob(s), model.posterior(s)
    for i, row in enumerate(s):
        seen = ~np.isnan(row)
        if not seen.any():
            assert log_p[i] == 0
            np.testing.assert_allclose(mean[i], 0)
            np.testing.assert_allclose(spread[i], np.eye(2))
            continue
        part = covariance[np.ix_(seen, seen)]
        expected = multivariate_normal(model.loc[seen], part).logpdf(row[seen])
        gain = model.loadings[seen].T @ np.linalg.inv(part)
        np.testing.assert_allclose(log_p[i], expected, rtol=1e-10)
        np.testing.assert_allclose(mean[i], gain @ (row[seen] - model.loc[seen]), atol=1e-10)
        np.testing.assert_allclose(spread[i], np.eye(2) - gain @ model.loadings[seen], atol=1e-10)


def test_each_step_of_em_raises_log_p():
    s = numbers(200, 8, 3, 0.4)
    model, before = factors._begun(s, 3, 1e-6), -math.inf
    for _ in range(40):
        found = factors._Expected(model, s)
        assert found.log_prob.sum() >= before - 1e-8
        model, before = factors._maximized(found, s, 1e-6), found.log_prob.sum()


@pytest.mark.parametrize("latent_dim", [1, 3])
def test_without_holes_it_is_the_factor_analysis_of_scikit_learn(latent_dim):
    s = numbers(600, 8, 3, 0.0)
    ours = fit_factors(s, latent_dim, num_steps=2000, tolerance=1e-9)
    theirs = FactorAnalysis(latent_dim, tol=1e-10, max_iter=10_000, svd_method="lapack").fit(s)
    np.testing.assert_allclose(ours.log_prob(s).mean(), theirs.score(s), atol=2e-6)
    covariance = ours.loadings @ ours.loadings.T + np.diag(ours.variance)
    np.testing.assert_allclose(covariance, theirs.get_covariance(), atol=2e-3)
    strength = ours.loadings.T @ (ours.loadings / ours.variance[:, None])
    np.testing.assert_allclose(strength, np.diag(np.diag(strength)), atol=1e-8 * strength.max())


def test_the_number_of_factors_is_that_of_the_rows_whatever_outliers_say():
    s = numbers(900, 12, 3, 0.1)
    s[850:853] *= 100
    assert best_factors(s[:700], s[700:], 11, least=1e-3).latent_dim == 3
    assert best_factors(s[:3], s[3:9], 11, least=1e-3).latent_dim <= 2  # fewer than the rows


def test_a_number_that_was_never_observed_says_nothing():
    s = numbers(60, 5, 1, 0.0)
    s[:, 2] = np.nan
    with np.errstate(all="raise"):
        found = fit_factors(s, 1, least=1e-3)
    assert np.isfinite(found.log_prob(s)).all()
    assert abs(found.loadings[2]).max() < 1e-6


# --- The networks ----------------------------------------------------------------------------------------------------


def test_the_encoder_is_the_posterior_of_the_factors_for_each_pattern_of_holes():
    rng = np.random.default_rng(2)
    model = Factors(rng.normal(size=6), rng.normal(size=(6, 3)), rng.uniform(0.2, 1.0, 6))
    s = numbers(50, 6, 3, 0.4)
    network = networks.FactorEncoder(12, 3, 6, hidden=(5,)).double()
    reading = torch.eye(6, 12, dtype=F64)
    found = (torch.from_numpy(values) for values in (model.loc, model.loadings, model.variance))
    network.assign(reading, range(6, 12), *found)
    seen = ~np.isnan(s)
    v = torch.from_numpy(np.concatenate([np.where(seen, s, 0), seen], 1))
    q = posteriors.FullNormal(3)(network(v))
    mean, covariance = model.posterior(s)
    np.testing.assert_allclose(q.mean.detach(), mean, atol=1e-9)
    np.testing.assert_allclose(q.covariance_matrix.detach(), covariance, atol=1e-9)


def test_the_layers_of_the_encoder_move_it_by_its_own_spread():
    network = networks.FactorEncoder(3, 2, 3, hidden=(4,)).double()
    network.assign(torch.eye(3), [None] * 3, torch.zeros(3), torch.ones(3, 2), torch.ones(3))
    with torch.no_grad():
        network.layers.linear.bias.copy_(torch.tensor([1.0, -2.0, 0.5, 0.0]))
    v = torch.randn(4, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    mean, tril = network.factors(v)
    q = posteriors.FullNormal(2)(network(v))
    torch.testing.assert_close(q.mean, mean + tril @ torch.tensor([1.0, -2.0], dtype=F64))
    scale = torch.tensor([3 * math.tanh(0.5 / 3), 0.0], dtype=F64).exp()
    torch.testing.assert_close(q.scale_tril, tril * scale)
    torch.autograd.gradcheck(lambda bias: torch.func.functional_call(network, {"layers.linear.bias": bias}, v), bias())


def bias():
    return torch.tensor([0.3, -0.2, 0.1, 0.4], dtype=F64, requires_grad=True)


def test_a_linear_map_and_layers_that_start_at_nothing():
    network = networks.LinearPlus((2, 3), (4, 5), hidden=(7,))
    x = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(0))
    assert network(x).shape == (6, 4, 5)
    assert torch.equal(network(x).flatten(1), network.linear(x.flatten(1)))
    network(x).square().sum().backward()
    assert bool(network.bend.linear.weight.grad.abs().sum() > 0)
    assert networks.LinearPlus(2, 3, hidden=()).bend is None


def test_columns_say_where_their_inputs_are():
    front = networks.ColumnsInput(torch.nn.Identity(), levels=(0, 3, 60, 0, 2), holes=(0, 4))
    x = torch.tensor([[0.5, 1.0, 7.0, 2.0, torch.nan]])
    inputs = front.inputs(x)[0].detach()
    found = [front.places(column) for column in range(5)]
    assert [list(inputs[list(places)]) for places, _ in found[:2]] == [[0.5], [0.0, 1.0, 0.0]]
    assert torch.equal(inputs[list(found[2][0])], front.embeddings[0](torch.tensor(7)))
    assert inputs[list(found[4][0])].tolist() == [0.0, 0.0]
    assert [None if mask is None else float(inputs[mask]) for _, mask in found] == [1.0, None, None, None, 0.0]


# --- The start -------------------------------------------------------------------------------------------------------


def test_before_training_the_bound_is_the_log_p_of_the_factors():
    """The oracle of decoder, encoder and what is written into them: q is p(z|x), so that log w does not vary."""
    data = table()
    plan = recipes.plan(recipes.settings({"seed": 3}), data, progress=False)
    assert plan.preset == "table"
    model = plan.model.double()
    start = find_start(data, model.decoder.head, model.transform, None, 3)
    assert model.latent_shape == (start.factors.latent_dim,)
    start_from(model, start)  # once more, in float64
    with torch.no_grad(), engine.seeded(0):
        log_weights = bounds.log_weights(model, start.y, 4)
    expected = start.factors.log_prob(numbers_of(model.decoder.head, start.y))
    np.testing.assert_allclose(log_weights, np.broadcast_to(expected, (4, 400)), atol=1e-9)


def test_a_plan_is_a_function_of_the_rows_and_the_seed():
    data = as_data(mixed(200))
    same, again, other = (recipes.plan(recipes.settings({"seed": s}), data, progress=False).model for s in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(same.state_dict().values(), again.state_dict().values(), strict=True))
    assert any(
        a.shape != b.shape or not torch.equal(a, b)
        for a, b in zip(same.decoder.parameters(), other.decoder.parameters(), strict=True)
    )


def test_each_kind_of_column_starts_with_what_is_linear_in_it():
    """Better than the start without factors by nats, column by column; shares of levels as in the table."""
    data = as_data(mixed())
    model = recipes.plan(recipes.settings({"latent_dim": 1}), data, progress=False).model
    plain = vk.presets.table(
        data.event_shape, latent_dim=1, likelihood=copy.deepcopy(model.decoder.head), transform=model.transform
    )[0]
    y = model.transform(torch.as_tensor(data.x)).float()

    def log_p(m):
        with torch.no_grad(), engine.seeded(0):
            z = m.posterior(y).sample((50,))
            return m.likelihood(z).log_prob_per_element(y).mean((0, 1))

    gain = dict(zip(data.columns, (log_p(model) - log_p(plain)).tolist(), strict=True))
    assert all(value > 0.05 for value in gain.values()), gain
    with torch.no_grad(), engine.seeded(0):
        drawn = model.transform.inverse(model.likelihood(model.prior().sample((20_000,))).sample().double())
    for name in ("grade", "kind", "yes"):
        column = data.columns.index(name)
        seen = data.x[~np.isnan(data.x[:, column]), column]
        for level in np.unique(seen):
            assert abs(float((drawn[:, column] == level).double().mean()) - (seen == level).mean()) < 0.03


def test_tables_that_are_hardly_any():
    for frame in (
        pd.DataFrame({"a": [1.0, 2.5, 3.1]}),
        pd.DataFrame({"a": [1.0, 2.5, np.nan, 4.0], "b": ["x", "y", "x", "y"]}),
        pd.DataFrame({"word": [f"w{i % 70}" for i in range(700)]}),  # embedded: no factor explains it
    ):
        data = as_data(frame)
        plan = recipes.plan(recipes.settings({"max_epochs": 1}), data, progress=False)
        plan.trainer.fit(plan.model, plan.objective, data, data)
        estimate = vk.evaluation.log_marginal(plan.model, data, num_samples=5)
        assert torch.isfinite(estimate.value).all()


# --- Hidden cells ----------------------------------------------------------------------------------------------------


def test_hidden_cells_are_as_many_as_said():
    hide = objectives.HideCells(rows=0.7, most=0.5)
    with engine.seeded(0):
        holes = torch.isnan(hide.hidden(torch.zeros(4000, 50)))
    share = holes.double().mean(1)
    assert abs(float(share.mean()) - 0.7 * 0.25) < 0.01
    assert abs(float((share == 0).double().mean()) - (0.3 + 0.7 * (1 - 0.5**51) / (0.5 * 51))) < 0.02
    assert float(share.max()) < 0.75


def test_hiding_nothing_is_the_objective_itself_and_validation_hides_nothing():
    data = table()
    model = recipes.plan(recipes.settings({}), data, progress=False).model
    y = model.transform(torch.as_tensor(data.x)).float()[:30]
    weight = torch.rand(30, generator=torch.Generator().manual_seed(1))

    def of(objective, method):
        with engine.seeded(5):
            return method(objective, y)

    plain, hide = objectives.IWAE(3), objectives.HideCells(objectives.IWAE(3), rows=0.0)
    for objective in (plain, hide):
        objective.build(model)
    hide.hidden = lambda x: x  # the same noise for what follows
    for w in (None, weight):
        values = [of(o, lambda o, x, w=w: o(model, x, w)) for o in (plain, hide)]
        assert torch.equal(values[0].value, values[1].value)
    terms = [of(o, lambda o, x: o.validation_terms(model, x)) for o in (plain, objectives.HideCells(plain))]
    assert all(torch.equal(terms[0][name], terms[1][name]) for name in terms[0])
    assert objectives.HideCells(objectives.ELBO()).selects == "elbo"


def test_hidden_cells_have_no_term():
    """The loss is that of the rows with holes, whatever stood in them."""
    data = table(holes=0.0)
    model = recipes.plan(recipes.settings({}), data, progress=False).model
    hide = objectives.HideCells(rows=1.0, most=1.0)
    hide.build(model)
    y = model.transform(torch.as_tensor(data.x)).float()[:20]
    with engine.seeded(1):
        loss = hide(model, y)
    with engine.seeded(1):
        seen = hide.hidden(y)
        expected = hide.objective(model, seen)
    assert torch.equal(loss.value, expected.value)
    with engine.seeded(1):
        other = hide(model, torch.where(seen.isnan(), 7.0, y))
    assert torch.equal(loss.value, other.value)


def test_what_cannot_be_left_out_is_not_hidden():
    model, objective = vk.presets.table((4,), latent_dim=2, hidden=(5,), likelihood="normal")
    x = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    assert bool(objective(model, x).value.isfinite())
    for values in ({"rows": 1.5}, {"most": -0.1}):
        with pytest.raises(ConfigError, match="is a probability"):
            objectives.HideCells(**values)


# --- Settings --------------------------------------------------------------------------------------------------------


def test_what_is_set_wins():
    data = table(100)
    given = {"hidden": "8", "posterior": "diagonal-normal", "latent_dim": 3, "max_epochs": 7, "batch_size": 30}
    plan = recipes.plan(recipes.settings({**given, "learning_rate": 0.01, "patience": 3}), data, progress=False)
    assert plan.preset == "table"
    assert (plan.model.latent_shape, type(plan.model.encoder.head)) == ((3,), posteriors.DiagonalNormal)
    assert isinstance(plan.model.encoder.network.network, networks.MLP)
    assert plan.model.decoder.network.hidden == (8,)
    trainer = plan.trainer
    assert (trainer.max_epochs, trainer.batch_size, trainer.learning_rate, trainer.patience) == (7, 30, 0.01, 3)
    plan = recipes.plan(recipes.settings({"objective": "elbo", "num_samples": 2}), data, progress=False)
    assert isinstance(plan.objective, objectives.HideCells)
    assert (type(plan.objective.objective), plan.objective.objective.num_samples) == (objectives.ELBO, 2)
    plan = recipes.plan(recipes.settings({"objective": "hide-cells:most=0.2"}), data, progress=False)
    assert (plan.objective.most, type(plan.objective.objective)) == (0.2, objectives.IWAE)
    plan = recipes.plan(recipes.settings({"likelihood": "normal:missing=observed-only"}), data, progress=False)
    assert plan.preset == "vae"


@pytest.mark.parametrize(
    ("num_rows", "batch_size", "least", "most"),
    [(27, 128, 600, 600), (600, 128, 600, 620), (4000, 128, 980, 1020), (52_200, 256, 1300, 1700)],
)
def test_the_budget_follows_the_rows(num_rows, batch_size, least, most):
    found = budget.budget(num_rows)
    assert found.batch_size == batch_size
    assert least <= found.num_steps <= most
    assert found.num_steps == found.max_epochs * math.ceil(num_rows / batch_size)


def test_a_million_rows_take_a_few_thousand_updates():
    found = budget.budget(1_000_000)
    assert found.batch_size == 1024
    assert found.num_steps <= 4000
    assert budget.budget(1000, batch_size=10, max_epochs=3) == budget.Budget(10, 3, 300)


def test_the_learning_rate_moves_with_each_update():
    data = table(300)
    plan = recipes.plan(recipes.settings({"max_epochs": 4}), data, progress=False)
    rates = []

    class Watch(vk.training.Callback):
        def on_step_end(self, loop):
            rates.append([group["lr"] for group in loop.stepper.optimizer.param_groups])

    import dataclasses

    dataclasses.replace(plan.trainer, callbacks=[Watch()]).fit(plan.model, plan.objective, data, data)
    fast, slow = np.array(rates).T
    assert len(fast) == 12
    np.testing.assert_allclose(slow, 0.3 * fast)
    assert (np.diff(fast) < 0).all()
    np.testing.assert_allclose(fast[-1], 0, atol=1e-12)


def test_weights_that_gain_nothing_beyond_chance_are_put_back():
    """On rows of the factor model itself there is nothing to gain; on bent ones there is."""
    straight = table(200, size=5)
    rng = np.random.default_rng(0)
    z = rng.normal(size=(600, 1))
    bent = np.concatenate([z, z**2, np.sin(2 * z)], 1) + 0.1 * rng.normal(size=(600, 3))
    for data, is_kept in ((straight, False), (as_data(pd.DataFrame(bent, columns=list("abc"))), True)):
        train, valid = data.take(range(len(data) // 2)), data.take(range(len(data) // 2, len(data)))
        plan = recipes.plan(recipes.settings({"max_epochs": 60, "learning_rate": 0.01}), train, progress=False)
        before = copy.deepcopy(plan.model.state_dict())
        history = plan.trainer.fit(plan.model, plan.objective, train, valid)
        assert len(history) == 60
        after = plan.model.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before) is not is_kept


# --- From the command line -------------------------------------------------------------------------------------------


def test_fit_and_score_by_default(tmp_path, capsys):
    mixed(120).to_csv(tmp_path / "t.csv", index=False)
    run = tmp_path / "run"
    assert cli.run(["fit", str(tmp_path / "t.csv"), "-o", str(run), "--quiet", "max_epochs=2", "hidden=8"]) == 0
    assert "preset table" in capsys.readouterr().err
    assert cli.run(["score", str(run), str(tmp_path / "t.csv"), "-o", str(tmp_path / "s.csv")]) == 0
    assert np.isfinite(pd.read_csv(tmp_path / "s.csv")["log_p"]).all()
    model = vk.load(run)
    vk.save(model, tmp_path / "again")
    other = vk.load(tmp_path / "again")
    x = torch.as_tensor(as_data(mixed(120)).x)
    scores = [
        vk.evaluation.log_marginal(m, x, num_samples=5, generator=torch.Generator().manual_seed(0)).value
        for m in (model, other)
    ]
    assert torch.equal(*scores)


def test_an_interrupted_fit_goes_on(tmp_path):
    mixed(150).to_csv(tmp_path / "t.csv", index=False)
    run = tmp_path / "run"
    arguments = ["fit", str(tmp_path / "t.csv"), "-o", str(run), "--quiet", "max_epochs=2", "hidden=8"]
    assert cli.run(arguments) == 0
    assert cli.run([*arguments, "--resume"]) == 0
