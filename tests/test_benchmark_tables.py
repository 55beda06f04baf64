"""The comparison on tables: its baselines against closed forms, its words on differences, its page."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # the folder beside the library is no installed package

import benchmarks.tables as suite
from benchmarks.common import Options
from benchmarks.report import machine
from benchmarks.tables import imputation, page, rare, synthesis
from benchmarks.tables.sets import LABELLED, Tables, stratified

TABLES = Path(os.environ.get("VAEKIT_DATA", "none"), "tables")


def test_em_fills_by_the_conditional_mean_of_the_normal_that_made_the_rows():
    random = np.random.default_rng(0)
    loadings = random.normal(size=(5, 2))
    covariance = loadings @ loadings.T + 0.3 * np.eye(5)
    x = random.multivariate_normal(np.zeros(5), covariance, 4000)
    where = imputation.hidden(x.shape, 0.3, 0)
    filled = imputation.em_normal(np.where(where, np.nan, x), ridge=0.0)
    best = x.copy()
    for i in range(len(x)):
        m, o = np.flatnonzero(where[i]), np.flatnonzero(~where[i])
        best[i, m] = covariance[np.ix_(m, o)] @ np.linalg.solve(covariance[np.ix_(o, o)], x[i, o])
    assert np.sqrt(np.mean((filled - best)[where] ** 2)) < 0.06
    assert imputation.error(filled, x, where) == pytest.approx(imputation.error(best, x, where), abs=0.005)


def test_hidden_cells_leave_something_in_each_row():
    where = imputation.hidden((500, 3), 0.9, 0)
    assert not where.all(1).any()
    assert imputation.hidden((4000, 9), 0.3, 1).mean() == pytest.approx(0.3, abs=0.01)


def test_rows_are_divided_by_class():
    is_anomalous = np.arange(1000) < 100
    train, test = stratified(is_anomalous, 10_000, 0)
    assert (len(train), len(test)) == (700, 300)
    assert (is_anomalous[train].sum(), is_anomalous[test].sum()) == (70, 30)
    assert not set(train) & set(test)


def test_the_nearest_rows_vote_for_a_level():
    frame = pd.DataFrame({"a": ["u"] * 6 + ["v"] * 6, "b": ["x"] * 6 + ["y"] * 6})
    holed = frame.copy()
    holed.loc[3, "b"] = None
    assert imputation._voted(holed, 3).loc[3, "b"] == "x"


def test_what_can_be_learned_from_rows():
    random = np.random.default_rng(0)
    x = random.normal(size=2000)
    frame = pd.DataFrame({"x": x, "y": np.where(x + 0.1 * random.normal(size=2000) > 0, "high", "low"), "z": 2 * x})
    shuffled = synthesis.independent(frame, 0)
    assert synthesis.learned(frame[:1000], frame[1000:], "y")["learned"] > 0.98
    assert synthesis.learned(shuffled[:1000], frame[1000:], "y")["learned"] < 0.85
    assert synthesis.learned(frame[:1000], frame[1000:], "z")["learned"] > 0.98
    assert synthesis.copied(frame[:500], frame)["copied"] == 1
    assert synthesis.copied(shuffled, frame)["copied"] < 0.01


def test_rare_rows_have_the_levels_that_they_say():
    frame = rare.rows(200_000, 0)
    for name, share in rare.LEVELS.items():
        assert (frame["level"] == name).mean() == pytest.approx(share, abs=0.003)
    assert rare.largest_difference(frame, frame) == 0


def of_seeds(*values):
    return {str(seed): {"m": value} for seed, value in enumerate(values)}


def test_a_difference_is_one_beyond_two_standard_errors_of_the_pairs():
    ours, theirs = of_seeds(0.9, 0.8, 0.7), of_seeds(0.8, 0.7, 0.61)
    assert page.verdict(ours, theirs, "m") == "better"
    assert page.verdict(ours, theirs, "m", lower_is_better=True) == "worse"
    assert page.verdict(theirs, ours, "m") == "worse"
    assert page.verdict(ours, of_seeds(0.8, 0.9, 0.7), "m") == "equal"
    assert page.verdict(ours, of_seeds(0.5), "m") == "better"  # one seed beside the spread of ours
    assert page.verdict(of_seeds(0.9), of_seeds(0.5), "m") == "?"


def test_the_page_lists_losses_and_says_what_is_not_measured():
    records = {
        "imputation-a": {
            "contestants": {
                "mean": {"0.1/0": {"error": 1.0}, "0.1/1": {"error": 1.01}},
                "kNN": {"0.1/0": {"error": 0.5}, "0.1/1": {"error": 0.51}},
                "vaekit": {
                    "0.1/0": {"error": 0.7, "covered": 95, "cells": 100},
                    "0.1/1": {"error": 0.7, "covered": 93, "cells": 100},
                },
            },
            "machine": {"cpu": "some", "cores": 2, "versions": {"torch": "2"}},
        }
    }
    text = page.written(records)
    assert "| a | 1.005 | 0.505 | - | - | 0.700 | better (mean), worse (kNN) |" in text
    assert "| pooled | 0.940 | 200 |" in text
    assert "Not measured yet." in text


@pytest.mark.skipif(not (Path(__file__).parents[1] / "benchmarks" / "tables.md").exists(), reason="no page yet")
def test_the_page_is_that_of_the_records():
    root = Path(__file__).parents[1] / "benchmarks"
    text = (root / "tables.md").read_text(encoding="utf-8")
    pages = [page.written(suite.stored(folder)) for folder in sorted((root / "records").glob("*/tables"))]
    assert text in pages


@pytest.mark.skipif(not TABLES.is_dir(), reason="needs the tables ($VAEKIT_DATA)")
def test_labelled_sets_have_anomalous_rows():
    tables = Tables(TABLES)
    for which in LABELLED:
        frame, is_anomalous = tables.labelled(which)
        assert 0 < is_anomalous.mean() < 0.5, which
        assert len(frame) == len(is_anomalous)


def small_tables(folder):
    """Sets of the names and columns that the quick jobs look for, made up."""
    random = np.random.default_rng(0)
    n = 160
    z = random.normal(size=(n, 2))
    numbers = {f"V{i}": z @ random.normal(size=2) + 0.3 * random.normal(size=n) for i in range(4)}
    label = np.where(z[:, 0] > 1, "bad", "good")
    sets = {
        "ionosphere": pd.DataFrame(numbers | {"Class": label}),
        "housevotes84": pd.DataFrame(
            {f"V{i}": np.where(z[:, i % 2] > 0, "y", "n") for i in range(5)} | {"Class": label}
        ),
        "credit_data": pd.DataFrame(numbers | {"Home": random.choice(["own", "rent"], n), "Status": label}),
    }
    sets["credit_data"].loc[:9, "V0"] = np.nan
    about = {}
    for name, frame in sets.items():
        frame.to_csv(folder / f"{name}.csv.gz", index=False)
        types = {c: {"type": "continuous" if frame[c].dtype.kind == "f" else "categorical"} for c in frame}
        about[name] = {"label": list(frame)[-1], "schema": types}
    (folder / "tables.json").write_text(json.dumps(about))


def test_every_job_runs(tmp_path):
    (tmp_path / "tables").mkdir()
    small_tables(tmp_path / "tables")
    options = Options(data_dir=tmp_path, quick=True, peers=False)
    found = {name: work() for name, work in suite.jobs(Tables(tmp_path / "tables"), options)}
    kinds = ("rare-levels", "time-credit_data", "imputation-", "levels-", "detection-", "synthesis-")
    assert all(any(name.startswith(kind) for name in found) for kind in kinds)
    records = {name: {"contestants": its, "machine": machine()} for name, its in found.items()}
    text = page.written(records)
    assert "Not measured yet." not in text
    for name, contestants in found.items():
        numbers = [v for m in contestants["vaekit"].values() for v in m.values()]
        assert np.isfinite(numbers).all(), name
    assert {row.contestant for row in page.rows(records)} >= {"vaekit", "kNN", "isolation forest"}
