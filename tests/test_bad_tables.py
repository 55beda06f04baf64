"""What can be wrong with a table or its schema: an error that names the place, or the handling that is documented."""

import json
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from vaekit import cli, runs
from vaekit.data import from_records
from vaekit.data.by_schema import load_by_schema
from vaekit.data.column import Column
from vaekit.data.readers.frames import frame
from vaekit.data.schema import Schema
from vaekit.errors import DataError, DriftWarning, ReadingWarning
from vaekit.models.view import View

FAST = ["max_epochs=2", "hidden=8", "latent_dim=2", "compile=off", "--quiet"]


def people(n=60, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "size": rng.normal(size=n).round(3),
            "visits": rng.integers(0, 40, n),
            "town": rng.choice(["Bern", "Basel", "Thun"], n),
            "member": rng.random(n) < 0.4,
            "since": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 10**6, n), unit="s"),
        }
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    people().to_csv(folder / "t.csv", index=False)
    assert cli.run(["fit", str(folder / "t.csv"), "-o", str(folder / "r"), *FAST]) == 0
    return runs.open(folder / "r")


def fit(tmp_path, table, *options):
    """The exit code and the folder of a fit to a table."""
    table.to_csv(tmp_path / "t.csv", index=False)
    return cli.run(["fit", str(tmp_path / "t.csv"), "-o", str(tmp_path / "r"), *FAST, *map(str, options)])


# --- Columns ---------------------------------------------------------------------------------------------------------


def test_new_missing_reordered_and_duplicated_columns(run, tmp_path):
    table = people(4, seed=1)
    scores = run.score(run.rows(table), num_samples=5).values
    np.testing.assert_array_equal(run.score(run.rows(table[table.columns[::-1]]), num_samples=5).values, scores)
    with pytest.warns(ReadingWarning, match="left out 'new', which the schema does not have"):
        rows = run.rows(table.assign(new="x"))
    np.testing.assert_array_equal(run.score(rows, num_samples=5).values, scores)
    with pytest.raises(DataError, match=r"has no column 'size' \(nor 'town'\). Nearest"):
        run.rows(table.drop(columns=["size", "town"]))
    with pytest.raises(DataError, match="none of the columns of the schema: 'size', 'visits'"):
        run.rows(pd.DataFrame({"a": [1.0], "b": ["x"]}))
    with pytest.raises(DataError, match="can be read: Expected unique"):
        run.rows(pd.concat([table, table[["size"]]], axis=1))
    (tmp_path / "t.csv").write_text("size,visits,town,member,since,size\n1,2,Bern,true,2024-01-01T00:00:00,1\n")
    with pytest.raises(DataError, match="several columns 'size'"):
        run.rows(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("column", "cells", "message"),
    [
        ("size", ["1", "2"], "Column 'size' is continuous and holds numbers; row 0 holds '1'"),
        ("size", [True, False], "Column 'size' is continuous and holds numbers; row 0 holds True"),
        ("size", pd.to_datetime(["2024-01-01", "2024-01-02"]), "holds numbers; row 0 holds datetime"),
        ("size", [[1.0], [2.0]], r"holds numbers; row 0 holds \[1.0\]"),
        ("size", [1 + 2j, 3], "none of numbers, text, bools, levels and datetimes: .1.2j. in row 0"),
        ("size", [1.0, np.inf], "finite number; infinity is never one; row 1 holds inf"),
        ("visits", [2**53 + 2, 3], r"no number beyond 2\*\*53"),
        (
            "town",
            ["Bern", "Zug"],
            "Column 'town' has no level 'Zug', which row 1 holds; its levels are 'Basel', 'Bern'",
        ),
        ("town", [1, 2], "Column 'town' has no level 1, which row 0 holds"),
        ("member", [0, 2], "Column 'member' has no level 2, which row 1 holds; its levels are False, True"),
        ("member", ["True", "no"], "Column 'member' has no level 'True', which row 0 holds"),
        ("since", [1.7e9, 1.8e9], "Column 'since' holds Datetime.*row 0 holds 1700000000.0"),
        ("since", ["2024-01-01", "2024-02-30"], "Column 'since' holds Datetime.*row 1 holds '2024-02-30'"),
        ("since", ["soon", "late"], "Column 'since' holds Datetime.*row 0 holds 'soon'"),
    ],
)
def test_cells_of_another_dtype_are_named(run, column, cells, message):
    table = people(2)
    with pytest.raises(DataError, match=message):
        run.rows(table.assign(**{column: cells}))


def test_dates_that_are_none_are_named_in_files(run, tmp_path, capsys):
    table = people().astype({"since": str})
    table.loc[7, "since"] = "2024-02-30 10:00:00"
    assert fit(tmp_path, table) == 1
    assert "Column 'since' holds dates, but '2024-02-30 10:00:00' in row 7 (line 9)" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"'since' holds Datetime.*row 7 \(line 9\) holds '2024-02-30 10:00:00'"):
        run.rows(tmp_path / "t.csv")
    assert fit(tmp_path, table, "--missing", "2024-02-30 10:00:00", "--overwrite") == 0
    table.loc[7, "since"] = "10000-01-01"
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match="row 7 .line 9. holds '10000-01-01'"):
        run.rows(tmp_path / "t.csv")
    words = pd.DataFrame({"when": ["2024-01-01", "2024-01-02", "later"] * 20})
    assert Schema.found(words, kinds={"when": "categorical"})["when"].num_codes == 3


def test_dates_of_far_years_are_dates(tmp_path):
    (tmp_path / "t.csv").write_text(
        "t,x\n2024-01-01T00:00:00.5,1.5\n9999-12-31T00:00:00.25,2.5\n0001-01-01T00:00:00,3.5\n"
    )
    table = frame(tmp_path / "t.csv")
    schema = Schema.found(table)
    assert schema["t"].kind == "datetime"
    assert schema.decode(schema.encode(table)).to_pylist() == table.to_pylist()


def test_dates_beyond_the_bounds_of_a_column_are_named():
    table = pa.table({"t": pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03"])})
    schema = Schema.found(table)
    day = schema["t"].model_copy(update={"low": 1704067200.0})
    bounded = Schema(columns=(day,))
    bounded.encode(table)
    with pytest.raises(DataError, match="'t' is datetime.*must be 1.70407e.09 or more; row 0 holds"):
        bounded.encode(pa.table({"t": pd.to_datetime(["2023-12-31"])}))


# --- Rows ------------------------------------------------------------------------------------------------------------


def test_columns_and_rows_of_holes(run, tmp_path, capsys):
    table = people()
    assert fit(tmp_path, table.assign(nothing=None)) == 0
    own = runs.open(tmp_path / "r")
    assert own.data.columns_schema["nothing"].kind == "constant"
    assert own.sample(3).to_frame("pandas")["nothing"].isna().all()
    holes = pd.DataFrame({name: [None] * 3 for name in table})
    log_p, stderr, _ = run.score(run.rows(holes), num_samples=5000).values.T
    assert (abs(log_p) < 5 * stderr).all()  # nothing was observed: the empty product
    assert (stderr < 0.05).all()
    with pytest.warns(DriftWarning, match="size: empty in 100% of the rows, was 0%"):
        one_column = run.rows(table.assign(size=None))
    assert np.isfinite(run.score(one_column, num_samples=5).values).all()
    assert fit(tmp_path, pd.concat([table.astype(object), holes]), "--overwrite") == 0
    assert "15 cells are empty and count as not observed" in capsys.readouterr().err


def test_a_table_of_single_values_has_nothing_to_model(tmp_path, capsys):
    assert fit(tmp_path, pd.DataFrame({"a": ["x"] * 20, "b": [1] * 20})) == 1
    said = capsys.readouterr().err
    assert "no column of 't' (20 row(s)) is left to model: 'a' is constant, 'b' is constant" in said
    assert fit(tmp_path, people(1)) == 1
    assert "(1 row(s)) is left to model: 'size' is constant" in capsys.readouterr().err


def test_records_may_hold_scalars_of_other_libraries():
    when = pd.Timestamp("2024-01-01 10:00:00.5")
    records = [
        {"a": np.float32(1.5), "b": np.bool_(True), "t": when, "w": np.str_("x"), "d": Decimal("1.25")},
        {"a": pd.NA, "b": False, "t": pd.NaT, "w": "y", "d": np.int64(2)},
        {"a": np.nan, "b": None, "t": np.datetime64("2024-01-01T10:00:01.5", "ns"), "w": None, "d": 3},
    ]
    rows = load_by_schema(records)
    seconds = when.timestamp()
    expected = [[1, seconds, 0, 1.25], [0, np.nan, 1, 2], [np.nan, seconds + 1, np.nan, 3]]
    assert rows.columns == ("b", "t", "w", "d")  # one number is a constant
    np.testing.assert_array_equal(rows.x, expected)


def test_records_of_several_kinds_are_named():
    with pytest.raises(DataError, match="column 'a' holds values of several kinds: 1 in row 0, 'x' in row 1"):
        load_by_schema([{"a": 1}, {"a": "x"}])
    with pytest.raises(DataError, match=r"column 'a' holds \{'b': 1\} in row 0, which is no cell"):
        load_by_schema([{"a": {"b": 1}}])
    with pytest.raises(DataError, match="no table"):
        from_records([{"a": 1}, {"a": "x"}])


# --- A schema that contradicts the data ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "edit", "message"),
    [
        ("size", {"kind": "count", "whole": True}, r"'size' is count.*must be whole; row 0 \(line 2\) holds"),
        ("size", {"kind": "positive"}, "'size' is positive.*must be above 0; row"),
        ("size", {"kind": "bounded", "low": 0, "high": 0.5}, "'size' is bounded.*must be 0 or more; row"),
        ("visits", {"high": 10}, "'visits' is .*must be 10 or less; row .* holds [1-9][0-9].0"),
        ("size", {"kind": "datetime"}, "a datetime column holds dates or datetimes, not Float64"),
        ("town", {"kind": "continuous", "levels": []}, "a continuous column holds numbers, not String"),
        ("town", {"dtype": "Int64"}, "the level 'Basel' is none of a column of Int64"),
        ("town", {"levels": ["x", "y"]}, r"'town' has no level .* which row 0 \(line 2\) holds"),
        ("town", {"levels": ["x", "y"], "other": True}, "'town' of 't' has none of the levels of the schema: 'x', 'y'"),
        ("town", {"kind": "binary"}, "a binary column has two levels"),
        ("nothing", {"kind": "continuous", "dtype": "Float64"}, "'nothing' is continuous.*all its cells are empty"),
    ],
)
def test_a_schema_that_contradicts_the_data(tmp_path, capsys, column, edit, message):
    table = people().assign(nothing=None)
    table.to_csv(tmp_path / "t.csv", index=False)
    schema = tmp_path / "s.json"
    Schema.found(frame(tmp_path / "t.csv")).save(schema)
    tree = json.loads(schema.read_text())
    for about in tree["columns"]:
        if about["name"] == column:
            about |= edit
    schema.write_text(json.dumps(tree))
    assert fit(tmp_path, table, "--schema", schema) == 1
    import re

    assert re.search(message, capsys.readouterr().err)


def test_levels_and_point_masses_that_no_row_has_are_said(tmp_path, capsys):
    table = people()
    schema = Schema.found(table)
    town = schema["town"].model_copy(update={"levels": ("Basel", "Bern", "Thun", "Zug")})
    size = schema["size"].model_copy(update={"kind": "spiky", "spikes": (77.0,)})
    Schema(columns=tuple({"town": town, "size": size}.get(c.name, c) for c in schema.columns)).save(tmp_path / "s.json")
    assert fit(tmp_path, table, "--schema", tmp_path / "s.json") == 0
    said = capsys.readouterr().err
    assert "no row has the level 'Zug' of column 'town'" in said
    assert "no row has the point mass 77.0 of column 'size'" in said
    drawn = runs.open(tmp_path / "r").sample(50).to_frame("pandas")
    assert set(drawn["town"]) <= {"Basel", "Bern", "Thun", "Zug"}


# --- Values at the bounds --------------------------------------------------------------------------------------------


def test_values_at_the_bounds_have_a_finite_density(tmp_path):
    """By hand: the log-odds of .05 and .95, where the transform leads the bounds, and its Jacobian there."""
    rng = np.random.default_rng(0)
    share = np.round(rng.beta(2, 2, 400), 3)
    share[:4] = [0, 1, 0, 1]
    table = pd.DataFrame({"share": share, "town": rng.choice(["a", "b"], 400)})
    assert Schema.found(table)["share"].kind == "bounded"
    assert fit(tmp_path, table) == 0
    run = runs.open(tmp_path / "r")
    rows = run.rows(table[:4])
    batch = View.of(run.model, rows).batch(slice(0, 4))
    chain = run.model.transform.transforms[0]
    scale, loc = chain.transforms[2].scale.item(), chain.transforms[2].loc.item()
    odds = np.log(0.95 / 0.05)
    np.testing.assert_allclose(batch.x[:, 0], (np.array([-odds, odds, -odds, odds]) - loc) / scale, rtol=1e-5)
    np.testing.assert_allclose(batch.log_det, np.log(0.9) - np.log(0.05 * 0.95) - np.log(scale), rtol=1e-5)
    assert np.isfinite(run.score(rows, num_samples=20).values).all()
    drawn = run.sample(500).to_frame("pandas")["share"]
    assert drawn.between(0, 1).all()


def test_bounds_that_many_rows_have_are_point_masses():
    rng = np.random.default_rng(0)
    share = np.clip(rng.normal(0.5, 0.4, 600), 0, 1)
    column = Schema.found(pd.DataFrame({"share": share}))["share"]
    assert (column.kind, column.spikes, column.low, column.high) == ("spiky", (0, 1), 0, 1)


# --- Data of another kind --------------------------------------------------------------------------------------------


def test_a_table_for_a_model_of_images_and_the_other_way_round(run, tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.integers(0, 256, (40, 1, 4, 4)).astype(np.uint8))
    assert cli.run(["fit", str(tmp_path / "x.npy"), "-o", str(tmp_path / "i"), *FAST]) == 0
    images = runs.open(tmp_path / "i")
    people(5).to_csv(tmp_path / "t.csv", index=False)
    for source in (tmp_path / "t.csv", people(5)):
        with pytest.raises(DataError, match="fitted to images of shape .1, 4, 4., and .* is a table"):
            images.rows(source)
    numbers = pd.DataFrame(rng.integers(0, 256, (5, 16)), columns=[f"p{i}" for i in range(16)])
    with pytest.raises(DataError, match="fitted to images of shape .1, 4, 4., and .* is a table"):
        images.rows(numbers)
    with pytest.raises(DataError, match="fitted to a table .* named columns"):
        run.rows(tmp_path / "x.npy")
    with pytest.raises(DataError, match="fitted to a table .* named columns"):
        run.rows("digits")


def test_a_column_of_a_schema_is_one_of_its_kind():
    with pytest.raises(ValueError, match="the level True is none of a column of Int64"):
        Column(name="a", kind="binary", dtype="Int64", levels=(0, True))
    with pytest.raises(ValueError, match="the level 'x' is none of a column of Boolean"):
        Column(name="a", kind="binary", dtype="Boolean", levels=(False, "x"))
    with pytest.raises(ValueError, match="a positive column holds numbers, not Date"):
        Column(name="a", kind="positive", dtype="Date")
