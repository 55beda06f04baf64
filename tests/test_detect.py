"""vaekit detect: flags with p-values that are valid, and the cells that make a row odd."""

import csv
import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pyarrow import parquet

from vaekit import cli, runs
from vaekit.data.by_schema import load_by_schema
from vaekit.data.schema import Schema
from vaekit.estimators import VAEDetector
from vaekit.runs.reasons import in_words

TABLES = Path(os.environ.get("VAEKIT_DATA", "none"), "tables")


def rows_of(n, seed, town="Bern"):
    rng = np.random.default_rng(seed)
    towns = rng.choice(["Bern", "Basel"], n, p=[0.7, 0.3])
    income = np.round(np.exp(rng.normal(8, 0.5, n) + 0.5 * (towns == "Basel")), 2)
    since = pd.Timestamp("2024-03-01") + pd.to_timedelta(rng.integers(0, 90, n), unit="D")
    return pd.DataFrame({"id": [f"p{i}" for i in range(n)], "town": towns, "income": income, "since": since})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detect")
    rows_of(600, 0).to_csv(folder / "people.csv", index=False)
    new = rows_of(60, 1)
    new.loc[7, "income"] = 9e5
    new.loc[11, "since"] = pd.Timestamp("2031-01-01")
    new.to_csv(folder / "new.csv", index=False)
    words = ["max_epochs=5", "hidden=16", "compile=off", "--quiet", "--key", "id"]
    assert cli.run(["fit", str(folder / "people.csv"), "-o", str(folder / "run"), *words]) == 0
    return folder


def detect(folder, *words):
    return cli.run(["detect", str(folder / "run"), str(folder / "new.csv"), "--num-samples", "20", *map(str, words)])


def test_training_is_trimmed_as_a_detector_trims_it(folder, capsys):
    """The key `trim` and the detector's parameter are one function, and the run remembers the rows of the file."""
    words = ["max_epochs=2", "hidden=8", "latent_dim=1", "compile=off", "--drop", "id"]
    path = folder / "people.csv"
    assert cli.run(["fit", str(path), "-o", str(folder / "trimmed"), "trim=0.1", "--quiet", *words]) == 0
    assert "again without the 54 oddest of 540 training rows" in capsys.readouterr().err
    assert cli.run(["fit", str(path), "-o", str(folder / "whole"), "--quiet", *words]) == 0
    run, whole = runs.open(folder / "trimmed"), runs.open(folder / "whole")
    told = {"max_epochs": 2, "hidden": 8, "latent_dim": 1, "compile": "off", "random_state": 0}
    own = VAEDetector(**told, trim=0.1, model_holes=False).fit(rows_of(600, 0).drop(columns="id")).run_
    differs = []
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, own.model.state_dict()[name]), name
        differs.append(not torch.equal(value, whole.model.state_dict()[name]))
    assert any(differs)
    assert run.settings.trim == own.settings.trim == 0.1
    assert run.config.metadata["settings"]["trim"] == 0.1
    assert (run.data.num_rows, run.data.held_out) == (600, whole.data.held_out)
    assert [len(c) for c in run.calibrations] == [60, 60]  # those that were trimmed too
    parts = run.parts()
    assert (len(parts.held_out), len(parts.train)) == (60, 540)
    assert cli.run(["fit", str(path), "-o", str(folder / "bad"), "trim=1", *words]) == 2


def test_flags_are_written_with_their_reasons(folder, capsys):
    assert detect(folder, "-o", folder / "flags.csv") == 0
    said = capsys.readouterr().err
    assert "of 60 rows are outliers: log_p below" in said
    assert "as at most 4.92% of rows like those of the fit are (calibrated on 60 rows that were not trained on)" in said
    rows = list(csv.DictReader(io.StringIO((folder / "flags.csv").read_text())))
    assert list(rows[0]) == ["id", "log_p", "p_value", "outlier", "reason"]
    assert [row["id"] for row in rows[:2]] == ["p0", "p1"]
    assert {row["outlier"] for row in rows} == {"True", "False"}
    assert all((row["outlier"] == "True") == bool(row["reason"]) for row in rows)
    assert rows[7]["reason"].startswith("income = 900,000: expected ")
    assert rows[11]["reason"].startswith("since = 2031-01-01: expected 2024-0")
    assert float(rows[7]["p_value"]) == pytest.approx(1 / 61)
    found = runs.open(folder / "run").detect(pd.read_csv(folder / "new.csv", parse_dates=["since"]), num_samples=20)
    assert [row["reason"] for row in rows] == found.to_dict()["reason"].tolist()


def test_the_oddest_rows_are_printed(folder, capsys):
    assert detect(folder, "--top", 2) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split() == ["id", "log_p", "p_value", "reason"]
    assert {line.split()[0] for line in lines[1:]} == {"p7", "p11"}
    assert "calibrated on 60 rows" in err
    assert detect(folder) == 2
    assert "say where the flags go" in capsys.readouterr().err


def test_a_rate_and_formats_are_chosen(folder, capsys):
    assert detect(folder, "-o", folder / "flags.parquet", "--rate", 0.3) == 0
    table = parquet.read_table(folder / "flags.parquet")
    assert table.schema.field("outlier").type == "bool"
    assert table["outlier"].to_pylist() == [p <= 0.3 for p in table["p_value"].to_pylist()]
    assert table.schema.metadata[b"log_p"] == b"density and mass, in nats"
    assert detect(folder, "-o", folder / "flags.npy") == 2
    assert detect(folder, "-o", "-", "--rate", 0.001) == 0
    out, err = capsys.readouterr()
    assert "True" not in out
    assert "no row is called an outlier at a rate of 0.001" in err
    assert detect(folder, "-o", "-", "--rate", 1.5) == 2
    assert "rate is a share" in capsys.readouterr().err


def test_cells_that_the_fit_never_met_are_odd_and_not_refused(folder, capsys):
    """A new level is a hole to the model and counts as log(1 / (N + 1)); a number out of bounds has no density."""
    table = rows_of(6, 3)
    table.loc[1, "town"] = "Zug"
    table.loc[2, "income"] = -5.0
    table.to_csv(folder / "odd.csv", index=False)
    words = [str(folder / "run"), str(folder / "odd.csv"), "-o", str(folder / "f.csv"), "--rate", "0.9"]
    assert cli.run(["detect", *words]) == 0
    said = capsys.readouterr().err
    assert "1 cells of 1 rows are levels that the fit never met: each counts as a hole and as a mass of 1/601" in said
    assert "1 of 6 rows have no number: 1, as a number is out of the bounds of its column (id p2)" in said
    rows = list(csv.DictReader(io.StringIO((folder / "f.csv").read_text())))
    assert rows[1]["reason"].startswith("town = 'Zug': a level that the fit never met")
    assert rows[2]["reason"] == "income = -5.0: expected above 0"
    assert float(rows[2]["p_value"]) == pytest.approx(1 / 61)
    run = runs.open(folder / "run")
    table.loc[1, "town"], table.loc[2, "income"] = None, np.nan
    holes = run.score(table, num_samples=100).values[:, 0]
    expected = holes + np.array([0, -np.log(601), -np.inf, 0, 0, 0])
    np.testing.assert_allclose([float(row["log_p"]) for row in rows], expected, rtol=1e-6)
    assert cli.run(["score", str(folder / "run"), str(folder / "odd.csv"), "-o", "-"]) == 1
    assert "has no level 'Zug'" in capsys.readouterr().err


def test_images_have_no_calibration_and_say_so(tmp_path, capsys):
    words = ["max_epochs=1", "hidden=4", "latent_dim=2", "compile=off", "--quiet"]
    assert cli.run(["fit", "digits", "-o", str(tmp_path / "run"), *words]) == 0
    assert cli.run(["detect", str(tmp_path / "run"), "--top", "1"]) == 2
    assert "its rows are no vectors" in capsys.readouterr().err


def test_cells_are_said_in_the_words_of_their_columns():
    schema = Schema.found(rows_of(50, 0).assign(count=np.arange(50) % 7 + 20))
    columns = {column.name: column for column in schema.columns}
    assert in_words(columns["town"], 0.0) == repr(columns["town"].levels[0])
    assert in_words(columns["since"], 1709251200.0) == "2024-03-01 00:00:00"
    assert [in_words(None, number) for number in (0.0, -0.5, 1234.5678, 123456.0)] == ["0", "-0.5", "1235", "123,456"]


@pytest.mark.skipif(not TABLES.exists(), reason="the shared tables are not here ($VAEKIT_DATA)")
def test_p_values_are_valid_on_rows_of_a_labelled_table():
    """Normal rows of the breast cancer table that neither trained nor calibrated: the share with p <= a is about a."""
    table = pd.read_csv(TABLES / "breastcancer.csv.gz")
    label = next(name for name in table.columns if name.lower() in ("class", "label"))
    counts = table[label].value_counts()
    normal = table[table[label] == counts.index[0]].drop(columns=label)
    order = np.random.default_rng(0).permutation(len(normal))
    fit, new = normal.iloc[order[: len(normal) // 2]], normal.iloc[order[len(normal) // 2 :]]
    rows = load_by_schema(fit.reset_index(drop=True))
    from vaekit.runs.folder import HeldOut

    run = runs.fit_rows(rows, {"max_epochs": 5, "compile": "off"}, rule=HeldOut(fraction=0.4))
    p, num = run.detect(new.reset_index(drop=True), num_samples=10).to_dict()["p_value"], len(run.calibrations[0])
    for a in (0.05, 0.1):
        stderr = np.sqrt(a * (1 - a) * (1 / len(p) + 1 / num))
        assert abs((p <= a).mean() - a) < 3 * stderr + 1 / (num + 1), a
