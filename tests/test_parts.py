"""Tables in several files."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from vaekit import cli, data, evaluation, runs
from vaekit.data.by_schema import is_table_file, load_by_schema
from vaekit.data.readers.frames import frame
from vaekit.errors import DataError
from vaekit.runs import by_part, detection
from vaekit.runs.asking import Question


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return pd.DataFrame({"a": rng.normal(size=60), "kind": rng.choice(["x", "y"], 60), "b": rng.normal(size=60) + 3})


def write(table, folder, suffix=".parquet", num=3):
    folder.mkdir(parents=True)
    for i, rows in enumerate(np.array_split(np.arange(len(table)), num)):
        part, path = table.iloc[rows], folder / f"part-{i}{suffix}"
        part.to_parquet(path, index=False) if suffix == ".parquet" else part.to_csv(path, index=False)
    return folder


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz"])
def test_a_folder_and_a_pattern_are_the_rows_of_all_parts_in_order(tmp_path, table, suffix):
    folder = write(table, tmp_path / "parts", suffix)
    (folder / "_SUCCESS").write_text("")
    (folder / ".hidden.png").write_bytes(b"")
    for source in (folder, str(folder), str(folder / f"part-*{suffix}"), str(tmp_path / "**" / f"*{suffix}")):
        assert is_table_file(source)
        assert frame(source).to_pandas().equals(table)
    found, whole = load_by_schema(folder), load_by_schema(table)
    assert np.array_equal(found.x, whole.x)
    assert [(c.name, c.kind, c.levels) for c in found.schema.columns] == [
        (c.name, c.kind, c.levels) for c in whole.schema.columns
    ]
    assert found.name == "parts"
    assert load_by_schema(str(folder / f"*{suffix}")).name == "parts"
    numbers = data.load(str(folder), reading=data.Reading(columns=("b", "a")))
    assert np.array_equal(numbers.x, table[["b", "a"]].to_numpy())


def test_folders_of_parts_may_be_nested_and_columns_in_another_order(tmp_path, table):
    write(table[:30], tmp_path / "all" / "2023", num=1)
    write(table[30:][["b", "kind", "a"]], tmp_path / "all" / "2024", num=2)
    assert frame(tmp_path / "all").to_pandas().equals(table)


def test_numbers_of_several_types_and_columns_without_a_value_fit_together(tmp_path):
    tmp_path.joinpath("parts").mkdir()
    for i, values in enumerate([pa.array([1, 2]), pa.array([0.5, None]), pa.nulls(2)]):
        parquet.write_table(pa.table({"v": values}), tmp_path / "parts" / f"{i}.parquet")
    assert frame(tmp_path / "parts")["v"].to_pylist() == [1.0, 2.0, 0.5, None, None, None]


def test_parts_that_do_not_fit_are_named(tmp_path, table):
    folder = write(table, tmp_path / "parts")
    last = folder / "part-2.parquet"
    for other, said in (
        (table.drop(columns="b"), r"part-2.parquet lacks the column 'b', which the first part has \(part-0.parquet\)"),
        (table.assign(c=1), "part-2.parquet has a column 'c', which the first part lacks"),
        (table.assign(a="word"), "Column 'a' of .*part-2.parquet holds .*string, and that of part-0.parquet double"),
    ):
        other.to_parquet(last, index=False)
        with pytest.raises(DataError, match=said):
            frame(folder)
    last.write_bytes(last.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"part-2\.parquet"):
        frame(folder)
    last.unlink()
    table.to_csv(folder / "part-2.csv", index=False)
    with pytest.raises(DataError, match=r"have several formats: \.csv, \.parquet"):
        frame(folder)
    with pytest.raises(DataError, match=r"No file fits .*none\*"):
        data.load(str(tmp_path / "none*"))
    (folder / "notes.txt").write_text("none")
    with pytest.raises(DataError, match=r"fits notes\.txt, which is no table"):
        frame(str(folder / "*"))


def test_a_cell_that_is_wrong_is_named_with_its_part(tmp_path, table):
    folder = write(table, tmp_path / "parts", ".csv")
    schema = load_by_schema(folder).schema
    table.iloc[40:].assign(kind=["x"] * 5 + ["z"] + ["y"] * 14).to_csv(folder / "part-2.csv", index=False)
    with pytest.raises(DataError, match=r"row 5 of part-2\.csv"):
        load_by_schema(folder, schema)


def test_a_run_finds_its_parts_again_and_scores_some_of_them(tmp_path, table, monkeypatch):
    write(table, tmp_path / "parts")
    monkeypatch.chdir(tmp_path)
    fast = {"max_epochs": 2, "latent_dim": 1, "hidden": (4,), "compile": "off"}
    runs.fit("parts/*.parquet", "run", fast)
    run = runs.open("run")
    whole = run.score(run.rows()).values
    assert whole.shape == (60, 3)
    assert run.score(run.rows("parts/part-1*")).values[:, 0] == pytest.approx(whole[20:40, 0], rel=1e-5)
    assert run.score(run.rows("parts")).values[:, 0] == pytest.approx(whole[:, 0], rel=1e-5)


@pytest.fixture
def fitted(tmp_path, table, monkeypatch):
    """A run of a table in three parts, in the current folder."""
    write(table.assign(a=table["a"].where(table.index % 7 > 0)), tmp_path / "parts")
    monkeypatch.chdir(tmp_path)
    fast = {"max_epochs": 2, "latent_dim": 1, "hidden": (4,), "compile": "off"}
    runs.fit("parts", "run", fast)
    return tmp_path


def answers(folder):
    return pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("*"))], ignore_index=True)


@pytest.mark.parametrize("command", [["score", "--num-samples", "20"], ["encode"], ["impute", "--num-samples", "20"]])
def test_answers_to_parts_are_those_of_the_whole_table(fitted, command):
    name, *options = command
    assert cli.run([name, "run", "parts", "-o", "whole.parquet", *options]) == 0
    assert cli.run([name, "run", "parts", "-o", "out", *options]) == 0
    assert [path.name for path in sorted((fitted / "out").iterdir())] == [f"part-0000{i}.parquet" for i in range(3)]
    found, whole = answers(fitted / "out"), pd.read_parquet("whole.parquet")
    pd.testing.assert_frame_equal(found, whole, rtol=1e-4, atol=1e-5)


def test_a_part_that_is_answered_is_not_asked_again(fitted, capsys):
    score = ["score", "run", "parts/*.parquet", "-o", "out", "--num-samples", "5"]
    assert cli.run(score) == 0
    before = answers(fitted / "out")
    first = (fitted / "out" / "part-00000.parquet").stat().st_mtime_ns
    (fitted / "out" / "part-00001.parquet").unlink()
    (fitted / "out" / "part-00002.parquet").write_bytes(b"PAR1 and nothing")  # as a crash of the machine leaves it
    capsys.readouterr()
    assert cli.run(score) == 0
    assert "wrote 3 parts, 1 of which stood there, 60 rows" in capsys.readouterr().err
    assert (fitted / "out" / "part-00000.parquet").stat().st_mtime_ns == first
    pd.testing.assert_frame_equal(answers(fitted / "out"), before)
    part = pd.read_parquet("parts/part-0.parquet")
    part.assign(b=part["b"] + 1).to_parquet("parts/part-0.parquet", index=False)
    assert cli.run(score) == 0
    after = answers(fitted / "out")
    assert (after["log_p"][:20] != before["log_p"][:20]).all()
    pd.testing.assert_frame_equal(after[20:], before[20:])
    part.iloc[1:].to_parquet("parts/part-0.parquet", index=False)  # all rows behind have other numbers
    assert cli.run(score) == 0
    assert answers(fitted / "out")["row"].tolist() == list(range(59))


def test_what_cannot_be_answered_by_part_is_said(fitted, table, capsys):
    assert cli.run(["score", "run", "parts", "-o", "out"]) == 0
    assert cli.run(["score", "run", "parts", "-o", "out", "--seed", "1"]) == 2
    assert "answers another question, or is of another run" in capsys.readouterr().err
    table.to_csv("one.csv", index=False)
    assert cli.run(["score", "run", "one.csv", "-o", "other"]) == 2
    assert "is a folder for the answers to a table in parts" in capsys.readouterr().err
    (fitted / "parts" / "part-1.parquet").write_bytes(b"none")
    assert cli.run(["score", "run", "parts", "-o", "third"]) != 0
    assert "part-1.parquet" in capsys.readouterr().err


def test_bounds_of_parts_have_the_means_of_all_rows(fitted, capsys):
    assert cli.run(["evaluate", "run", "parts", "-o", "out", "--num-samples", "20", "--json"]) == 0
    found = {row["name"]: row for row in json.loads(capsys.readouterr().out)["results"]}
    rows = pd.concat([pd.read_parquet(path) for path in sorted((fitted / "out").glob("part-*"))])
    assert rows["row"].tolist() == list(range(60))
    for name, error in (("elbo", "elbo_stderr"), ("iwae", "stderr")):
        assert found[name]["value"] == pytest.approx(rows[name].mean())
        assert found[name]["stderr"] == pytest.approx(np.sqrt(np.square(rows[error]).sum()) / 60)
        assert found[name]["sampling_stderr"] == pytest.approx(rows[name].std() / np.sqrt(60))
    assert rows["elbo"].to_numpy() == pytest.approx((rows["log_likelihood"] - rows["kl"]).to_numpy(), abs=1e-4)
    run = runs.open("run")
    whole = evaluation.elbo(run.model, run.rows("parts"), num_samples=2000)
    assert found["elbo"]["value"] == pytest.approx(whole.mean, abs=4 * found["elbo"]["stderr"])
    assert found["num_points"]["value"] == 60
    assert "diagnostics.active_units" in found
    assert json.loads((fitted / "out" / "_results.json").read_text())["results"] == list(found.values())
    assert cli.run(["evaluate", "run", "parts", "-o", "out", "--num-samples", "20", "--json"]) == 0
    said = capsys.readouterr()
    assert {row["name"]: row for row in json.loads(said.out)["results"]} == found
    assert "wrote 3 parts, 3 of which stood there" in said.err


@pytest.mark.parametrize("num_samples", [None, 7])
def test_draws_per_row_follow_from_the_rows_of_all_parts(tmp_path, table, monkeypatch, num_samples):
    monkeypatch.setattr(detection, "MANY_ROWS", 50)
    monkeypatch.setattr(by_part, "MANY_ROWS", 50)
    parts = sorted(write(table, tmp_path / "parts").iterdir())
    runs.fit(
        str(tmp_path / "parts"),
        tmp_path / "run",
        {"max_epochs": 2, "latent_dim": 1, "hidden": (4,), "compile": "off"},
        progress=False,
    )
    run = runs.open(tmp_path / "run")
    found = by_part.answer_by_part(run, parts, tmp_path / "out", Question("score", {"num_samples": num_samples}))
    K = num_samples or 10  # each part has 20 rows, and would get 100
    whole = run.score(run.rows(tmp_path / "parts"), num_samples=K)
    log_p = np.concatenate([parquet.read_table(path)["log_p"].to_numpy() for path in found.answers])
    np.testing.assert_allclose(log_p, whole.values[:, 0], atol=1e-5)
    few = by_part.of_all_parts(Question("score"), parts[:2])
    assert few.options == {"num_samples": 100}
