"""Questions about the cells of tables, put to runs and to the command line."""

import io
import math

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

import vaekit as vk
from vaekit import cli, likelihoods, queries, runs
from vaekit.data.schema import Schema
from vaekit.errors import ConfigError, DataError
from vaekit.networks import MLP, ColumnsInput
from vaekit.runs.given import pairs_of, partial_row

# Rows with other holes than those of the fit are told of by a notice, which has tests of its own.
pytestmark = pytest.mark.filterwarnings("ignore::vaekit.errors.DriftWarning")
FAST = ["max_epochs=200", "hidden=32", "latent_dim=2", "learning_rate=0.003", "compile=off"]
CELLS = ["town", "income", "age", "visits", "member", "since"]


def test_a_schema_knows_what_the_levels_of_grades_stand_for():
    table = pd.DataFrame(
        {"x": np.arange(6) / 7, "stars": [1, 2, 3, 3, 2, 1], "size": list("SMLSML"), "kind": list("ababab")}
    )
    schema = Schema.found(table, kinds={"stars": "ordinal"}, orders={"stars": [1, 2, 3], "size": ["S", "M", "L"]})
    assert schema.level_values == {1: (1.0, 2.0, 3.0)}


def frame(n=400, seed=0):
    """Rows of several kinds: the town decides on income and age; a few notes, and a constant."""
    rng = np.random.default_rng(seed)
    town = rng.choice(["Bern", "Basel", "Thun"], n, p=[0.5, 0.3, 0.2])
    place = np.select([town == "Bern", town == "Basel"], [0.0, 2.0], 4.0)
    return pd.DataFrame(
        {
            "id": [f"p{i:04d}" for i in range(n)],
            "town": town,
            "income": np.round(np.exp(7 + place / 2 + rng.normal(0, 0.3, n)), 2),
            "age": np.round(30 + 8 * place + rng.normal(0, 3, n), 1),
            "visits": rng.negative_binomial(1.2, 0.2, n),
            "member": rng.random(n) < 0.3,
            "since": pd.Timestamp("2024-03-01") + pd.to_timedelta(rng.integers(0, 86_400 * 90, n), unit="s"),
            "country": "CH",
            "note": [f"remark number {i} on {t}" for i, t in enumerate(town)],
        }
    )


def with_holes(table, share=0.3, seed=1):
    holed, rng = table.astype({"member": object, "visits": object}), np.random.default_rng(seed)
    for name in CELLS:
        holed.loc[rng.random(len(table)) < share, name] = None
    return holed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of a table, some of whose cells are missing."""
    path = tmp_path_factory.mktemp("questions")
    with_holes(frame()).to_csv(path / "people.csv", index=False)
    assert cli.run(["fit", str(path / "people.csv"), "--key", "id", "-o", str(path / "run"), "--quiet", *FAST]) == 0
    return path


@pytest.fixture(scope="module")
def run(folder):
    return runs.open(folder / "run")


@pytest.fixture(scope="module")
def holed(folder):
    table = with_holes(frame(80, seed=5))
    table.to_csv(folder / "holed.csv", index=False)
    return table


# --- Imputation ------------------------------------------------------------------------------------------------------


def test_a_filled_table_has_its_cells_and_fills_of_its_kinds(run, holed):
    table = run.impute(run.rows(holed))
    filled = table.to_frame()
    assert list(filled.columns) == list(holed.columns)
    for name in holed.columns:
        there = holed[name].notna()
        assert (filled[name][there].astype(str) == holed[name][there].astype(str)).all() or name == "visits"
        assert filled[name].notna().all()
    assert (filled["visits"][holed["visits"].notna()] == holed["visits"].dropna().astype(int)).all()
    assert set(filled["town"]) <= {"Bern", "Basel", "Thun"}
    assert filled["member"].isin([True, False]).all()
    assert str(filled["since"].dtype).startswith("datetime64")
    new = filled["income"][holed["income"].isna()]
    assert (new > 0).all()
    assert (new == new.round(2)).all()
    truth = frame(80, seed=5)
    hidden = holed["town"].isna() & holed["age"].notna()
    assert (filled["town"] == truth["town"])[hidden].mean() > 0.8, "the age says where they live"
    assert any("filled" in note and "K = 100" in note for note in table.notes)
    assert any("assumed" in note for note in table.notes)


def test_cells_that_were_there_stay_whatever_the_schema_rounds(run):
    """Unseen levels, too many decimals and text are not the fit's, and are not touched."""
    rows = frame(3, seed=7).drop(columns="country")
    rows["extra"] = [1, 2, 3]
    rows["income"] = [1234.56789, None, 99.125]
    rows.loc[1, "note"] = None
    with pytest.warns(UserWarning, match="left out 'extra'"):
        filled = run.impute(run.rows(rows)).to_frame()
    assert filled["income"][[0, 2]].tolist() == [1234.56789, 99.125]
    assert filled["extra"].tolist() == [1, 2, 3]
    assert filled["note"].isna().tolist() == [False, True, False]
    assert list(filled.columns) == list(rows.columns)


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_a_frame_comes_back_as_one_of_its_library(run, library):
    rows = library({name: list(column) for name, column in frame(4, seed=3).items()})
    table = run.impute(run.rows(rows))
    assert isinstance(table.to_frame(), library)
    assert isinstance(table.to_frame("pyarrow").to_pydict(), dict)
    assert "no cell" in table.notes[0]


def test_draws_are_tables_one_after_another(run, holed, folder, capsys):
    table = run.impute(run.rows(holed), num_draws=3).to_frame()
    assert table.columns[0] == "draw"
    assert table["draw"].tolist() == [1] * 80 + [2] * 80 + [3] * 80
    tables = [part.drop(columns="draw").reset_index(drop=True) for _, part in table.groupby("draw")]
    hidden = holed["income"].isna()
    assert (tables[0]["income"][hidden] != tables[1]["income"][hidden]).any()
    assert (tables[0]["income"][~hidden] == tables[2]["income"][~hidden]).all()
    assert tables[0]["note"].tolist() == holed["note"].tolist()
    where = str(folder / "draws.csv")
    assert cli.run(["impute", str(folder / "run"), str(folder / "holed.csv"), "-o", where, "--draws", "2"]) == 0
    found = pd.read_csv(where)
    assert found["draw"].tolist() == [1] * 80 + [2] * 80
    assert found.notna().all().all()
    assert "2 draws from p(empty cells | the others)" in capsys.readouterr().err


def test_answers_are_the_same_from_a_file_alone_and_again(run, holed, folder):
    whole = run.impute(run.rows(folder / "holed.csv")).values
    np.testing.assert_array_equal(run.impute(run.rows(holed)).values, whole)
    np.testing.assert_allclose(run.impute(run.rows(holed.iloc[[7]])).values[0], whole[7], rtol=1e-5)
    turned = run.impute(run.rows(holed[list(holed.columns[::-1])]))
    np.testing.assert_array_equal(turned.values, whole)
    assert run.impute(run.rows(holed).take([3, 4])).to_frame()["id"].tolist() == ["p0003", "p0004"]


def test_impute_writes_what_it_filled_and_says_what_it_assumed(folder, holed, capsys):
    where = folder / "filled.csv"
    command = ["impute", str(folder / "run"), str(folder / "holed.csv"), "-o"]
    assert cli.run([*command, str(where), "--statistic", "median", "--num-samples", "50"]) == 0
    said = capsys.readouterr().err
    count = int(holed[CELLS].isna().sum().sum())
    assert f"filled {count} cells of" in said
    assert "median" in said
    assert "K = 50" in said
    assert "does not depend on its value" in said
    found = pd.read_csv(where)
    assert list(found.columns) == list(holed.columns)
    assert found.notna().all().all()
    assert cli.run(["impute", str(folder / "run"), str(where), "-o", str(folder / "again.csv")]) == 0
    assert "no cell of the 80 rows is empty" in capsys.readouterr().err
    assert (folder / "again.csv").read_bytes() == where.read_bytes()
    assert cli.run([*command, str(folder / "filled.npy")]) == 0
    assert np.load(folder / "filled.npy").shape == (80, 6)
    assert cli.run([*command, "-"]) == 0
    assert len(pd.read_csv(io.StringIO(capsys.readouterr().out))) == 80
    assert cli.run([*command, str(where), "--statistic", "mode"]) == 2
    assert cli.run([*command, str(folder / "filled.txt")]) == 2


# --- Conditions ------------------------------------------------------------------------------------------------------


def test_rows_given_some_cells_have_them_exactly(run):
    table = run.sample(300, given={"town": "Thun", "member": True}).to_frame("pandas")
    assert (table["town"] == "Thun").all()
    assert table["member"].all()
    assert table["note"].isna().all()
    assert (table["country"] == "CH").all()
    free = run.sample(300).to_frame("pandas")
    assert table["age"].mean() > free["age"].mean() + 8, "those of Thun are older"
    again = run.sample(300, given={"town": "Thun", "member": "true"}).to_frame("pandas")
    pd.testing.assert_frame_equal(again, table)


def test_rows_given_partial_rows_come_for_each_of_them(run):
    partial = frame(2, seed=9).assign(age=None, income=None)
    table = run.sample(5, given=partial).to_frame("pandas")
    assert len(table) == 10
    assert table["town"].tolist() == [town for town in partial["town"] for _ in range(5)]
    assert table["age"].nunique() > 5


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("town=Tun", "column 'town' has no level 'Tun'. Nearest: 'Thun'"),
        ("twon=Thun", "there is no column 'twon' to give. Nearest: 'town'"),
        ("visits=2.5", "visits=2.5 cannot be given: Column 'visits' is count, so each of its values must be whole"),
        ("visits=-1", "0 or more"),
        ("age=old", "column 'age' holds numbers; got 'old'"),
        ("age=inf", "finite numbers"),
        ("since=yesterday", "since=yesterday cannot be given"),
        ("note=hello", "column 'note' is text, of which the model knows nothing"),
        ("country=DE", "column 'country' was 'CH' in all rows of the fit"),
        ("town", "COLUMN=VALUE"),
    ],
)
def test_a_condition_that_cannot_be_exits_2(folder, given, said, capsys):
    where = folder / "given.csv"
    assert cli.run(["sample", str(folder / "run"), "-n", "3", "--given", given, "-o", str(where)]) == 2
    assert said in capsys.readouterr().err
    assert not where.exists()


def test_conditions_on_the_command_line(folder, capsys):
    where = folder / "given.csv"
    command = ["sample", str(folder / "run"), "-n", "20", "-o", str(where)]
    given = ["--given", "town=Bern", "--given", "since=2024-04-01 12:30:00", "--given", "country=CH"]
    assert cli.run([*command, *given]) == 0
    assert "20 rows drawn from p(the other cells | 2 given cells)" in capsys.readouterr().err
    found = pd.read_csv(where)
    assert (found["town"] == "Bern").all()
    assert (found["since"] == "2024-04-01 12:30:00").all()
    assert found["age"].nunique() > 10
    assert cli.run([*command, *given, "--hmc"]) == 0
    assert cli.run([*command, "--given", "town=Bern", "--given", "town=Thun"]) == 2
    assert "given twice" in capsys.readouterr().err
    assert cli.run([*command, "--given", "town=Bern", "--mean"]) == 2


def test_words_for_cells_are_read_by_the_kind_of_the_column():
    table = pd.DataFrame(
        {
            "grade": [1, 2, 3, 1, 2, 3] * 5,
            "flag": [True, False, False] * 10,
            "when": pd.to_datetime(["2024-01-01", "2024-02-01", "2024-03-01"] * 10).tz_localize("Europe/Berlin"),
            "size": np.linspace(0.5, 30.0, 30) ** 1.1,
        }
    )
    schema = Schema.found(table, kinds={"grade": "ordinal"})
    names = [column.name for column in schema.modelled]
    for given in (
        {"grade": "2", "flag": "true", "when": "2024-02-01", "size": "1.5"},
        {"grade": 2, "flag": True, "when": pd.Timestamp("2024-02-01", tz="Europe/Berlin"), "size": 1.5},
    ):
        x = partial_row(given, names, schema)
        second = table.assign(size=1.5).iloc[[1]].assign(flag=True)
        np.testing.assert_array_equal(x, schema.encode(second))
    assert np.isnan(partial_row({"size": None}, names, schema)).all()
    assert partial_row({"a": "2.5"}, ("a", "b"), None)[0, 0] == 2.5
    with pytest.raises(ConfigError, match="Nearest: 'a', 'b'"):
        partial_row({"zzz": 1}, ("a", "b"), None)
    with pytest.raises(ConfigError, match="COLUMN=VALUE"):
        pairs_of(["=3"])


# --- Odd cells -------------------------------------------------------------------------------------------------------


def test_shares_name_the_column_that_makes_a_row_odd(run, folder, capsys):
    rows = frame(30, seed=11)
    rows.loc[4, "age"] = 75.0
    rows.loc[4, "town"] = "Bern"
    rows.loc[4, "income"] = 1100.0
    rows.to_csv(folder / "odd.csv", index=False)
    shares = run.score_elements(run.rows(rows)).to_frame("pandas")
    names = [f"share_{name}" for name in CELLS]
    assert list(shares.columns) == ["id", *names]
    assert shares["share_age"].argmax() == 4
    where = str(folder / "scores.csv")
    for options in (["--columns", "-o", where], ["-o", where, "--columns"], ["--shares", "-o", where]):
        assert cli.run(["score", str(folder / "run"), str(folder / "odd.csv"), *options]) == 0
        found = pd.read_csv(where)
        assert list(found.columns) == ["id", "log_p", "stderr", "ess", *names]
        np.testing.assert_allclose(found["share_age"], shares["share_age"], rtol=1e-6)
    assert cli.run(["score", "--columns", str(folder / "run"), str(folder / "odd.csv"), "-o", where]) == 0
    assert list(pd.read_csv(where).columns)[4:] == names
    assert "-log p(the cell | the other cells of its row) in nats" in capsys.readouterr().err
    plain = cli.run(["score", str(folder / "run"), str(folder / "odd.csv"), "-o", where])
    assert plain == 0
    assert list(pd.read_csv(where).columns) == ["id", "log_p", "stderr", "ess"]


def test_holes_have_no_share(run, holed):
    shares = run.score_elements(run.rows(holed), num_samples=20)
    assert (np.isnan(shares.values) == holed[CELLS].isna().to_numpy()).all()


# --- Runs without a schema, and what does not fit --------------------------------------------------------------------


def test_a_run_of_numbers_fills_holes_where_its_model_bears_them(tmp_path):
    with vk.engine.seeded(0):
        front = ColumnsInput(MLP(6, (8,)), levels=(0, 0, 0), holes=(0, 1, 2))
        encoder = vk.Conditional(front, vk.posteriors.DiagonalNormal(1))
        decoder = vk.Conditional(MLP(1, (8,)), likelihoods.Normal(3, missing="observed-only"))
        model = vk.VAE(encoder, decoder, vk.priors.StandardNormal(1))
    vk.save(model, tmp_path / "run")
    run = runs.open(tmp_path / "run")
    x = np.array([[1.0, math.nan, 2.0], [0.5, 0.25, -1.0]])
    table = run.impute(x, num_samples=50)
    assert table.columns == ("x0", "x1", "x2")
    assert (table.values[1] == x[1]).all()
    assert np.isfinite(table.values).all()
    expected = queries.impute(run.model, x, 50, generator=torch.Generator().manual_seed(0)).filled
    np.testing.assert_array_equal(table.values, expected.numpy())
    drawn = run.sample(4, given={"x1": 2.0})
    assert (drawn.values[:, 1] == 2.0).all()
    assert run.score_elements(x, num_samples=50).columns == ("share_x0", "share_x1", "share_x2")
    assert list(run.impute(x, num_draws=2).to_frame("pandas").columns) == ["draw", "x0", "x1", "x2"]


def test_a_model_that_counts_each_cell_says_how_to_fit(tmp_path):
    with vk.engine.seeded(0):
        model, _ = vk.presets.vae((3,), latent_dim=2, hidden=(8,), likelihood="normal")
    vk.save(model, tmp_path / "run")
    run = runs.open(tmp_path / "run")
    with pytest.raises(DataError, match="missing='observed-only'"):
        run.impute(np.array([[1.0, math.nan, 2.0]]))
    assert run.impute(np.ones((2, 3))).values.tolist() == [[1, 1, 1], [1, 1, 1]]
    assert np.isfinite(run.score_elements(np.ones((2, 3))).values).all()


def test_a_table_given_to_a_model_of_images_is_an_error(tmp_path, folder, holed, capsys):
    fitted = tmp_path / "run"
    assert cli.run(["fit", "digits", "-o", str(fitted), "--quiet", "max_epochs=1", "hidden=8", "compile=off"]) == 0
    for name in ("holed.csv", "numbers.csv"):
        pd.DataFrame({"a": [1.0, None], "b": [2.0, 3.0]}).to_csv(folder / "numbers.csv", index=False)
        assert cli.run(["impute", str(fitted), str(folder / name), "-o", str(folder / "f.csv")]) == 1
        said = capsys.readouterr().err
        assert "fitted to images of shape" in said
        assert "a table" in said
