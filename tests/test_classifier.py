"""Classes by Bayes' rule: against closed forms, scikit-learn's contract, and what users get wrong."""

import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

import vaekit as vk
from vaekit import evaluation, likelihoods, posteriors, priors, queries, recipes, runs
from vaekit.conditional import Conditional
from vaekit.data.contexts import contexts_found, with_contexts
from vaekit.data.schema import Schema
from vaekit.errors import ConfigError, DataError, ShapeError
from vaekit.estimators import VAEClassifier, VAEDetector, VAETransformer
from vaekit.models import ConditionalVAE
from vaekit.networks import Concat, ContextInput, FactorEncoder, LinearPlus
from vaekit.queries.classify import fitted_temperature
from vaekit.raw import raw_of

TINY = {"max_epochs": 1, "hidden": 8, "latent_dim": 1, "num_importance_samples": 5, "random_state": 0}
SMALL = {**TINY, "max_epochs": 4, "hidden": 16, "num_importance_samples": 20}
WEIGHTS = (
    "minibatches are drawn at random and rows are held out: a weight of 2 is the same as two rows in expectation, not "
    "number by number"
)


@parametrize_with_checks(
    [VAEClassifier(**TINY)],
    expected_failed_checks=lambda _: {"check_sample_weight_equivalence_on_dense_data": WEIGHTS},
)
def test_contract_of_scikit_learn(estimator, check):
    check(estimator)


# --- Closed forms -----------------------------------------------------------------------------------------------------

LOADINGS = np.array([[1.0], [-0.5]])
VARIANCE = np.array([0.5, 0.8])
LOC = np.array([0.3, -0.2])
SHIFT = np.array([[0.0, 1.5, -1.0], [0.5, -0.5, 1.5]])  # of the means, class by class
SHARES = (0.5, 0.3, 0.2)


def gaussian_classes(wider=1.0):
    """p(x|y) = N(mu + M_y, W W^T + psi) for three classes, and q(z|x, y): exact, or of variances `wider` times psi."""
    head = likelihoods.Normal(2, scale="network")
    decoder = LinearPlus(1 + 3, head.param_shape, hidden=())
    with torch.no_grad():
        weights = torch.from_numpy(np.concatenate([LOADINGS, SHIFT], 1))
        decoder.linear.weight.copy_(torch.cat([weights, torch.zeros_like(weights)]))
        raw = raw_of(torch.from_numpy(VARIANCE).sqrt() - head.scale_parameter.floor)
        decoder.linear.bias.copy_(torch.cat([torch.from_numpy(LOC), raw]))
    encoder = FactorEncoder(2, 1, 2, (4,), context_dim=3)
    given = (torch.from_numpy(values) for values in (LOC, LOADINGS, wider * VARIANCE, SHIFT))
    encoder.assign(torch.eye(2), [None, None], *given)
    q = posteriors.FullNormal(1)
    both = Conditional(encoder, q), Conditional(Concat(decoder, 1, 3), head)
    model = ConditionalVAE(*both, priors.StandardNormal(1), ContextInput((3,)), proportions=SHARES)
    return model.double().eval()


def exact_log_p(x):
    """log p(x|y) of each row and class, shape (N, 3)."""
    covariance = LOADINGS @ LOADINGS.T + np.diag(VARIANCE)
    return np.stack([multivariate_normal(LOC + SHIFT[:, y], covariance).logpdf(x) for y in range(3)], 1)


def exact_posterior(log_p, shares=SHARES):
    joint = log_p + np.log(shares)
    return np.exp(joint - logsumexp(joint, axis=-1, keepdims=True))


def points(n=200, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 2)) * 2


def test_gaussian_classes_have_the_probabilities_of_bayes_rule():
    x = points()
    found = queries.classify(gaussian_classes(), torch.from_numpy(x), 200, generator=torch.Generator().manual_seed(0))
    # The encoder is exact; rows far from a class are searched for all the same, with an error of their own.
    off = np.abs(found.log_p_given.numpy() - exact_log_p(x))
    assert (off < 1e-6 + 4 * found.given_stderr.numpy()).all()
    assert np.mean(off < 1e-6) > 0.95
    off = np.abs(found.probabilities.numpy() - exact_posterior(exact_log_p(x)))
    assert (off < 1e-6 + 4 * found.stderr.numpy()).all()
    np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-12)
    off = np.abs(found.log_p.numpy() - logsumexp(exact_log_p(x) + np.log(SHARES), axis=1))
    assert (off < 1e-6 + 4 * found.log_p_stderr.numpy()).all()
    shifted = found.under((0.1, 0.1, 0.8))
    off = np.abs(shifted.probabilities.numpy() - exact_posterior(exact_log_p(x), (0.1, 0.1, 0.8)))
    assert (off < 1e-6 + 4 * shifted.stderr.numpy()).all()


def test_the_monte_carlo_error_of_probabilities_is_what_is_stated():
    """q is too wide: errors in units of the stated ones have a mean square near 1.

    The errors of log p(x|y) are stated on the safe side where weights are heavy, so that the square may be below 1.
    Beside them the spread of p(y|x) and log p(x) where log p(x|y) is drawn anew with its error, within 5%.
    """
    x = points(400, seed=1)
    noise = torch.Generator().manual_seed(0)
    found = queries.classify(gaussian_classes(wider=3.0), torch.from_numpy(x), 200, generator=noise)
    stderr = found.stderr.numpy()
    clear = stderr > 1e-3
    off = ((found.probabilities.numpy() - exact_posterior(exact_log_p(x))) / np.maximum(stderr, 1e-300))[clear]
    assert clear.sum() > 200
    assert 0.6 < np.mean(off**2) < 1.15
    log_p = logsumexp(exact_log_p(x) + np.log(SHARES), axis=1)
    off = (found.log_p.numpy() - log_p) / found.log_p_stderr.numpy()
    assert 0.6 < np.mean(off**2) < 1.15
    drawn = np.random.default_rng(0).normal(size=(4000, 1, 3)) * 0.02 + found.log_p_given.numpy()[:50]
    known = replace(found, given_stderr=torch.full_like(found.given_stderr, 0.02))
    spread = exact_posterior(drawn).std(0)
    np.testing.assert_allclose(known.stderr.numpy()[:50][spread > 1e-3], spread[spread > 1e-3], rtol=0.05)
    spread = logsumexp(drawn + np.log(SHARES), axis=2).std(0)
    np.testing.assert_allclose(known.log_p_stderr.numpy()[:50], spread, rtol=0.05)


def test_log_p_without_a_label_is_the_sum_over_classes():
    """The model without a context is that of (y, z): `log_marginal` of it within 4 of its errors of the sum."""
    x, model = torch.from_numpy(points(60, seed=2)), gaussian_classes()
    found = evaluation.log_marginal(model, x, num_samples=20_000, generator=torch.Generator().manual_seed(0))
    exact = logsumexp(exact_log_p(x.numpy()) + np.log(SHARES), axis=1)
    off = (found.value.numpy() - exact) / found.stderr.numpy()
    assert np.abs(off).max() < 4
    summed = queries.classify(model, x, 100, generator=torch.Generator().manual_seed(0))
    assert (np.abs(summed.log_p.numpy() - exact) < 1e-6 + 4 * summed.log_p_stderr.numpy()).all()


def test_the_temperature_makes_up_for_densities_that_are_too_sure():
    """log p(x|y) is tripled: a temperature of 3 leads back, within 10%."""
    rng, x = np.random.default_rng(3), points(4000, seed=3)
    exact = exact_posterior(exact_log_p(x))
    y = torch.from_numpy((exact.cumsum(1) > rng.random((len(x), 1))).argmax(1))
    sure = queries.Classification(
        torch.from_numpy(3 * exact_log_p(x)), torch.zeros(len(x), 3), torch.tensor(SHARES).log()
    )
    assert fitted_temperature(sure, y) == pytest.approx(3, rel=0.1)
    few = queries.Classification(torch.tensor([[0.0, -5.0]] * 10).double(), torch.zeros(10, 2), torch.zeros(2).double())
    assert 0.3 < fitted_temperature(few, torch.zeros(10)) < 1  # ten rows, all right, do not make it sure


# --- Estimator --------------------------------------------------------------------------------------------------------


def flowers(n=240, seed=0):
    """Three classes of unlike frequency, with a column of words and holes that go with them."""
    rng = np.random.default_rng(seed)
    y = rng.choice(3, n, p=[0.6, 0.3, 0.1])
    x = SHIFT.T[y] * 2 + rng.normal(size=(n, 2))
    x[rng.random((n, 2)) < 0.05] = np.nan
    colour = np.where(rng.random(n) < 0.8, np.array(["red", "blue", "white"])[y], "red").astype(object)
    colour[rng.random(n) < 0.05] = None
    return pd.DataFrame({"length": x[:, 0], "width": x[:, 1], "colour": colour}), np.array(["a", "b", "c"])[y]


@pytest.fixture(scope="module")
def classifier():
    return VAEClassifier(**SMALL).fit(*flowers())


def test_words_and_holes_are_classified(classifier):
    X, y = flowers(300, seed=1)
    p = classifier.predict_proba(X)
    assert classifier.classes_.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(np.exp(classifier.predict_log_proba(X)), p, atol=1e-12)
    assert (classifier.predict(X) == classifier.classes_[p.argmax(1)]).all()
    assert classifier.score(X, y) > 0.85
    assert log_loss(y, p) < 0.5
    assert classifier.predict_proba_stderr(X).max() < 0.2
    np.testing.assert_allclose(classifier.predict_proba(X.iloc[[7, 3]]), p[[7, 3]], rtol=1e-9)


def test_priors_are_changed_without_a_fit(classifier):
    """p'(y|x) is p(y|x) p'(y) / p(y), normalised; log p(x) follows."""
    X, _ = flowers(50, seed=2)
    model = VAEClassifier.from_fitted(classifier)
    before, own = model.predict_proba(X), model.class_priors_
    log_p = classifier._classified(classifier._rows(X)).log_p_given.numpy()
    shares = np.array([0.1, 0.1, 0.8])
    expected = before * shares / own
    expected /= expected.sum(1, keepdims=True)
    for given in (shares, {"b": 0.1, "a": 0.1, "c": 0.8}):
        np.testing.assert_allclose(model.set_priors(given).predict_proba(X), expected, atol=1e-10)
    np.testing.assert_allclose(model.score_samples(X), logsumexp(log_p + np.log(shares), axis=1), atol=1e-9)
    unlike = model.p_values(X)
    np.testing.assert_allclose(model.set_priors(None).predict_proba(X), before, atol=1e-12)
    np.testing.assert_array_equal(model.p_values(X), unlike)  # by the shares of the fit
    np.testing.assert_allclose(own.sum(), 1)
    for wrong in ([0.5, 0.5], [0.5, 0.6, 0.1], [-0.1, 1.0, 0.1], {"a": 1.0}):
        with pytest.raises(ConfigError, match="priors"):
            model.set_priors(wrong)
    assert model.priors is None
    with pytest.raises(ConfigError, match="shares of 3 classes"):
        VAEClassifier(**TINY, priors=[0.5, 0.5]).fit(*flowers(60))


def test_calibration_is_a_choice_after_the_fit(classifier):
    X, _ = flowers(40, seed=3)
    model = VAEClassifier.from_fitted(classifier)
    assert model.temperature_ == classifier.run_.temperature != 1
    raw = model.set_params(calibrate=False)
    assert raw.temperature_ == 1
    assert np.abs(raw.predict_proba(X) - classifier.predict_proba(X)).max() > 1e-4


def test_rows_unlike_any_class_are_seen(classifier):
    X, _ = flowers(400, seed=4)
    share = classifier.is_unlike(X).mean()
    num = len(classifier.calibration_)
    assert share < 0.05 + 3 * np.sqrt(0.05 * 0.95 * (1 / 400 + 1 / num))
    odd = X.assign(length=60.0)
    assert classifier.is_unlike(odd).all()
    assert (classifier.score_samples(odd) < classifier.score_samples(X).min()).all()
    assert not classifier.is_unlike(odd, rate=1e-4).any()  # so few held-out rows cannot tell
    with pytest.raises(ConfigError, match="rate"):
        classifier.is_unlike(X, rate=2.0)


def test_rows_of_a_class_are_drawn(classifier):
    drawn = classifier.sample(["a", "b", "c"] * 400)
    assert list(drawn.columns) == ["length", "width", "colour"]
    means = drawn["length"].groupby(np.arange(1200) % 3).mean()
    assert np.abs(means.to_numpy() - 2 * SHIFT[0]).max() < 0.7
    assert (classifier.predict(classifier.sample(200, y="b")) == "b").mean() > 0.7
    pd.testing.assert_frame_equal(classifier.sample(5, y="b"), classifier.sample(["b"] * 5))
    shares = pd.Series(classifier.predict(classifier.sample(2000))).value_counts(normalize=True)
    assert abs(shares["a"] - 0.6) < 0.1
    with pytest.raises(ConfigError, match="no class 'd'"):
        classifier.sample(3, y="d")
    with pytest.raises(ConfigError, match="of all 3 rows"):
        classifier.sample(3, y=["a", "b"])


def test_classes_keep_their_type_and_models_their_answers(classifier, tmp_path):
    X, y = flowers(60)
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict_proba(X), classifier.predict_proba(X))
    assert clone(classifier).get_params() == classifier.get_params()
    for labels in (y == "a", (y == "a") * 2.0, pd.Series(y, dtype="category"), np.where(y == "a", -1, 1), y.tolist()):
        model = VAEClassifier(**TINY).fit(X, labels)
        assert model.classes_.dtype.kind == np.unique(np.asarray(labels)).dtype.kind
        assert set(model.predict(X)) <= set(np.asarray(labels).tolist())
    classifier.save(tmp_path / "run")
    read = VAEClassifier.from_fitted(tmp_path / "run", num_importance_samples=20)
    assert read.classes_.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(read.predict_proba(X), classifier.predict_proba(X), atol=1e-9)
    assert VAETransformer.from_fitted(classifier).run_ is classifier.run_
    with pytest.raises(ConfigError, match="single label"):
        VAEClassifier.from_fitted(VAEDetector(**TINY, trim=0).fit(X))


def test_a_grid_search_goes_by_accuracy():
    X, y = flowers(120)
    search = GridSearchCV(VAEClassifier(**TINY), {"latent_dim": [1, 2]}, cv=2).fit(X, y)
    assert 0.7 < search.best_score_ <= 1


# --- What users get wrong ---------------------------------------------------------------------------------------------


def test_labels_that_cannot_be_learned_are_refused():
    X, y = flowers(60)
    number = np.arange(60) % 3
    for labels, words in (  # y, and a part of the message
        (np.zeros(60), "one class"),
        (np.linspace(0.5, 2.5, 60), "Unknown label type"),
        (np.where(number == 0, None, y), "row 0 has no label"),
        (np.where(number == 1, np.nan, number), "row 1 has no label"),
        (np.where(number == 1, np.inf, number), "row 1 has the label inf"),
        (number - 1, "label -1 beside 2 classes"),
        (y[:50], "inconsistent"),
        (None, "requires y"),
    ):
        with pytest.raises(ValueError, match=words):
            VAEClassifier(**TINY).fit(X, labels)


def test_a_class_of_one_row_is_trained_on():
    X, y = flowers(80)
    y = np.where(np.arange(80) == 5, "rare", y)
    model = VAEClassifier(**SMALL).fit(X, y)
    assert "rare" in model.classes_
    trained = model.run_.data.held_out
    assert 5 in vk.data.split(80, (1 - trained.fraction, trained.fraction), trained.seed)[0]
    assert np.isfinite(model.predict_log_proba(X)).all()
    singles = np.where(np.arange(40) < 16, np.arange(40).astype(str), "many")
    with pytest.warns(UserWarning, match="no row to train on"):
        VAEClassifier(**TINY).fit(X[:40], singles)


def test_labels_that_the_fit_never_met_are_said(tmp_path):
    X, y = flowers(60)
    X.assign(species=y).to_csv(tmp_path / "a.csv", index=False)
    words = {"preset": "conditional-vae", "max_epochs": 1, "hidden": (4,), "latent_dim": 1}
    runs.fit(str(tmp_path / "a.csv"), tmp_path / "run", words, label="species", progress=False)
    run = runs.open(tmp_path / "run")
    X.assign(species=np.where(np.arange(60) == 3, "d", y)).to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(DataError, match="row 3 of 'b' has the species 'd', which the fit never met"):
        run.rows(str(tmp_path / "b.csv"))
    assert run.classify(run.rows(str(tmp_path / "b.csv"), lenient=True)).columns[0] == "p_a"
    alone = X.assign(species="a")
    alone.to_csv(tmp_path / "c.csv", index=False)
    with pytest.raises(DataError, match="all rows .* have the label 'a'"):
        runs.fit(str(tmp_path / "c.csv"), tmp_path / "other", words, label="species", progress=False)


def test_contexts_that_do_not_fit_are_refused():
    model, x = gaussian_classes(), torch.zeros(4, 2, dtype=torch.float64)
    with pytest.raises(ShapeError, match=r"contexts have shape \(B, 1\)"):
        model.given(torch.zeros(4, 2))
    with pytest.raises(ShapeError, match="one row for each row of x"):
        vk.models.view.View.of(model, x, context=torch.zeros(4, 2))
    with pytest.raises(DataError, match="entry 0 of a context holds codes 0 ... 2"):
        vk.models.view.View.of(model, x, context=torch.full((4, 1), 3.0))
    plain, _ = vk.presets.vae((2,), latent_dim=1, hidden=(4,), likelihood="normal")
    with pytest.raises(ConfigError, match="given"):
        vk.models.view.View.of(plain, x.float(), context=torch.zeros(4, 1))
    with pytest.raises(ConfigError, match="conditioned on nothing"):
        queries.classify(plain, x.float())


# --- A label as a column ----------------------------------------------------------------------------------------------


def simulated(n, seed):
    """Rows of the Gaussian classes above."""
    rng = np.random.default_rng(seed)
    y = rng.choice(3, n, p=SHARES)
    z = rng.normal(size=(n, 1))
    return LOC + SHIFT.T[y] + z @ LOADINGS.T + rng.normal(size=(n, 2)) * np.sqrt(VARIANCE), y


def test_a_table_starts_as_a_linear_discriminant_analysis():
    """Before the first update p(y|x) is within .03, on average, of that of scikit-learn and of the truth."""
    x, y = simulated(1000, 0)
    new, _ = simulated(200, 1)
    X = pd.DataFrame(x, columns=["u", "v"])
    schema = Schema.found(X, name="X")
    rows = with_contexts(
        vk.data.Dataset(schema.encode(X, name="X"), y, columns=("u", "v"), kind="table", schema=schema),
        contexts_found(vk.data.Dataset(x, y)),
    )
    model = recipes.plan(recipes.settings({"preset": "conditional-vae"}), rows, progress=False).model
    found = queries.classify(model.eval(), torch.from_numpy(new), 100, generator=torch.Generator().manual_seed(0))
    p = found.probabilities.numpy()
    assert np.abs(p - LinearDiscriminantAnalysis().fit(x, y).predict_proba(new)).mean() < 0.03
    assert np.abs(p - exact_posterior(exact_log_p(new))).mean() < 0.03


@pytest.mark.slow
def test_a_label_as_a_column_and_the_classifier_agree():
    """Both p(y|x), from p(x|y) p(y) and from p(x, y), are the true one within .05 on average, and each other's."""
    x, y = simulated(2000, 0)
    new, _ = simulated(200, 1)
    names = np.array(["a", "b", "c"])
    X = pd.DataFrame(x, columns=["u", "v"])
    classes = VAEClassifier(hidden=32, random_state=0).fit(X, names[y])
    table = VAEDetector(hidden=32, trim=0, random_state=0).fit(X.assign(label=names[y]))
    ours = classes.predict_proba(pd.DataFrame(new, columns=["u", "v"]))
    column = []
    for name in names:
        rows = table._rows(pd.DataFrame(new, columns=["u", "v"]).assign(label=name))
        scores = queries.score_elements(table._run.model, rows, 500, generator=torch.Generator().manual_seed(0))
        column.append(np.exp(-scores.surprisal.numpy()[:, list(rows.columns).index("label")]))
    theirs = np.stack(column, 1)
    np.testing.assert_allclose(theirs.sum(1), 1, atol=0.05)
    exact = exact_posterior(exact_log_p(new))
    simple = LogisticRegression().fit(x, y).predict_proba(new)  # right for these classes
    assert np.abs(simple - exact).mean() < 0.05
    assert np.abs(ours - exact).mean() < 0.05
    assert np.abs(theirs - exact).mean() < 0.05
    assert np.abs(ours - theirs).mean() < 0.05
