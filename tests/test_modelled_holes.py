"""Which cells are empty, as elements of x."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from vaekit import cli, runs
from vaekit.data.schema import Schema
from vaekit.errors import DataError
from vaekit.estimators import VAEDetector, VAEImputer
from vaekit.models.view import View
from vaekit.report.tables import odd_rows

TINY = {"hidden": 8, "max_epochs": 3, "latent_dim": 1, "compile": "off", "random_state": 0}


def frame(n=300, seed=0):
    """The income is not told where it is high; two columns are empty together; one is never."""
    rng = np.random.default_rng(seed)
    income = rng.normal(size=n).round(3)
    apart = rng.random(n) < 0.2
    return pd.DataFrame(
        {
            "income": np.where(income > 0.8, np.nan, income),
            "spent": (income + 0.3 * rng.normal(size=n)).round(3),
            "height": np.where(apart, np.nan, rng.normal(size=n).round(3)),
            "town": pd.Series(rng.choice(["Bern", "Thun"], n)).where(~apart, None),
        }
    )


def test_holes_are_elements_of_x_and_no_columns_of_the_table():
    table = frame()
    schema = Schema.found(table)
    wide, x = schema.with_holes(schema.encode(table))
    assert [(column.name, column.of) for column in wide.columns[4:]] == [
        ("income empty", "income"),
        ("height and 1 more empty", "height"),
    ]
    np.testing.assert_array_equal(x, wide.encode(table))
    np.testing.assert_array_equal(x[:, 4], table["income"].isna())
    np.testing.assert_array_equal(x[:, 5], table["town"].isna())
    pd.testing.assert_frame_equal(wide.decode(x), table)
    pd.testing.assert_frame_equal(wide.fill(table, x), table)
    assert wide.with_holes(x)[0] is wide
    assert Schema.model_validate_json(wide.model_dump_json()) == wide
    assert [column.name for column in wide.without("height").columns] == ["income", "spent", "town", "income empty"]


def test_a_cell_that_the_schema_does_not_know_is_not_empty():
    table = frame()
    schema, _ = Schema.found(table).with_holes(Schema.found(table).encode(table))
    new = table[:1].assign(town="Basel", income=0.1, height=1.0)
    excluded = np.zeros((1, 6), dtype=bool)
    x = schema.encode(new, excluded=excluded)
    assert excluded[0].tolist() == [False, False, False, True, False, False]
    assert x[0, 4:].tolist() == [0, 0]


def test_a_hole_belongs_to_a_column():
    with pytest.raises(ValueError, match="a hole says of which column it is"):
        Schema(columns=({"name": "a", "kind": "hole", "dtype": "Boolean", "levels": (False, True)},))
    with pytest.raises(ValueError, match="there is no column 'b' whose holes"):
        Schema(columns=({"name": "a", "kind": "hole", "dtype": "Boolean", "levels": (False, True), "of": "b"},))
    with pytest.raises(DataError, match="cannot be hole"):
        Schema.found(frame(), kinds={"town": "hole"})


def test_commands_read_and_write_the_columns_of_the_table(tmp_path, capsys):
    frame().to_csv(tmp_path / "t.csv", index=False)
    fit = ["fit", str(tmp_path / "t.csv"), "-o", str(tmp_path / "r"), "--model-holes", "max_epochs=2", "hidden=8"]
    assert cli.run([*fit, "--quiet"]) == 0
    assert "2 hole" in capsys.readouterr().err
    stored = json.loads((tmp_path / "r" / "config.json").read_text())["metadata"]["data"]["columns"]
    assert stored[4:] == ["income empty", "height and 1 more empty"]
    for command in (["sample", "-n", "20"], ["impute", str(tmp_path / "t.csv")]):
        name, *rest = command
        assert cli.run([name, str(tmp_path / "r"), *rest, "-o", str(tmp_path / "out.csv")]) == 0
        found = pd.read_csv(tmp_path / "out.csv")
        assert list(found) == ["income", "spent", "height", "town"]
        assert not found.isna().any().any()
    run = runs.open(tmp_path / "r")
    view = View.of(run.model, run.rows(frame(60, seed=4)))
    odd = odd_rows(view, run.data.columns, None, run.data.columns_schema, 0)
    assert len(odd) == 6
    assert run.score(run.rows(frame(5, seed=3)), num_samples=5).values.shape == (5, 3)


def test_a_pattern_of_holes_that_is_rare_is_odd():
    """Of bits, whose masses can be compared: rows that lack what others have look ordinary to a model without holes."""
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 2, (600, 6)).astype(float)
    is_odd = np.arange(600) < 30
    cells[is_odd, :3] = np.nan
    cells[rng.random(cells.shape) < 0.02] = np.nan
    how = {"random_state": 0, "trim": 0, "max_epochs": 30, "hidden": 16, "compile": "off"}
    blind, seen = (VAEDetector(model_holes=m, **how).fit(cells).score_samples(cells) for m in (False, True))
    assert roc_auc_score(is_odd, -blind) < 0.1
    assert roc_auc_score(is_odd, -seen) > 0.8


def test_an_imputer_of_a_detector_fills_the_columns_of_x():
    x = frame().drop(columns="town").to_numpy()
    detector = VAEDetector(trim=0, **TINY).fit(x)
    filled = VAEImputer.from_fitted(detector).transform(x)
    assert filled.shape == x.shape
    assert not np.isnan(filled).any()
    np.testing.assert_array_equal(filled[~np.isnan(x)], x[~np.isnan(x)])
    assert detector.n_features_in_ == 3


def test_what_holes_add_to_log_p_is_taken_off():
    """By hand: a normal model of independent columns; a hole in one adds the mean of its -log p."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(900, 4)) * [1.0, 1.0, 100.0, 100.0]
    x[rng.random(900) < 0.3, 2] = np.nan
    is_odd = np.arange(900) < 45
    x[is_odd, :2] *= 4  # odd ones, hidden among rows with large densities
    detector = VAEDetector(trim=0, random_state=0, max_epochs=20, hidden=16, compile="off", model_holes=False).fit(x)
    added = detector.calibration_.holes
    expected = 0.5 + 0.5 * np.log(2 * np.pi) + np.log(100)
    assert added[2] == pytest.approx(expected, abs=0.4)
    assert added[0] == added[1] == added[3] == 0
    log_p, bare = detector.score_samples(x), detector.decision_function(x) + detector.offset_
    np.testing.assert_allclose(bare, log_p - np.isnan(x) @ np.array(added))
    assert roc_auc_score(is_odd, -bare) > roc_auc_score(is_odd, -log_p) + 0.02
    hole = np.isnan(x[:, 2]) & ~is_odd
    assert abs(np.median(bare[hole]) - np.median(bare[~hole & ~is_odd])) < 0.3


def test_p_values_of_rows_with_holes_are_those_of_rows_without(tmp_path):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(1200, 3)) * [1.0, 1.0, 1000.0]
    x[rng.random(1200) < 0.4, 2] = np.nan
    table = pd.DataFrame(x, columns=list("abc"))
    table[:800].to_csv(tmp_path / "t.csv", index=False)
    fit = ["fit", str(tmp_path / "t.csv"), "-o", str(tmp_path / "r"), "max_epochs=10", "hidden=8", "--quiet"]
    assert cli.run(fit) == 0
    run = runs.open(tmp_path / "r")
    flags = run.detect(run.rows(table[800:]), rate=0.1).to_dict()
    hole = np.isnan(x[800:, 2])
    stderr = np.sqrt(0.1 * 0.9 * (1 / 400 + 1 / 80))
    for part in (hole, ~hole):  # of log p itself, all would be rows without a hole
        assert abs((flags["p_value"][part] <= 0.1).mean() - 0.1) < 3.5 * max(stderr, np.sqrt(0.09 / part.sum()))
    assert any("empty cells add" in note for note in run.detect(run.rows(table[800:])).notes)
