"""Estimators: scikit-learn's contract, and that each is a thin face over one fitted model."""

import copy
import inspect
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import vaekit as vk
from vaekit import cli, runs
from vaekit.errors import ConfigError
from vaekit.estimators import VAEDetector, VAEImputer, VAESynthesizer, VAETransformer
from vaekit.estimators.shared import DEFAULTS, KEYS, NOT_SHARED, Shared
from vaekit.evaluation.samples.closest import closest_records
from vaekit.recipes import Settings

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse", "ignore:autoencoder")

TINY = {"max_epochs": 1, "hidden": 8, "latent_dim": 1, "compile": "off", "num_importance_samples": 5, "random_state": 0}
SMALL = {**TINY, "max_epochs": 4, "hidden": 16, "num_importance_samples": 20}
PLAIN = {**SMALL, "preset": "vae", "max_epochs": 40, "learning_rate": 0.01, "batch_size": 32}  # starts at random
ALL = (VAETransformer, VAEDetector, VAEImputer, VAESynthesizer)
WEIGHTS = (
    "minibatches are drawn at random and rows are held out: a weight of 2 is the same as two rows in expectation, not "
    "number by number"
)


def expected_failed_checks(estimator):
    names = ["check_sample_weight_equivalence_on_dense_data"]
    return dict.fromkeys(names, WEIGHTS)


@parametrize_with_checks(
    [VAETransformer(**TINY), VAEDetector(trim=0, **TINY), VAEImputer(**TINY), VAESynthesizer(**TINY)],
    expected_failed_checks=expected_failed_checks,
)
def test_contract_of_scikit_learn(estimator, check):
    check(estimator)


def people(n=300, seed=0):
    """A town, an income that goes with it, an age with holes, a day, an identifier."""
    rng = np.random.default_rng(seed)
    town = rng.choice(["Bern", "Basel", "Thun"], n, p=[0.6, 0.3, 0.1])
    income = np.round(np.exp(rng.normal(8, 0.3, n) + 0.8 * (town == "Basel")), 2)
    age = np.where(rng.random(n) < 0.1, np.nan, np.round(rng.normal(45, 12, n), 1))
    day = pd.Timestamp("2024-03-01") + pd.to_timedelta(rng.integers(0, 90, n), unit="D")
    id_ = [f"p{i:04d}" for i in range(n)]
    return pd.DataFrame({"id": id_, "town": town, "income": income, "age": age, "day": day})


def plane(n=400, seed=0, noise=0.1):
    """Four columns of two degrees of freedom."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 2))
    return np.column_stack([z, z.sum(1), z[:, 0] - z[:, 1]]) + noise * rng.normal(size=(n, 4))


@pytest.fixture(scope="module")
def detector():
    return VAEDetector(**SMALL, trim=0).fit(people())


# --- Parameters -------------------------------------------------------------------------------------------------------


def test_parameters_are_the_keys_of_the_command_line():
    assert set(KEYS.values()) == set(Settings.model_fields) - set(NOT_SHARED)
    assert set(KEYS) <= set(Shared.__annotations__)
    for kind in ALL:
        signature = inspect.signature(kind)
        assert set(DEFAULTS) <= set(signature.parameters)
        assert all(p.kind is p.KEYWORD_ONLY for p in signature.parameters.values())
        assert set(kind().get_params()) == set(signature.parameters)
    with pytest.raises(TypeError, match="no parameter latent_dims"):
        VAEDetector(latent_dims=3)
    with pytest.raises(ConfigError, match="likelihood"):
        VAETransformer(likelihood="none-such").fit(plane(30))


def test_import_of_vaekit_needs_no_scikit_learn():
    code = "import sys, vaekit; print('sklearn' in sys.modules, 'torch' in sys.modules, 'estimators' in dir(vaekit))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False True\n"
    assert vk.estimators.VAEDetector is VAEDetector


# --- One fitted model -------------------------------------------------------------------------------------------------


def test_a_fit_is_that_of_the_command_line(tmp_path):
    table = people()
    table.to_parquet(tmp_path / "people.parquet")
    words = ["max_epochs=2", "hidden=8", "latent_dim=1", "compile=off", "seed=3"]
    assert cli.run(["fit", str(tmp_path / "people.parquet"), "-o", str(tmp_path / "run"), "--quiet", *words]) == 0
    settings = TINY | {"max_epochs": 2, "random_state": 3}
    own = VAETransformer(**settings).fit(table)
    theirs = runs.open(tmp_path / "run")
    read_again = VAETransformer.from_fitted(theirs)
    assert read_again.get_params()["latent_dim"] == 1
    assert read_again.random_state == 3
    for name, value in theirs.model.state_dict().items():
        assert torch.equal(value, own.run_.model.state_dict()[name]), name
    own.save(tmp_path / "saved")
    np.testing.assert_array_equal(
        VAETransformer.from_fitted(str(tmp_path / "saved")).transform(table.head(5)), own.transform(table.head(5))
    )
    with pytest.raises(ConfigError, match="exists"):
        own.save(tmp_path / "saved")


def test_estimators_convert_into_each_other_without_a_fit(detector):
    new = people(20, seed=1)
    for kind in ALL:
        made = kind.from_fitted(detector)
        assert made.run_ is detector.run_
        assert made.get_params()["hidden"] == 16
        np.testing.assert_array_equal(made.score_samples(new), detector.score_samples(new))
        assert made.score(new) == detector.score_samples(new).mean()
        assert list(made.feature_names_in_) == list(new.columns)
    assert VAEImputer.from_fitted(detector).transform(new).isna().sum().sum() == 0
    assert VAETransformer.from_fitted(detector, latent_dim=7).latent_dim == 7
    with pytest.raises(NotFittedError):
        VAEImputer.from_fitted(VAEDetector())
    digits = runs.fit_rows(vk.data.load("digits:test").take(np.arange(40)), {"max_epochs": 1, "hidden": (4,)})
    with pytest.raises(ConfigError, match="estimators take tables"):
        VAEImputer.from_fitted(digits)


def test_fits_repeat_bit_for_bit_and_leave_global_streams_alone():
    x = plane(80)
    state, torch_state = np.random.get_state()[1].copy(), torch.random.get_rng_state()  # noqa: NPY002
    first, second = (VAETransformer(**TINY).fit(x).transform(x) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    stream = np.random.RandomState(0)
    drawn = [VAETransformer(**TINY | {"random_state": stream}).fit(x).transform(x) for _ in range(2)]
    assert not np.allclose(drawn[0], drawn[1])


def test_scores_repeat_and_do_not_depend_on_place_or_neighbours(detector):
    new = people(30, seed=2)
    together = detector.score_samples(new)
    np.testing.assert_array_equal(detector.score_samples(new), together)
    order = np.random.default_rng(0).permutation(30)
    np.testing.assert_allclose(detector.score_samples(new.iloc[order]), together[order], rtol=1e-9)
    np.testing.assert_allclose(detector.score_samples(new.iloc[[4]]), together[[4]], rtol=1e-9)


def test_estimators_can_be_pickled_and_cloned(detector):
    new = people(10, seed=3)
    again = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(again.score_samples(new), detector.score_samples(new))
    np.testing.assert_array_equal(again.predict(new), detector.predict(new))
    assert not hasattr(clone(detector), "run_")
    assert clone(detector).get_params() == detector.get_params()


def test_warm_start_goes_on_from_the_weights():
    x = plane(200)
    estimator = VAETransformer(**PLAIN | {"max_epochs": 80, "latent_dim": 2}, warm_start=True).fit(x)
    first = estimator.run_.records[0]["valid_elbo"]
    further = estimator.fit(x).run_.records[0]["valid_elbo"]
    assert further > first + 0.3
    with pytest.raises(ValueError, match="expecting 4 features"):
        estimator.fit(x[:, :2])


def test_partial_fit_fits_first_and_then_goes_on_from_the_weights():
    first, second = people(60), people(60, seed=1)
    second.loc[0, "town"] = "Zug"
    whole = VAEImputer(**TINY).fit(first)
    parts = VAEImputer(**TINY).partial_fit(first)
    np.testing.assert_array_equal(parts.score_samples(first), whole.score_samples(first))
    known, state = parts.run_.data, copy.deepcopy(parts.run_.model.state_dict())
    with pytest.warns(vk.errors.ReadingWarning, match="the first is 'Zug' in row 0, column 'town'"):
        parts.set_params(learning_rate=1e-12).partial_fit(second)
    assert parts.run_.data.columns_schema == known.columns_schema
    for name, value in parts.run_.model.state_dict().items():  # the transform among them
        torch.testing.assert_close(value, state[name], rtol=0, atol=1e-9)
    moved = parts.set_params(**PLAIN).partial_fit(people(200, seed=2)).run_.model.state_dict()
    assert any(not torch.equal(value, state[name]) for name, value in moved.items())
    with pytest.raises(ValueError, match="feature names"):
        parts.partial_fit(second[["town", "age"]])


def test_partial_fit_counts_new_levels_as_other_where_a_column_has_that():
    """The second call is the fit of a run, on new rows, with what the schema makes of them."""
    table = people(80)[["town", "income"]]
    schema = VAEDetector(**TINY, trim=0).fit(table).run_.data.columns_schema
    schema = type(schema).model_validate(
        {"columns": [c.model_dump() | ({"other": True} if c.name == "town" else {}) for c in schema.columns]}
    )
    model = VAESynthesizer(**TINY, schema=schema).partial_fit(table)
    new = people(50, seed=3)[["town", "income"]]
    new.loc[4, "town"] = "Zug"
    expected = runs.fit_rows(
        vk.data.Dataset(schema.encode(new), columns=("town", "income"), kind="table", schema=schema),
        {key: model.get_params()[name] for name, key in KEYS.items() if model.get_params()[name] is not None}
        | {"hidden": (8,), "seed": 0},
        rule=model._rule(new),
        start=model.run_,
    )
    model.partial_fit(new)
    for name, value in expected.model.state_dict().items():
        assert torch.equal(value, model.run_.model.state_dict()[name]), name
    assert model.sample(7).shape == (7, 2)  # not as many rows as were fitted


def test_weights_reach_the_fit_through_a_pipeline_too():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, (200, 2)), rng.normal(6, 1, (200, 2))])
    weight = np.repeat([1.0, 0.0], 200)
    weighted = VAESynthesizer(**PLAIN).fit(x, sample_weight=weight).sample(1000).mean()
    plain = VAESynthesizer(**PLAIN).fit(x).sample(1000).mean()
    assert abs(weighted) < 0.5
    assert abs(plain - 3) < 1
    from sklearn import config_context

    with config_context(enable_metadata_routing=True):
        steps = make_pipeline(SimpleImputer(), VAETransformer(**TINY).set_fit_request(sample_weight=True))
        routed = steps.fit(x, sample_weight=weight)[-1]
    alone = VAETransformer(**TINY).fit(x, sample_weight=weight)
    np.testing.assert_array_equal(routed.transform(x), alone.transform(x))
    with pytest.raises(ValueError, match="[Nn]egative"):
        VAETransformer(**TINY).fit(x, sample_weight=-weight)
    with pytest.raises(ValueError, match="non-zero"):
        VAETransformer(**TINY).fit(x, sample_weight=0 * weight)


def test_a_grid_search_goes_by_held_out_log_p():
    x = plane(240)
    plain = VAETransformer(**SMALL | {"preset": "vae", "batch_size": 16})  # the default begins where others end
    search = GridSearchCV(plain, {"latent_dim": [1], "max_epochs": [1, 20]}, cv=2)
    search.fit(x)
    assert search.best_params_["max_epochs"] == 20
    assert search.best_score_ == pytest.approx(search.cv_results_["mean_test_score"].max())


def test_rows_without_a_schema_are_taken_too():
    """A run of nothing but numbers, fitted without a schema, has faces as others do."""
    x = plane(60)
    run = runs.fit_rows(vk.data.Dataset(x), {"max_epochs": 1, "hidden": (8,), "latent_dim": 1, "compile": "off"})
    codes = VAETransformer.from_fitted(run)
    np.testing.assert_allclose(codes.transform(x), run.encode(vk.data.Dataset(x)).values, atol=1e-5)
    assert codes.inverse_transform(codes.transform(x)).shape == (60, 4)
    assert VAESynthesizer.from_fitted(run).sample(3).shape == (3, 4)


# --- Tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_frames_of_any_library_have_the_same_codes(library):
    import narwhals as nw

    table = people(60)
    X = nw.from_dict({name: table[name].to_list() for name in ("town", "income")}, backend=library).to_native()
    codes = VAETransformer(**TINY).fit(X)
    expected = VAETransformer(**TINY).fit(table[["town", "income"]])
    np.testing.assert_allclose(codes.transform(X), expected.transform(table[["town", "income"]]), rtol=1e-6)
    back = codes.inverse_transform(codes.transform(X))
    assert type(back) is type(X)


def test_inverse_transform_gives_cells():
    table = people(120)
    codes = VAETransformer(**SMALL).fit(table)
    back = codes.inverse_transform(codes.transform(table))
    assert list(back.columns) == list(table.columns)
    assert set(back["town"]) <= {"Bern", "Basel", "Thun"}
    assert back["day"].dtype == table["day"].dtype
    assert codes.set_output(transform="pandas").transform(table.iloc[3:5]).index.tolist() == [3, 4]
    x = plane(200)
    numbers = VAETransformer(**SMALL | {"latent_dim": 2}).fit(x)
    error = ((numbers.inverse_transform(numbers.transform(x)) - x) ** 2).mean() / x.var(0).mean()
    assert error < 0.1
    with pytest.raises(ValueError, match="codes have 2"):
        numbers.inverse_transform(np.zeros((3, 3)))


def test_arrays_of_objects_hold_words_and_holes():
    table = people(80)[["town", "income", "age"]]
    X = table.to_numpy()
    X[3, 0] = None
    filled = VAEImputer(**TINY).fit(X).transform(X)
    assert filled.dtype == object
    assert filled[3, 0] in {"Bern", "Basel", "Thun"}
    assert not pd.isna(filled[:, 2].astype(float)).any()


def test_a_schema_can_be_told(tmp_path):
    table = people(80)[["town", "income", "age"]]
    told = VAETransformer(**TINY, schema={"age": "heavy-tailed"}).fit(table)
    schema = told.run_.data.columns_schema
    assert schema["age"].kind == "heavy-tailed"
    schema.save(tmp_path / "schema.json")
    for given in (schema, tmp_path / "schema.json"):
        again = VAETransformer(**TINY, schema=given).fit(table)
        np.testing.assert_array_equal(again.transform(table), told.transform(table))
    with pytest.raises(ConfigError, match="schema is a Schema"):
        VAETransformer(**TINY, schema=3).fit(table)


def test_whole_numbers_of_an_array_are_no_identifiers():
    x = np.column_stack([np.arange(80), np.random.default_rng(0).normal(size=80)])
    assert VAETransformer(**TINY).fit(x).run_.data.columns == ("x0", "x1")


# --- Detector ---------------------------------------------------------------------------------------------------------


def test_p_values_are_valid_on_normal_rows():
    """Within three standard errors, those of the calibration rows included, whatever the fit is worth."""
    model = VAEDetector(**SMALL, validation_fraction=0.4).fit(plane(1000))
    p, num = model.p_values(plane(3000, seed=1)), len(model.calibration_)
    assert num == 400
    for a in (0.01, 0.05, 0.1):
        stderr = np.sqrt(a * (1 - a) * (1 / 3000 + 1 / num))
        assert abs((p <= a).mean() - a) < 3 * stderr + 1 / (num + 1), a
    np.testing.assert_array_equal(model.predict(plane(500, seed=2)) == -1, model.p_values(plane(500, seed=2)) <= 0.05)


def test_outliers_are_found_and_explained(detector):
    new = people(40, seed=4)
    new.loc[5, "income"] = 9e6
    assert detector.predict(new)[5] == -1
    assert detector.decision_function(new).argmin() == 5
    shares = detector.score_features(new)
    assert shares.shape == (40, 5)
    assert np.isnan(shares[:, 0]).all()  # an identifier
    np.testing.assert_array_equal(np.isnan(shares[:, 3]), new["age"].isna())
    assert shares[:, 2].argmax() == 5
    flags = detector.run_.detect(new, num_samples=20).to_frame("pandas")
    assert flags["reason"][5].startswith("income = 9,000,000: expected")
    assert (flags["reason"][~flags["outlier"]] == "").all()


def test_a_threshold_is_changed_without_a_fit():
    x, new = plane(300), plane(200, seed=1)
    model = VAEDetector(**SMALL, trim=0, validation_fraction=0.3).fit(x)
    scores = model.score_samples(new)
    np.testing.assert_array_equal(model.set_threshold(0.2).predict(new) == -1, model.p_values(new) <= 0.2)
    np.testing.assert_array_equal(model.set_threshold(log_p=-3.0).predict(new) == -1, scores < -3)
    assert (model.set_threshold(0.001).predict(new) == 1).all()  # 90 rows cannot tell
    share = VAEDetector.from_fitted(model, contamination=0.1)
    assert share.offset_ == model.calibration_.threshold(0.1)[0]
    trained = VAEDetector(**SMALL, trim=0, contamination=0.1).fit(x)
    assert (trained.predict(x) == -1).sum() == 30
    for wrong in ({"contamination": 0.7}, {"trim": 1.0}, {"contamination": "some"}):
        with pytest.raises(ConfigError, match="share"):
            VAEDetector(**TINY, **wrong).fit(x)
    with pytest.raises(ConfigError, match="rate"):
        model.set_threshold(2.0)


@pytest.mark.slow
def test_trimmed_training_leaves_out_the_oddest_rows():
    """A tenth of the rows is scattered: the second fit has no use for it, and log p of such rows falls."""
    rng = np.random.default_rng(0)
    x = np.concatenate([plane(360, noise=0.3), rng.uniform(-8, 8, (40, 4))])[rng.permutation(400)]
    new, odd = plane(100, seed=3, noise=0.3), rng.uniform(-8, 8, (100, 4))
    once, twice = (VAEDetector(**PLAIN | {"latent_dim": 2, "max_epochs": 30}, trim=trim).fit(x) for trim in (0, 0.1))
    assert np.median(twice.score_samples(odd)) < np.median(once.score_samples(odd)) - 5
    assert twice.score_samples(new).mean() > once.score_samples(new).mean() + 0.5
    assert (once.run_.data.num_rows, twice.run_.data.num_rows) == (400, 324)
    assert len(twice.calibration_) == 40  # those that were trimmed too


def test_cells_that_the_fit_never_met_are_said_and_count_as_holes(detector):
    new = people(5, seed=9)
    new.loc[3, "town"], new.loc[4, "income"] = "Zug", -1.0
    with pytest.warns(vk.errors.ReadingWarning, match="2 cells of X .* first is 'Zug' in row 3, column 'town'"):
        scores = detector.score_samples(new)
    hidden = new.assign(town=new["town"].replace("Zug", None), income=new["income"].replace(-1.0, np.nan))
    expected = detector.score_samples(hidden) + np.array([0, 0, 0, -np.log(301), -np.inf])
    np.testing.assert_allclose(scores, expected, rtol=1e-9)
    with pytest.warns(vk.errors.ReadingWarning, match="Zug"):
        filled = VAEImputer.from_fitted(detector).transform(new)
    assert filled["town"].tolist() == new["town"].tolist()  # what was observed stays


# --- Imputer ----------------------------------------------------------------------------------------------------------


def test_fills_are_better_than_the_mean():
    x = plane(400)
    hidden = np.random.default_rng(1).random(x.shape) < 0.2
    X = np.where(hidden, np.nan, x)
    imputer = VAEImputer(**SMALL | {"latent_dim": 2}).fit(X)
    filled = imputer.transform(X)
    np.testing.assert_array_equal(filled[~hidden], x[~hidden])
    error = [np.sqrt(((f - x)[hidden] ** 2).mean()) for f in (filled, SimpleImputer().fit_transform(X))]
    assert error[0] < 0.7 * error[1]
    draws = imputer.impute(X, num_draws=4)
    assert len(draws) == 4
    spread = np.std([draw[hidden] for draw in draws], axis=0)
    assert spread.mean() > 0.05
    np.testing.assert_array_equal(draws[0][~hidden], x[~hidden])
    np.testing.assert_array_equal(imputer.impute(X, num_draws=4)[1], draws[1])
    assert np.abs(imputer.impute(X, num_draws=1, random_state=9)[0] - draws[0]).max() > 0.01


def test_indicators_and_marks_of_holes():
    table = people(80)
    imputer = VAEImputer(**TINY, add_indicator=True).fit(table)
    filled = imputer.transform(table)
    assert list(filled.columns) == [*table.columns, "missingindicator_age"]
    assert filled.columns.tolist() == imputer.get_feature_names_out().tolist()
    np.testing.assert_array_equal(filled["missingindicator_age"], table["age"].isna())
    assert filled["town"].tolist() == table["town"].tolist()
    again = VAEImputer.from_fitted(imputer, add_indicator=True)
    assert again.get_feature_names_out().tolist() == imputer.get_feature_names_out().tolist()
    x = plane(60)
    marked = np.where(np.isnan(X := np.where(np.random.default_rng(0).random(x.shape) < 0.2, np.nan, x)), -999.0, X)
    expected = VAEImputer(**TINY).fit(X).transform(X)
    np.testing.assert_array_equal(VAEImputer(**TINY, missing_values=-999).fit(marked).transform(marked), expected)
    frame = pl.DataFrame(marked, schema=["a", "b", "c", "d"])
    given = VAEImputer(**TINY, missing_values=-999).fit(frame).transform(frame)
    assert isinstance(given, pl.DataFrame)
    assert given.null_count().sum_horizontal().item() == 0


def test_imputation_is_a_step_of_a_pipeline():
    table = people(120)
    y = (table["town"] == "Basel").to_numpy()
    steps = make_pipeline(VAETransformer(**SMALL), LogisticRegression()).fit(table, y)
    assert steps.predict(people(10, seed=5)).shape == (10,)
    named = VAEImputer(**TINY).set_output(transform="pandas").fit(plane(40))
    assert named.transform(plane(40)).columns.tolist() == ["x0", "x1", "x2", "x3"]


# --- Synthesizer ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def synthesizer():
    return VAESynthesizer(**SMALL | {"max_epochs": 10, "latent_dim": None, "num_importance_samples": 50}).fit(
        people(1000)
    )


def test_synthetic_rows_have_the_frequencies_of_the_data(synthesizer):
    drawn = synthesizer.sample(4000)
    table = people(1000)
    assert list(drawn.columns) == list(table.columns)
    assert drawn["town"].dtype == table["town"].dtype
    for town in ("Bern", "Basel", "Thun"):
        assert abs((drawn["town"] == town).mean() - (table["town"] == town).mean()) < 0.05
    assert drawn["id"].is_unique
    assert abs(np.log(drawn["income"]).mean() - np.log(table["income"]).mean()) < 0.2
    pd.testing.assert_frame_equal(synthesizer.sample(5), synthesizer.sample(5))
    assert not synthesizer.sample(5, random_state=1)["income"].equals(synthesizer.sample(5)["income"])


def test_rows_can_be_drawn_with_given_cells(synthesizer):
    drawn = synthesizer.sample(300, given={"town": "Basel"})
    assert set(drawn["town"]) == {"Basel"}
    others = synthesizer.sample(300, given={"town": "Bern"})
    assert np.log(drawn["income"]).mean() > np.log(others["income"]).mean() + 0.3
    with pytest.raises(ConfigError, match="no level"):
        synthesizer.sample(3, given={"town": "Zug"})
    partial = people(6, seed=7)
    partial.loc[[1, 2], "town"] = None
    like = synthesizer.sample_like(partial)
    assert like["town"].notna().all()
    assert like["age"].notna().all()
    assert like["income"].tolist() == partial["income"].tolist()


def test_levels_can_be_balanced(synthesizer):
    drawn = synthesizer.sample(301, balance="town")
    assert sorted(drawn["town"].value_counts().tolist()) == [100, 100, 101]
    assert drawn["town"].head(40).nunique() == 3  # in random order
    with pytest.raises(ConfigError, match="'income' is positive"):
        synthesizer.sample(10, balance="income")
    x = np.column_stack([plane(200), np.random.default_rng(0).random(200) < 0.1])
    numbers = VAESynthesizer(**TINY).fit(x)
    assert numbers.sample(40, balance=4)[:, 4].sum() == 20


def test_rows_known_by_heart_are_noticed(synthesizer):
    found = synthesizer.privacy(people(1000), people(400, seed=8))
    assert found.is_private
    assert abs(found.share_closer - 0.5) < 0.1
    assert found.num_rows == 400
    rng = np.random.default_rng(0)
    train, held_out = rng.normal(size=(2, 300, 3))
    leaked = closest_records(train + 0.01 * rng.normal(size=train.shape), train, held_out)
    assert not leaked.is_private
    assert leaked.share_closer > 0.9
    copied = closest_records(train, train, held_out)
    assert (copied.copies, copied.copies_held_out) == (1.0, 0.0)
    rare = closest_records(np.zeros((50, 1)), np.zeros((50, 1)), np.zeros((50, 1)))
    assert (rare.share_closer, rare.copies, rare.copies_held_out) == (0.5, 1.0, 1.0)
    assert rare.is_private
