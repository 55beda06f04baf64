"""Rows of which few have a label: the bounds of M2 and M1+M2 against quadrature, sums by hand, and whole fits."""

import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.distributions import Normal

import vaekit as vk
from vaekit import bounds, engine, likelihoods, networks, posteriors, priors
from vaekit.data import Dataset
from vaekit.data.contexts import contexts_found, contexts_of
from vaekit.errors import ConfigError, DataError, ShapeError
from vaekit.models import ConditionalVAE, StackedVAE
from vaekit.models.rows import Batch
from vaekit.models.view import View
from vaekit.networks import MLP, Concat, ContextInput, Readout
from vaekit.objectives import SemiSupervised
from vaekit.queries import classify
from vaekit.recipes.contexts import labelled_oftener
from vaekit.runs.training import fit_rows
from vaekit.training import Trainer
from vaekit.training.gradients import Backward, OneGraph

F64 = torch.float64
SHARES, MEANS, SLOPE, SCALE = (0.3, 0.7), (-1.0, 2.0), 0.8, 0.6


def linear(size=1, encoder_sees_label=True):
    """A model of two classes with linear networks, in float64; q is whatever its first weights say."""
    front = ContextInput((2,), unknown=True)
    q_network = Concat(MLP(size + 2, ()), size, 2) if encoder_sees_label else MLP(size, ())
    return ConditionalVAE(
        encoder=vk.Conditional(q_network, posteriors.DiagonalNormal(1, scale="exp")),
        decoder=vk.Conditional(Concat(MLP(3, ()), 1, 2), likelihoods.Normal(size, scale=SCALE)),
        latent_prior=priors.StandardNormal(1),
        context=front,
        proportions=SHARES,
        classifier=Readout(MLP(size, ()), 2),
    ).double()


def assign(linear, weight, bias):
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(weight, dtype=F64))
        linear.bias.copy_(torch.tensor(bias, dtype=F64))


def known(model):
    """p(x|z, y) = N(m_y + w z, s^2), and q(y|x), q(z|x, y) that are the exact posteriors."""
    assign(model.decoder.adapter.linear, [[SLOPE, *MEANS]], [0.0])
    variance = SLOPE**2 + SCALE**2
    gain, left = SLOPE / variance, SCALE**2 / variance
    raw = math.log(math.sqrt(left)) if model.encoder.head.scale == "exp" else None
    first = [[gain, -gain * MEANS[0], -gain * MEANS[1]], [0.0, raw, raw]]
    assign(model.encoder.adapter.linear, first, [0.0, 0.0])
    slopes = [[mean / variance] for mean in MEANS]
    at_zero = [math.log(p) - mean**2 / (2 * variance) for p, mean in zip(SHARES, MEANS, strict=True)]
    assign(model.classifier.linear, slopes, at_zero)
    return model


def by_quadrature(model, x):
    """log p(x, y), shape (N, 2), by a fine grid of z."""
    grid = torch.linspace(-9, 9, 4001, dtype=F64).unsqueeze(1)
    step = math.log(18 / 4000)
    found = []
    with torch.no_grad():
        for y, share in enumerate(SHARES):
            under = model.given(torch.tensor([float(y)]))
            log_p = under.likelihood(grid.unsqueeze(1)).log_prob(x) + under.prior().log_prob(grid).unsqueeze(1)
            found.append(log_p.logsumexp(0) + step + math.log(share))
    return torch.stack(found, 1)


X = torch.linspace(-3, 4, 15, dtype=F64).unsqueeze(1)
LABELS = torch.tensor([0.0, 1.0, math.nan] * 5, dtype=F64).unsqueeze(1)


def target(model):
    """log p(x, y) of rows with a label, log p(x) of the others."""
    joint = by_quadrature(model, X)
    pairs = zip(joint, LABELS[:, 0].tolist(), strict=True)
    return torch.stack([row.logsumexp(0) if math.isnan(y) else row[int(y)] for row, y in pairs])


def drawn(model, objective, times=4000):
    with engine.seeded(1), torch.no_grad():
        terms = objective(model.given(LABELS.repeat(times, 1)), X.repeat(times, 1)).terms
    return terms["elbo"].reshape(times, -1)


@pytest.mark.parametrize("sees_label", [True, False])
def test_the_bounds_are_below_log_p_by_quadrature(sees_label):
    with engine.seeded(3):
        model = linear(encoder_sees_label=sees_label)
    found = drawn(model, SemiSupervised(kl="analytic"))
    error = found.std(0) / math.sqrt(len(found))
    assert (found.mean(0) + 4 * error < target(model)).all()


def test_the_bounds_are_log_p_at_the_exact_posteriors():
    model = known(linear())
    found = drawn(model, SemiSupervised(kl="sampled"), times=3)
    torch.testing.assert_close(found, target(model).expand(3, -1), rtol=0, atol=1e-4)  # the floor of the scale


def test_a_label_that_is_known_for_all_gives_the_elbo_and_log_p_of_y():
    with engine.seeded(3):
        model = linear()
    labels = LABELS.nan_to_num(1.0)
    with engine.seeded(5):
        terms = SemiSupervised(kl="analytic")(model.given(labels), X).terms
    share = torch.tensor(SHARES, dtype=F64)[labels[:, 0].long()].log()
    analytic = bounds.elbo_terms(model.given(labels), X, kl="analytic")[1]
    torch.testing.assert_close(terms["kl"], analytic - share)


def test_value_and_gradient_are_those_of_a_sum_by_hand():
    with engine.seeded(4):
        model = linear(2)
    x, alpha, weight = X.repeat(1, 2), 0.7, torch.linspace(0.5, 2, 15, dtype=F64)
    with engine.seeded(6):
        value = SemiSupervised(alpha, kl="analytic")(model.given(LABELS), x, weight).value
    with engine.seeded(6):
        noise = torch.randn(1, 15, 2, 1, dtype=F64)[0]
    total, right, count = 0.0, 0.0, 0.0
    log_q = model.log_label_posterior(x)
    for n, label in enumerate(LABELS[:, 0].tolist()):
        joint = []
        for y in range(2):
            under = model.given(torch.tensor([[float(y)]]))
            q = under.posterior(x[n : n + 1]).base
            z = q.loc + q.scale * noise[n, y]
            kl = torch.distributions.kl_divergence(Normal(q.loc, q.scale), Normal(0 * q.loc, 1 + 0 * q.loc)).sum()
            joint.append(under.likelihood(z).log_prob(x[n : n + 1]).sum() - kl + math.log(SHARES[y]))
        if math.isnan(label):
            bound = sum(log_q[n, y].exp() * (joint[y] - log_q[n, y]) for y in range(2))
        else:
            bound = joint[int(label)]
            right, count = right + weight[n] * log_q[n, int(label)], count + weight[n]
        total = total + weight[n] * bound
    by_hand = -total / weight.sum() - alpha * right / count
    torch.testing.assert_close(value, by_hand)
    parameters = list(model.parameters())
    gradients = [torch.autograd.grad(v, parameters) for v in (value, by_hand)]
    for mine, other in zip(*gradients, strict=True):
        assert mine.isfinite().all()
        torch.testing.assert_close(mine, other)


def test_one_compiled_graph_takes_the_sum_over_labels():
    with engine.seeded(4):
        model = linear().float()
    with torch.no_grad():
        model.decoder.adapter.linear.weight[:, 0] = 0  # no noise of z in the value
    objective, parameters = SemiSupervised(kl="analytic"), list(model.parameters())
    batch = Batch(X.float(), torch.zeros(15, dtype=F64), torch.linspace(0.5, 2, 15), LABELS.float())
    whole = OneGraph(model, objective, parameters, [])
    found = []
    for step in (whole, Backward(model, objective, parameters)):
        loss, _ = step(batch)
        gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
        gradients["decoder.adapter.linear.weight"][:, 0] = 0  # that of the weight of z is of the noise
        found.append([loss.value.detach(), *gradients.values()])
    assert whole.otherwise is None  # no fallback
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_rows_with_and_without_labels_stand_side_by_side():
    model = known(linear())
    joint = by_quadrature(model, X)
    found = vk.evaluation.log_marginal(
        model, View.of(model, X, context=LABELS), num_samples=400, generator=torch.Generator().manual_seed(0)
    )
    for n, label in enumerate(LABELS[:, 0].tolist()):
        exact = joint[n].logsumexp(0) if math.isnan(label) else joint[n, int(label)] - math.log(SHARES[int(label)])
        assert abs(float(found.value[n] - exact)) < 1e-3 + 4 * float(found.stderr[n])


# --- M1+M2 -----------------------------------------------------------------------------------------------------------


WEIGHT, BIAS, NOISE = 0.5, 0.2, 0.5


def stacked():
    """p(x|z_1) = N(w z_1 + b, s^2) over `known`; q(z_1|x) is the posterior under a normal of the moments of z_1."""
    first = vk.VAE(
        encoder=vk.Conditional(MLP(1, ()), posteriors.DiagonalNormal(1, scale="exp")),
        decoder=vk.Conditional(MLP(1, ()), likelihoods.Normal(1, scale=NOISE)),
        prior=priors.StandardNormal(1),
    ).double()
    assign(first.decoder.adapter.linear, [[WEIGHT]], [BIAS])
    mean = sum(p * m for p, m in zip(SHARES, MEANS, strict=True))
    spread = SLOPE**2 + SCALE**2 + SHARES[0] * SHARES[1] * (MEANS[1] - MEANS[0]) ** 2
    gain = WEIGHT * spread / (WEIGHT**2 * spread + NOISE**2)
    raw = 0.5 * math.log(spread * (1 - gain * WEIGHT))
    assign(first.encoder.adapter.linear, [[gain], [0.0]], [mean - gain * (BIAS + WEIGHT * mean), raw])
    return StackedVAE(first, known(linear()))


def test_two_layers_are_one_model_whose_log_p_is_that_of_a_gaussian():
    model = stacked()
    scale = math.sqrt(NOISE**2 + WEIGHT**2 * (SLOPE**2 + SCALE**2))
    under = torch.stack([Normal(BIAS + WEIGHT * m, scale).log_prob(X[:, 0]) for m in MEANS], 1)
    labelled = under + torch.tensor(SHARES, dtype=F64).log()
    exact = labelled.logsumexp(1)
    noise = {"num_samples": 3000, "generator": torch.Generator().manual_seed(0)}
    whole = vk.evaluation.log_marginal(model, X, **noise)
    assert ((whole.value - exact).abs() < 0.01 + 5 * whole.stderr).all()
    assert whole.stderr.max() < 0.1
    ones = vk.evaluation.log_marginal(model, View.of(model, X, context=torch.ones(15, 1)), **noise)
    assert ((ones.value - under[:, 1]).abs() < 0.01 + 5 * ones.stderr).all()
    elbo = drawn(model, SemiSupervised(kl="sampled"))
    pairs = zip(exact, labelled, LABELS[:, 0].tolist(), strict=True)
    above = torch.stack([e if math.isnan(y) else row[int(y)] for e, row, y in pairs])
    assert (elbo.mean(0) < above + 4 * elbo.std(0) / math.sqrt(len(elbo))).all()


def test_layers_that_do_not_meet_are_refused():
    with pytest.raises(ShapeError, match="both are vectors, and agree"):
        StackedVAE(stacked().first, linear(2))


# --- Labels that are missing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "kept", "missing"),
    [
        ([1.0, math.nan, 0.0], [1, -1, 0], [False, True, False]),
        (np.array(["a", None, "b"], dtype=object), ["a", "", "b"], [False, True, False]),
        (np.array([2, None, 3], dtype=object), [2, -1, 3], [False, True, False]),
        (np.ma.masked_equal([4, 5, 6], 5), [4, -1, 6], [False, True, False]),
    ],
)
def test_a_missing_label_is_no_class(labels, kept, missing):
    rows = Dataset(np.zeros((3, 2)), labels)
    assert rows.labels.tolist() == kept
    assert rows.unlabelled.tolist() == missing
    assert rows.take([0, 2]).unlabelled.tolist() == [False, False]
    assert rows.shown_labels.tolist() == [str(k) if k not in (-1, "") else "unknown" for k in kept]
    schema = contexts_found(rows, may_miss=True)
    codes = contexts_of(schema, rows)[:, 0]
    assert np.isnan(codes).tolist() == missing
    assert sorted(codes[~np.isnan(codes)].tolist()) == [0.0, 1.0]
    with pytest.raises(DataError, match="1 of the 3 rows of 'data' have no label.*--preset m2"):
        contexts_found(rows)


def test_minus_one_is_a_class_where_nothing_is_unknown():
    rows = Dataset(np.zeros((4, 2)), [-1, 1, 1, -1])
    assert contexts_found(rows).modelled[0].levels == (-1, 1)
    assert contexts_of(contexts_found(rows), rows)[:, 0].tolist() == [0.0, 1.0, 1.0, 0.0]
    with pytest.raises(DataError, match="all rows of 'data' have the label 1"):
        contexts_found(rows, may_miss=True)


def test_empty_cells_of_a_column_of_labels_are_read():
    frame = pa.table({"a": [1.0, 2.0, 3.0], "kind": ["u", None, "v"], "none": pa.array([None] * 3, pa.string())})
    rows = vk.data.from_frame(frame.drop_columns(["none"]), label="kind")
    assert (rows.labels.tolist(), rows.unlabelled.tolist()) == (["u", "", "v"], [False, True, False])
    with pytest.raises(DataError, match="'none' of 'frame' has no label in any row"):
        vk.data.from_frame(frame.drop_columns(["kind"]), label="none")


# --- Fits ------------------------------------------------------------------------------------------------------------


def clouds(num_rows=400, every=20):
    """Three clouds in a table; the true classes, and rows of which one in so many says its class."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, num_rows)
    x = np.array([[0.0, 0.0, 1.0], [6.0, 0.0, 2.0], [0.0, 6.0, 3.0]])[y] + rng.normal(size=(num_rows, 3))
    labels = np.where(np.arange(num_rows) % every == 0, y, -1)
    return (
        y,
        Dataset(x, labels, columns=("a", "b", "c"), kind="table"),
        Dataset(x, columns=("a", "b", "c"), kind="table"),
    )


QUICK = {"max_epochs": 40, "batch_size": 50, "latent_dim": 1, "hidden": (16,), "compile": "off", "likelihood": "normal"}
QUICK |= {"learning_rate": 0.01, "keep": "last"}


@pytest.mark.parametrize("preset", ["m2", "m1-m2"])
def test_few_labels_and_many_rows_find_the_classes(preset):
    y, rows, bare = clouds()
    run = fit_rows(rows, QUICK | {"preset": preset})
    for by in ("posterior", "bayes"):
        table = run.classify(bare, by=by, num_samples=20)
        assert (table.behind_key["label"] == y).mean() > 0.9
        np.testing.assert_allclose(table.values[:, :3].sum(1), 1)
    assert run.classify(bare, num_samples=5).notes[0].startswith("p is q(class | row) of the model's own classifier")
    assert np.isfinite(run.score(rows, num_samples=5).values[:, 0]).all()
    assert ("first_stage" in run.config.metadata) == (preset == "m1-m2")
    assert all(p.requires_grad for p in run.model.parameters())


def test_other_presets_refuse_rows_without_labels():
    _, rows, _ = clouds(60)
    labels = np.where(rows.labels < 0, np.nan, rows.labels)
    with pytest.raises(DataError, match="57 of the 60 rows .* --preset m2 learns from rows without labels"):
        fit_rows(Dataset(rows.x, labels, kind="table", columns=rows.columns), QUICK | {"preset": "conditional-vae"})


def test_rows_with_a_label_are_met_oftener_and_weigh_the_same():
    _, rows, _ = clouds()
    model = linear(3)
    contexts = np.where(rows.labels == 2, 1.0, np.where(rows.labels < 0, np.nan, rows.labels))[:, None]
    view = View.of(model, rows.x, context=contexts)
    oftener = labelled_oftener(view)
    num_known = int((~np.isnan(contexts)).sum())
    times = (len(oftener) - (len(view) - num_known)) / num_known
    assert times == round(0.1 / 0.9 * (len(view) - num_known) / num_known)
    assert oftener.total_weight == pytest.approx(len(view))
    assert labelled_oftener(view.take(torch.arange(0, 400, 20))) is not None


def test_classes_by_the_posterior_are_those_of_the_classifier():
    model = known(linear())
    found = classify(model, X, 200, by="posterior", generator=torch.Generator().manual_seed(0))
    joint = by_quadrature(model, X)
    torch.testing.assert_close(found.log_probabilities, joint.log_softmax(1))
    assert ((found.log_p - joint.logsumexp(1)).abs() < 1e-3 + 4 * found.log_p_stderr).all()
    shifted = found.under((0.9, 0.1))
    exact = joint + torch.tensor([0.9 / SHARES[0], 0.1 / SHARES[1]], dtype=F64).log()
    torch.testing.assert_close(shifted.log_probabilities, exact.log_softmax(1))
    model.classifier = None
    with pytest.raises(ConfigError, match='has no classifier q\\(y\\|x\\); take by="bayes"'):
        classify(model, X, 5, by="posterior")


def test_a_trainer_of_ones_own_takes_contexts_with_unknown_labels():
    with engine.seeded(0):
        model, objective = vk.presets.m2((3,), latent_dim=1, hidden=(8,), likelihood="normal", levels=(3,))
    _, rows, _ = clouds(100, every=4)
    contexts = np.where(rows.labels < 0, np.nan, rows.labels)[:, None]
    view = View.of(model, rows.x, context=contexts)
    history = Trainer(max_epochs=3, batch_size=20, compile="off", progress=False).fit(model, objective, view, view)
    assert history["train_elbo"][-1] > history["train_elbo"][0]
    assert np.isfinite(history["valid_classification"]).all()


def test_arguments_that_cannot_be():
    with pytest.raises(ConfigError, match="alpha is not negative; got -1"):
        SemiSupervised(-1)
    with pytest.raises(ConfigError, match="stands alone, as one of levels"):
        ContextInput((3, 2), unknown=True)
    with pytest.raises(ConfigError, match="Readout needs the out_shape"):
        networks.Readout(torch.nn.Linear(2, 2), 3)
