"""Tables with words, dates and holes: fitted, scored, encoded and drawn, as codes and numbers by a schema."""

import csv
import importlib
import io
import json

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from vaekit import cli, likelihoods, runs, transforms
from vaekit.data.by_schema import load_by_schema
from vaekit.data.schema import Schema
from vaekit.errors import DataError, DriftWarning
from vaekit.models.view import View
from vaekit.recipes.tables import columns_likelihood, columns_transform
from vaekit.runs import fitting

pytestmark = pytest.mark.usefixtures("coarse", "quick_gap")

FAST = ["max_epochs=4", "hidden=16", "latent_dim=2", "compile=off"]


def frame(n=300, seed=0):
    """Rows of all kinds; the town goes with the income, the debt is none for most, some ages are missing."""
    rng = np.random.default_rng(seed)
    town = rng.choice(["Bern", "Basel", "Thun"], n, p=[0.6, 0.3, 0.1])
    income = np.round(np.exp(rng.normal(8, 0.6, n) + 0.8 * (town == "Basel")), 2)
    age = np.where(rng.random(n) < 0.1, np.nan, np.round(rng.normal(45, 12, n), 1))
    debt = np.where(rng.random(n) < 0.7, 0.0, np.round(rng.gamma(2, 300, n), 1))
    start = pd.Timestamp("2024-03-01") + pd.to_timedelta(rng.integers(0, 86_400 * 90, n), unit="s")
    return pd.DataFrame(
        {
            "id": [f"p{i:04d}" for i in range(n)],
            "town": town,
            "income": income,
            "age": age,
            "visits": rng.negative_binomial(1.2, 0.2, n),
            "debt": debt,
            "member": rng.random(n) < 0.3,
            "since": start,
        }
    )


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / "people.csv"
    frame().to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def run(table):
    folder = table.parent / "run"
    assert cli.run(["fit", str(table), "--key", "id", "-o", str(folder), "--quiet", *FAST]) == 0
    return folder


def test_fit_says_what_it_takes_the_columns_for(table, tmp_path, capsys):
    assert cli.run(["fit", str(table), "-o", str(tmp_path / "r"), "--quiet", "max_epochs=1", "hidden=4"]) == 0
    said = capsys.readouterr().err
    holes = int(frame()["age"].isna().sum())
    assert "people.csv: 1 identifier, 1 categorical" in said
    assert f"{holes} cells are empty and count as not observed" in said


def test_a_run_of_a_table_with_words_remembers_what_its_columns_are(run):
    fitted = runs.open(run)
    schema = fitted.data.columns_schema
    kinds = {column.name: column.kind for column in schema.columns}
    assert (kinds["town"], kinds["member"], kinds["since"], kinds["debt"]) == (
        "categorical",
        "binary",
        "datetime",
        "spiky",
    )
    assert fitted.data.columns == ("town", "income", "age", "visits", "debt", "member", "since")
    assert View.of(fitted.model).quantity == "density and mass"
    stored = json.loads((run / "config.json").read_text())["metadata"]["data"]["columns_schema"]
    assert Schema.model_validate(stored) == schema


def test_scores_are_the_same_from_a_file_a_frame_and_records(run, table, tmp_path):
    fitted = runs.open(run)
    new = frame(6, seed=1)
    new.loc[2, "town"] = None
    new.loc[3, ["income", "age", "visits"]] = np.nan
    new.to_csv(tmp_path / "new.csv", index=False)
    scores = fitted.score(fitted.rows(tmp_path / "new.csv"), num_samples=20)
    assert scores.keys.tolist() == new["id"].tolist()
    assert np.isfinite(scores.values).all()
    np.testing.assert_array_equal(fitted.score(fitted.rows(new), num_samples=20).values, scores.values)
    turned = new[list(new.columns[::-1])]
    np.testing.assert_array_equal(fitted.score(fitted.rows(turned), num_samples=20).values, scores.values)
    assert fitted.encode(fitted.rows(new)).values.shape == (6, 2)


def test_a_hole_counts_for_nothing_in_log_p(run):
    """With one column observed, log p is that of this column: the others' terms are left out, Jacobian and all."""
    fitted = runs.open(run)
    rows = frame(4, seed=2)
    x = fitted.data.columns_schema.encode(rows.drop(columns="id"))
    view = View.of(fitted.model, np.where(np.arange(7) == 0, x, np.nan))
    batch = view.batch(slice(0, 4))
    assert float(batch.log_det.abs().max()) == 0
    log_p = fitted.model.likelihood(fitted.model.prior().sample((4,))).log_prob_per_element(batch.x)
    assert bool((log_p[:, 1:] == 0).all())
    assert bool((log_p[:, 0] < 0).all())


def test_log_p_is_one_of_the_cells_in_their_own_units(run):
    """By hand: the likelihood in model space, and minus the log of each scale for the numbers that were observed."""
    fitted = runs.open(run)
    schema, model = fitted.data.columns_schema, fitted.model
    rows = frame(60, seed=4)
    x = schema.encode(rows.drop(columns="id"))
    batch = View.of(model, x).batch(slice(0, 60))
    expected = np.zeros(60)
    for part, places in zip(model.transform.transforms, model.transform.places, strict=True):
        inner = getattr(part, "transform", part)
        scales = getattr(inner, "scale", None)
        scales = inner.transforms[1].scale if scales is None else scales
        for i, place in enumerate(places):
            counts = ~np.isnan(x[:, place])
            if isinstance(part, transforms.Spiked):
                counts &= ~np.isin(x[:, place], part.spikes[i])
            expected -= np.where(counts, np.log(float(scales[i])), 0)
            if not hasattr(inner, "scale"):  # the logarithm before it
                expected -= np.where(counts, np.log(np.where(counts, x[:, place], 1)), 0)
    assert np.ptp(expected) > 5
    np.testing.assert_allclose(batch.log_det.numpy(), expected, rtol=1e-5)
    score = fitted.score(fitted.rows(rows), num_samples=20).values[:, 0]
    with pytest.warns(DriftWarning, match="income: empty in 100% of the rows, was 0%"):
        holes = fitted.rows(rows.assign(age=np.nan, income=np.nan, debt=np.nan, since=pd.NaT))
    assert np.median(score - fitted.score(holes, num_samples=20).values[:, 0]) < -15  # densities of seconds


def test_draws_are_rows_of_the_table(run, tmp_path):
    fitted = runs.open(run)
    drawn = fitted.sample(400, seed=0).to_frame("pandas")
    original = frame()
    assert list(drawn.columns) == list(fitted.data.columns_schema.decode(np.empty((0, 7)), "pandas").columns)
    assert set(drawn["town"].dropna()) == {"Bern", "Basel", "Thun"}
    assert set(drawn["member"].dropna()) == {True, False}
    assert (drawn["visits"] >= 0).all()
    assert ((drawn["visits"] % 1) == 0).all()
    assert (drawn["income"] > 0).all()
    share = float((drawn["debt"] == 0).mean())
    assert abs(share - float((original["debt"] == 0).mean())) < 0.15  # a point mass is drawn as such
    assert pd.to_datetime(drawn["since"]).dt.year.isin([2023, 2024, 2025]).all()
    assert cli.run(["sample", str(run), "-n", "5", "-o", str(tmp_path / "rows.csv")]) == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "rows.csv").read_text())))
    assert {row["town"] for row in rows} <= {"Bern", "Basel", "Thun"}
    again = fitted.rows(tmp_path / "rows.csv")  # drawn rows can be scored as any others
    assert np.isfinite(fitted.score(again, num_samples=5).values).all()


def test_reconstructions_are_cells_too(run):
    fitted = runs.open(run)
    again = fitted.reconstruct(fitted.rows(frame(5, seed=3))).to_frame("pandas")
    assert again["id"].tolist() == [f"p{i:04d}" for i in range(5)]
    assert set(again["town"]) <= {"Bern", "Basel", "Thun"}
    assert set(again["member"]) <= {True, False}


def test_what_does_not_fit_the_table_is_told_by_row_and_column(run, table, tmp_path, capsys):
    fitted = runs.open(run)
    bad = frame(3)
    bad.loc[1, "town"] = "Zug"
    bad.to_csv(tmp_path / "bad.csv", index=False)
    with pytest.raises(DataError, match=r"Column 'town' has no level 'Zug', which row 1 \(line 3\) holds"):
        fitted.rows(tmp_path / "bad.csv")
    with pytest.raises(DataError, match="no column 'age'"):
        fitted.rows(frame(3).drop(columns="age"))
    assert cli.run(["fit", str(table), "-o", str(tmp_path / "x"), "likelihood=normal"]) == 1
    assert "holds String, not numbers" in capsys.readouterr().err


def test_a_schema_edited_by_hand_is_followed(table, tmp_path):
    path, folder = tmp_path / "schema.json", tmp_path / "run"
    assert cli.run(["schema", str(table), "-o", str(path)]) == 0
    tree = json.loads(path.read_text())
    for column in tree["columns"]:
        if column["name"] == "visits":
            column |= {"kind": "continuous"}
    path.write_text(json.dumps(tree))
    assert cli.run(["fit", str(table), "--schema", str(path), "-o", str(folder), "--quiet", *FAST]) == 0
    fitted = runs.open(folder)
    assert fitted.data.columns_schema["visits"].kind == "continuous"
    assert fitted.data.columns == ("town", "income", "age", "visits", "debt", "member", "since")


def test_each_kind_has_a_head_and_a_way_into_its_support():
    schema = Schema.found(frame(400).drop(columns="id"))
    head, transform = columns_likelihood(schema), columns_transform(schema)
    by_column = {}
    for part, places in zip(head.heads, head.places, strict=True):
        by_column |= {schema.modelled[place].name: type(part) for place in places}
    assert by_column["town"] is likelihoods.Categorical
    assert by_column["member"] is likelihoods.Bernoulli
    assert by_column["visits"] in (likelihoods.RoundedLogNormal, likelihoods.ZeroInflatedNegativeBinomial)
    assert by_column["debt"] is likelihoods.Spiked
    assert isinstance(transform, transforms.Columns)
    led = {place for places in transform.places for place in places}
    assert {schema.modelled[place].name for place in led} == {"income", "age", "debt", "since"}


def test_every_command_knows_a_table(run, tmp_path, capsys):
    for command in (
        ["info", run],
        ["evaluate", run, "--num-samples", "10"],
        ["report", run, "-o", tmp_path / "page.html", "--num-samples", "10"],
        ["plot", run, "reconstructions", "-o", tmp_path / "x.png"],
        ["plot", run, "samples", "-o", tmp_path / "y.png"],
        ["reconstruct", run, "-o", tmp_path / "r.csv"],
        ["cite", run],
    ):
        assert cli.run([str(word) for word in command]) == 0, command
    out = capsys.readouterr().out
    assert "data.columns_schema.town" in out
    assert "IWAE, K = 10 (density and mass)" in out
    assert "bits per dimension" not in out
    assert "a probability density in the columns of numbers" in (tmp_path / "page.html").read_text()


PARSERS = {
    "csv": ("pyarrow.csv", "read_csv"),
    "csv.gz": ("pyarrow.csv", "read_csv"),
    "parquet": ("pyarrow.parquet.ParquetFile", "read"),
    "feather": ("pyarrow.feather", "read_table"),
    "jsonl": ("vaekit.data.readers.json_files", "table_of_records"),
    "xlsx": ("openpyxl", "load_workbook"),
}


@pytest.mark.parametrize("suffix", PARSERS)
@pytest.mark.parametrize("columns", [["age", "income"], ["town", "age"]], ids=["numbers", "words"])
def test_a_file_is_parsed_once(suffix, columns, tmp_path, monkeypatch):
    """Whether its rows are numbers and which kinds its columns have are two questions to one parsed table."""
    rows, path = frame()[columns].copy(), tmp_path / f"t.{suffix}"
    write = {
        "jsonl": lambda: rows.to_json(path, orient="records", lines=True),
        "feather": lambda: rows.to_feather(path),
    }
    write |= {"parquet": lambda: rows.to_parquet(path), "xlsx": lambda: rows.to_excel(path, index=False)}
    write.get(suffix, lambda: rows.to_csv(path, index=False))()
    place, name = PARSERS[suffix]
    owner = pyarrow.parquet.ParquetFile if suffix == "parquet" else importlib.import_module(place)
    own, calls = getattr(owner, name), []
    monkeypatch.setattr(owner, name, lambda *args, **kwargs: calls.append(name) or own(*args, **kwargs))
    met = []
    monkeypatch.setattr(fitting, "prepare", lambda wanted, parts, *args, **kwargs: met.append(parts) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        runs.fit(str(path), tmp_path / "run")
    assert calls == [name]
    np.testing.assert_array_equal(met[0].whole.x, load_by_schema(path).x)
