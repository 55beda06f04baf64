"""Runs without a folder: fitted to rows, asked, saved, pickled; and what is odd beside held-out rows."""

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vaekit import cli, runs
from vaekit.data import Dataset
from vaekit.data.by_schema import load_by_schema
from vaekit.errors import ConfigError, DataError
from vaekit.runs.calibration import Calibration

SETTINGS = {"max_epochs": 4, "hidden": (16,), "latent_dim": 2, "compile": "off"}
WORDS = ["max_epochs=4", "hidden=16", "latent_dim=2", "compile=off"]


def frame(n=300, seed=0):
    """A town, an income that goes with it, an age with holes."""
    rng = np.random.default_rng(seed)
    town = rng.choice(["Bern", "Basel", "Thun"], n, p=[0.6, 0.3, 0.1])
    income = np.round(np.exp(rng.normal(8, 0.3, n) + 0.8 * (town == "Basel")), 2)
    age = np.where(rng.random(n) < 0.1, np.nan, np.round(rng.normal(45, 12, n), 1))
    return pd.DataFrame({"town": town, "income": income, "age": age})


@pytest.fixture(scope="module")
def rows():
    return load_by_schema(frame())


@pytest.fixture(scope="module")
def run(rows):
    return runs.fit_rows(rows, SETTINGS)


@pytest.fixture(scope="module")
def saved(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory") / "run"
    run.save(folder)
    return folder


def without(tree, *names):
    return {name: value for name, value in tree.items() if name not in names}


def test_a_saved_run_is_what_fit_writes(rows, saved, tmp_path):
    frame().to_csv(tmp_path / "people.csv", index=False)
    folder = tmp_path / "run"
    assert cli.run(["fit", str(tmp_path / "people.csv"), "-o", str(folder), "--quiet", *WORDS]) == 0
    assert sorted(path.name for path in saved.iterdir()) == sorted(path.name for path in folder.iterdir())
    assert (saved / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    mine, theirs = (json.loads((place / "config.json").read_text())["metadata"] for place in (saved, folder))
    assert without(mine, "seconds", "data") == without(theirs, "seconds", "data")
    apart = ("source", "name", "reading", "columns_schema")  # the file, how it was read, and the library of the frame
    assert without(mine["data"], *apart) == without(theirs["data"], *apart)
    first, second = (
        [without(json.loads(line), "seconds") for line in (place / "metrics.jsonl").read_text().splitlines()]
        for place in (saved, folder)
    )
    assert first == second


def test_every_question_has_the_same_answer_in_memory_and_from_the_folder(run, rows, saved):
    opened = runs.open(saved)
    new = frame(12, seed=1)
    for ask in (
        lambda r: r.score(r.rows(new), num_samples=10).values,
        lambda r: r.encode(r.rows(new)).values,
        lambda r: r.reconstruct(r.rows(new)).values,
        lambda r: r.sample(7).values,
        lambda r: r.detect(new, num_samples=10).values,
    ):
        np.testing.assert_array_equal(ask(run), ask(opened))
    assert run.split(rows).part == "validation rows"
    assert [len(part) for part in (run.split(rows).train, run.split(rows).held_out)] == [270, 30]
    found = run.evaluate(run.parts(rows), num_samples=10)
    assert found.to_dicts() == opened.evaluate(opened.parts(rows), num_samples=10).to_dicts()
    first, second = (json.dumps(without(r.describe(), "seconds"), sort_keys=True) for r in (run, opened))
    assert first == second
    assert run.records == opened.records
    assert repr(run) == "Run(in memory)"
    with pytest.raises(ConfigError, match="the run in memory does not say what it was fitted to; name the data"):
        run.rows()


def test_a_run_is_pickled_as_json_and_safetensors(run, saved):
    new = frame(5, seed=2)
    again = pickle.loads(pickle.dumps(run))
    assert b"torch" not in pickle.dumps(run).replace(b"pytorch", b"")
    np.testing.assert_array_equal(again.score(new, num_samples=5).values, run.score(new, num_samples=5).values)
    alone = runs.open(saved).in_memory()
    assert alone.folder is None
    np.testing.assert_array_equal(alone.score(new, num_samples=5).values, run.score(new, num_samples=5).values)


def test_a_run_is_saved_over_another_on_request_only(run, saved, tmp_path):
    with pytest.raises(ConfigError, match="exists"):
        run.save(saved)
    run.save(saved, overwrite=True)
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ConfigError, match="not a run's"):
        run.save(tmp_path)


def test_fitting_in_memory_writes_and_prints_nothing(rows, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    runs.fit_rows(rows.take(np.arange(60)), SETTINGS | {"max_epochs": 1})
    assert not list(Path().iterdir())
    assert capfd.readouterr() == ("", "")


def test_answers_in_float64_do_not_depend_on_place_or_neighbours(run):
    new = run.rows(frame(40, seed=3))
    together = run.in_float64.score(new, num_samples=20).values
    order = np.random.default_rng(0).permutation(40)
    np.testing.assert_allclose(run.in_float64.score(new.take(order), num_samples=20).values, together[order], rtol=1e-9)
    for i in (0, 17):
        alone = run.in_float64.score(new.take([i]), num_samples=20).values
        np.testing.assert_allclose(alone, together[[i]], rtol=1e-9)
    in_float32 = run.score(new, num_samples=20).values  # rows that get draws of their own may get others
    assert (np.abs(in_float32 - together)[:, 0] < 4 * np.maximum(in_float32, together)[:, 1]).all()


def test_a_fit_goes_on_from_another_run(rows):
    plain = SETTINGS | {"preset": "vae"}  # starts at random
    run = runs.fit_rows(rows, plain)
    further = runs.fit_rows(rows, plain, start=run)
    bounds = [r.records[0]["valid_elbo"] for r in (run, further)]
    assert bounds[1] > bounds[0] + 0.5
    assert further.model.transform.state_dict().keys() == run.model.transform.state_dict().keys()


# --- Weights ----------------------------------------------------------------------------------------------------------


def test_rows_of_no_weight_say_nothing_of_a_model():
    """Two clusters, one of weight 0: the fit puts no mass on it, and weights of 1 change nothing."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 2)) + 6.0 * (np.arange(400) % 2)[:, None]
    settings = SETTINGS | {"max_epochs": 60, "learning_rate": 0.01}
    one = runs.fit_rows(Dataset(x, kind="table", columns=("a", "b")), settings)
    same = runs.fit_rows(Dataset(x, kind="table", columns=("a", "b"), weights=np.ones(400)), settings)
    half = runs.fit_rows(
        Dataset(x, kind="table", columns=("a", "b"), weights=(np.arange(400) % 2 == 0).astype(float)), settings
    )
    np.testing.assert_allclose(same.sample(50).values, one.sample(50).values, atol=0.1)
    means = [r.sample(4000).values.mean() for r in (one, half)]
    assert abs(means[0] - 3) < 0.5
    assert abs(means[1]) < 0.3


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, -1.0, 1.0], r"finite and not negative; row 1 has -1"),
        ([0.0, 0.0, 0.0], "all 0"),
        ([1.0, np.nan, 1.0], "row 1 has nan"),
        ([1.0, 1.0], r"shape \(3,\)"),
        (["a", "b", "c"], "must be numbers"),
    ],
)
def test_weights_that_are_none_are_refused(weights, message):
    with pytest.raises(DataError, match=message):
        Dataset(np.ones((3, 1)), weights=weights)


def test_weights_go_along_with_rows():
    data = Dataset(np.ones((4, 1)), weights=[1, 2, 3, 4])
    assert data.take([2, 0]).weights.tolist() == [3.0, 1.0]


# --- Odd rows ---------------------------------------------------------------------------------------------------------


def test_p_values_are_ranks_among_held_out_rows():
    """By hand, with ties, rows without a number, and rates that no number of rows can tell."""
    calibration = Calibration((None, -5.0, -5.0, -2.0), 100)
    p = calibration.p_values(np.array([-np.inf, np.nan, -6.0, -5.0, -2.0, 1.0]))
    assert (p * 5).round(9).tolist() == [2, 2, 2, 4, 5, 5]
    assert calibration.threshold(0.6) == (-5.0, 0.6)
    assert calibration.threshold(0.2) == (-np.inf, 0.2)
    assert calibration.threshold(0.1) == (-np.inf, 0.0)
    assert calibration.threshold() == (-np.inf, 0.2)  # 5% would call nothing odd
    assert Calibration(tuple(np.arange(99.0)), 1).threshold() == (4.0, 0.05)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 0.37, 0.9])
def test_the_threshold_and_the_p_values_agree(rate):
    rng = np.random.default_rng(1)
    calibration = Calibration(tuple(np.sort(rng.normal(size=150)).tolist()), 100)
    log_p = np.concatenate([rng.normal(size=500), calibration.values])
    np.testing.assert_array_equal(log_p < calibration.threshold(rate)[0], calibration.p_values(log_p) <= rate)


def test_p_values_of_normal_rows_are_valid(rows):
    """Of rows like those of the fit, a share of a at most has p <= a, to three standard errors."""
    run = runs.fit_rows(load_by_schema(frame(3000, seed=4)), SETTINGS)
    found = run.detect(frame(3000, seed=5), num_samples=10)
    p, n = found.to_dict()["p_value"], 300
    for a in (0.01, 0.05, 0.1):
        stderr = np.sqrt(a * (1 - a) * (1 / 3000 + 1 / n))
        assert abs((p <= a).mean() - a) < 3 * stderr + 1 / (n + 1), a


def test_detect_flags_rows_unlike_the_others(run):
    new = frame(50, seed=6)
    new.loc[7, "income"] = 9e6
    found = run.detect(new)
    assert found.columns == ("log_p", "p_value")
    columns = found.to_dict()
    assert list(columns) == ["row", "log_p", "p_value", "outlier", "reason"]
    assert columns["outlier"].dtype == bool
    assert columns["outlier"][7]
    assert columns["p_value"][7] == 1 / 31
    assert columns["outlier"].sum() < 12
    assert "rows are outliers: log_p below" in found.notes[-1]
    assert "as at most 3.23% of rows like those of the fit are (calibrated on 30 rows" in found.notes[-1]
    none = run.detect(new, rate=0.01)
    assert not none.to_dict()["outlier"].any()
    assert "no row is called an outlier at a rate of 0.01: calibrated on 30 rows" in none.notes[-1]
    np.testing.assert_array_equal(run.detect(new).values, found.values)
    with pytest.raises(ConfigError, match="rate is a share"):
        run.detect(new, rate=2)


def test_a_run_without_a_calibration_reads_its_held_out_rows_again(rows, tmp_path, run):
    frame().to_csv(tmp_path / "people.csv", index=False)
    folder = tmp_path / "run"
    assert cli.run(["fit", str(tmp_path / "people.csv"), "-o", str(folder), "--quiet", *WORDS]) == 0
    tree = json.loads((folder / "config.json").read_text())
    kept = runs.open(folder).calibrations
    del tree["metadata"]["calibration"]
    (folder / "config.json").write_text(json.dumps(tree))
    old, new = runs.open(folder), frame(9, seed=8)
    np.testing.assert_allclose(old.detect(new).values, run.detect(new).values, rtol=1e-6)
    assert [c.num_samples for c in kept] == [100, 10]
    (tmp_path / "people.csv").unlink()
    with pytest.raises(DataError, match="not at"):
        runs.open(folder).detect(new)
