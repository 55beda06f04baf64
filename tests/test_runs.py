"""A run as an object: what the command line, a service and a notebook call alike."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import torch
from PIL import Image
from pyarrow import parquet

import vaekit as vk
from vaekit import catalog, cli, runs
from vaekit.data import Dataset
from vaekit.errors import ArtifactError, BusyError, ConfigError, DataError
from vaekit.runs import Table
from vaekit.runs.folder import alone, set_aside
from vaekit.saving import artifact

pytestmark = pytest.mark.usefixtures("coarse", "quick_gap")

FAST = ["max_epochs=1", "hidden=4", "latent_dim=2", "likelihood=normal", "compile=off", "--quiet"]
NAMES = [f"s{i}" for i in range(60)]
X = np.random.default_rng(0).normal(size=(60, 3)) * [1, 10, 100]
FRAME = pa.table({"id": NAMES, "a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "kind": ["u", "v"] * 30})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run fitted to a table with identifiers and labels."""
    folder = tmp_path_factory.mktemp("runs")
    pyarrow.csv.write_csv(FRAME, folder / "t.csv")
    arguments = ["fit", folder / "t.csv", "-o", folder / "run", "--label", "kind", "--key", "id", *FAST]
    assert cli.run([str(argument) for argument in arguments]) == 0
    return folder


@pytest.fixture(scope="module")
def run(folder):
    return runs.open(folder / "run")


def same(first, second):
    assert list(first.to_dict()) == list(second.to_dict())
    for name, column in first.to_dict().items():
        np.testing.assert_array_equal(column, second.to_dict()[name], err_msg=name)


def test_a_run_knows_its_model_settings_and_data(folder, run):
    assert run.settings.hidden == (4,)
    assert (run.data.label, run.data.key, run.data.columns) == ("kind", "id", ("a", "b", "c"))
    assert (run.data.num_rows, run.data.event_shape, run.data.kind) == (60, (3,), "table")
    assert run.model is run.model
    assert len(run.records) == 1
    assert run.describe()["posterior"].startswith("DiagonalNormal")


def test_config_is_read_once(folder, monkeypatch):
    read, calls = artifact.read_config, []
    monkeypatch.setattr(artifact, "read_config", lambda path: calls.append(path) or read(path))
    arguments = ["score", folder / "run", "-o", folder / "once.npy", "--num-samples", 2]
    assert cli.run([str(argument) for argument in arguments]) == 0
    assert len(calls) == 1


def test_scores_are_those_of_the_library_under_the_key_of_each_row(run):
    scores = run.score(run.rows(), num_samples=7, seed=3)
    noise = torch.Generator().manual_seed(3)
    expected = vk.evaluation.log_marginal(run.model, X, num_samples=7, generator=noise, key="content")
    assert list(scores.to_dict()) == ["id", "log_p", "stderr", "ess"]
    assert scores.keys.tolist() == NAMES
    assert scores.to_numpy().dtype == np.float64
    np.testing.assert_array_equal(scores.to_numpy()[:, 0], expected.value)
    np.testing.assert_array_equal(scores.to_numpy()[:, 1], expected.stderr)
    np.testing.assert_array_equal(scores.to_numpy()[:, 2], expected.ess)
    same(scores, run.score(run.rows(), num_samples=7, seed=3))


def test_the_command_line_writes_what_the_run_answers(folder, run):
    for command, table in (
        ("score", run.score(run.rows(), num_samples=3)),
        ("encode", run.encode(run.rows())),
    ):
        extra = ["--num-samples", "3"] if command == "score" else []
        for suffix in ("csv", "parquet", "npy"):
            file, own = folder / f"cli.{suffix}", folder / f"own.{suffix}"
            assert cli.run([command, str(folder / "run"), "-o", str(file), *extra]) == 0
            table.write(own)
            assert file.read_bytes() == own.read_bytes()
        assert pyarrow.csv.read_csv(folder / "cli.csv").column_names == list(table.to_dict())
        assert parquet.read_table(folder / "cli.parquet")["id"].to_pylist() == NAMES
        np.testing.assert_array_equal(np.load(folder / "cli.npy"), table.to_numpy())


def test_codes_reconstructions_and_draws(run):
    rows = run.rows()
    codes, again, draws = run.encode(rows), run.reconstruct(rows), run.sample(5, seed=2)
    assert list(codes.to_dict()) == ["id", "z0", "z1"]
    np.testing.assert_array_equal(codes.values, run.model.encode(X, generator=torch.Generator().manual_seed(0)))
    assert list(again.to_dict()) == ["id", "a", "b", "c"]
    assert again.values.dtype == draws.values.dtype == np.float64
    np.testing.assert_allclose(again.values, run.model.reconstruct(X), rtol=1e-5, atol=1e-6)
    assert list(draws.to_dict()) == ["a", "b", "c"], "draws have no key"
    expected = run.model.sample(5, generator=torch.Generator().manual_seed(2))
    np.testing.assert_allclose(draws.values, expected, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(run.encode(rows, mean=False, seed=1).values, codes.values)


def test_rows_of_every_make_have_the_same_scores(folder, run):
    expected = run.encode(run.rows())
    records = FRAME.to_pylist()
    parquet.write_table(FRAME, folder / "t.parquet")
    for source in (
        FRAME,
        records,
        folder / "t.parquet",
        str(folder / "t.csv"),
        vk.data.from_frame(FRAME, "kind", key="id"),
    ):
        same(run.encode(run.rows(source)), expected)
    for array in (X, torch.from_numpy(X)):
        codes = run.encode(run.rows(array))
        assert codes.key == "row"
        np.testing.assert_array_equal(codes.values, expected.values)


def test_one_row_is_enough(folder, run):
    expected = run.encode(run.rows()).values[7:8]
    pyarrow.csv.write_csv(FRAME.slice(7, 1), folder / "one.csv")
    for source in (folder / "one.csv", FRAME.slice(7, 1), FRAME.to_pylist()[7:8], X[7:8]):
        np.testing.assert_allclose(run.encode(run.rows(source)).values, expected, rtol=1e-6)
        assert np.isfinite(run.score(run.rows(source), num_samples=4).values).all()


@pytest.mark.parametrize("columns", [["id", "a", "b", "c"], ["a", "b", "c", "kind"], ["a", "b", "c"]])
def test_new_rows_may_come_without_labels_and_identifiers(run, columns):
    rows = run.rows(FRAME.select(columns))
    assert rows.key == ("id" if "id" in columns else "row")
    assert (rows.labels is None) == ("kind" not in columns)
    np.testing.assert_array_equal(rows.x, X)


def test_every_command_takes_a_key_of_another_name(folder, capsys):
    pyarrow.csv.write_csv(FRAME.rename_columns(["name", "a", "b", "c", "kind"]), folder / "other.csv")
    run, file, key = folder / "run", folder / "other.csv", ["--key", "name"]
    shutil.copytree(run, folder / "twin")
    commands = [
        ["evaluate", run, file, "--quick", "--num-samples", 2, "--json"],
        ["compare", run, folder / "twin", file, "--num-samples", 2, "--json"],
        ["reconstruct", run, file, "-o", folder / "r.csv"],
        ["plot", run, "latent", file, "-o", folder / "l.png"],
        ["report", run, file, "-o", folder / "r.html", "--num-samples", 2],
    ]
    for command in commands:
        assert cli.run([*map(str, command), *key]) == 0, command
        assert cli.run([*map(str, command)]) == 1, "a column of names is no number"
    assert "name" in capsys.readouterr().err


def test_rows_without_a_number_are_reported(folder, run, capsys):
    """Two of 60 rows lie beyond float32: exit 0, how many and which on stderr; all of them: exit 1."""
    far = X.copy()
    far[[3, 50]] = 1e36
    for name, x in (("some", far), ("all", np.full_like(X, 1e36)), ("none", X)):
        pyarrow.csv.write_csv(pa.table({"id": NAMES, "a": x[:, 0], "b": x[:, 1], "c": x[:, 2]}), folder / f"{name}.csv")
        arguments = ["score", folder / "run", folder / f"{name}.csv", "-o", folder / "s.npy", "--num-samples", 20]
        code = cli.run([*map(str, arguments)])
        said = capsys.readouterr().err
        assert code == (1 if name == "all" else 0)
        written = np.load(folder / "s.npy")[:, 0]
        lost = ~np.isfinite(written)
        assert lost.sum() == {"some": 2, "all": 60, "none": 0}[name]
        if name == "none":
            assert "no number" not in said
        elif name == "some":
            assert "2 of 60 rows have no number: 2, as " in said
            assert "(id s3, s50)" in said
        else:
            assert "60 of 60 rows have no number" in said
            assert "(id s0, s1, s2, s3, s4, ...)" in said
    scores = run.score(run.rows(folder / "some.csv"), num_samples=20)
    assert scores.names(scores.without_number) == ["s3", "s50"]
    assert all(rows.shape == (60,) for rows in scores.reasons.values())


def test_the_key_may_have_another_name(folder, run):
    renamed = FRAME.rename_columns(["name", "a", "b", "c", "kind"])
    assert run.encode(run.rows(renamed, key="name")).key == "name"
    pyarrow.csv.write_csv(renamed, folder / "renamed.csv")
    arguments = ["score", folder / "run", folder / "renamed.csv", "-o", folder / "s.csv", "--num-samples", 2]
    assert cli.run([*map(str, arguments), "--key", "name"]) == 0
    assert pyarrow.csv.read_csv(folder / "s.csv")["name"].to_pylist() == NAMES
    with pytest.raises(DataError, match="no column 'nam' for the keys. Nearest: 'name'"):
        run.rows(renamed, key="nam")
    rows = run.rows(renamed, key="name")
    assert run.score(rows, num_samples=2).keys.tolist() == run.reconstruct(rows).keys.tolist() == NAMES
    assert vk.evaluation.evaluate(run.model, rows, num_samples=2)["num_points"].value == 60


def test_a_fault_in_a_remembered_column_is_said(folder, run):
    """And not dropped with the column, which ends in another message or in none."""
    holes = FRAME.set_column(0, "id", [[None, *NAMES[1:]]])
    with pytest.raises(DataError, match="Column 'id' .* 1 row.* without a key"):
        run.rows(holes)
    text = FRAME.set_column(1, "a", [["x", *["1"] * 59]])
    with pytest.raises(DataError, match="Column 'a' of 'frame' holds String, not numbers. If"):
        run.rows(text)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_file_is_read_once_where_it_has_what_the_run_remembers(folder, run, suffix, monkeypatch):
    table, calls, load = FRAME.drop_columns(["kind"]), [], vk.data.load
    pyarrow.csv.write_csv(table, folder / "part.csv")
    parquet.write_table(table, folder / "part.parquet")
    parquet.write_table(FRAME, folder / "t.parquet")
    monkeypatch.setattr(vk.data, "load", lambda *a, **k: calls.append(k) or load(*a, **k))
    assert run.rows(folder / f"t.{suffix}").key == "id"
    assert len(calls) == 1
    rows = run.rows(folder / f"part.{suffix}")
    assert (rows.key, rows.labels, len(calls)) == ("id", None, 3)


def test_rows_without_any_columns_need_neither_labels_nor_identifiers(folder, run):
    np.save(folder / "x.npy", X)
    np.savez(folder / "x.npz", data=X)
    for file in ("x.npy", "x.npz"):
        assert run.rows(folder / file).key == "row"


def test_tensors_of_every_make_are_rows(run):
    expected = run.encode(X.astype(np.float32)).values
    for make in (lambda x: x.requires_grad_(), lambda x: x.unsqueeze(0)[0]):
        x = make(torch.from_numpy(X.astype(np.float32)))
        np.testing.assert_array_equal(run.encode(run.rows(x)).values, expected)
    half = torch.ones(2, 3, dtype=torch.bfloat16)
    np.testing.assert_array_equal(run.rows(half).x, np.ones((2, 3), np.float32))
    with pytest.raises(DataError, match="complex"):
        run.rows(torch.ones(2, 3, dtype=torch.complex64))


def test_questions_take_what_rows_takes(run):
    for ask in (run.score, run.encode, run.reconstruct):
        np.testing.assert_array_equal(ask(X).values, ask(run.rows(X)).values)
        same(ask(FRAME), ask(run.rows(FRAME)))
    with pytest.raises(DataError, match="columns differ"):
        run.score(FRAME.select(["id", "a", "b"]))


@pytest.mark.parametrize(("ask", "name"), [("score", "ess"), ("encode", "z1"), ("reconstruct", "b")])
def test_a_key_called_like_a_column_of_the_answer_is_refused_at_once(run, ask, name, monkeypatch):
    rows = Dataset(X, keys=np.array(NAMES), key=name)
    for part in (run.model.encoder, run.model.decoder):
        monkeypatch.setattr(part, "forward", lambda x: pytest.fail("nothing is computed"))
    with pytest.raises(ConfigError, match=f"identifiers is called {name}, as a column of the result"):
        getattr(run, ask)(rows)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (FRAME.select(["id", "a", "b"]), DataError, "columns differ .*'c'"),
        ([{"a": 1.0}], DataError, "columns differ"),
        ([], DataError, "at least one row"),
        (3, DataError, "not a data frame"),
        (pa.table({"a": ["x"], "b": [1], "c": [2]}), DataError, "Column 'a' .* holds String"),
    ],
)
def test_rows_that_do_not_fit_are_refused(run, source, error, message):
    with pytest.raises(error, match=message):
        run.rows(source)


def test_images_are_keyed_by_their_files_and_named_sets_by_numbers(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 6, 6)).astype(np.uint8)
    (tmp_path / "images").mkdir()
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "images" / f"{i:02}.png")
    assert cli.run(["fit", str(tmp_path / "images"), "-o", str(tmp_path / "run"), *FAST]) == 0
    run = runs.open(tmp_path / "run")
    scores = run.score(run.rows(), num_samples=2)
    assert scores.key == "file"
    assert scores.keys.tolist() == [f"{i:02}.png" for i in range(20)]
    codes = run.encode(run.rows(pixels[:3, None]))
    assert (codes.key, codes.keys.tolist()) == ("row", [0, 1, 2])
    np.testing.assert_allclose(codes.values, run.encode(run.rows()).values[:3], rtol=1e-5)
    with pytest.raises(DataError, match=r"fitted to integers in 0..255; got float64 that are not whole"):
        run.rows(pixels[:, None] / 255)


def test_a_model_that_was_only_saved_answers_too(tmp_path):
    model, _ = vk.presets.vae((3,), latent_dim=2, hidden=(4,), likelihood="normal")
    vk.save(model, tmp_path / "saved")
    run = runs.open(tmp_path / "saved")
    assert (run.settings, run.data.columns, run.records) == (None, None, [])
    assert list(run.score(run.rows(X), num_samples=2).to_dict()) == ["row", "log_p", "stderr", "ess"]
    assert list(run.sample(2).to_dict()) == ["x0", "x1", "x2"]
    with pytest.raises(ConfigError, match="does not say what it was fitted to; name the data"):
        run.rows()
    with pytest.raises(ArtifactError, match="no saved model"):
        runs.open(tmp_path)


def test_a_run_of_an_older_version_opens(folder, tmp_path):
    """Its objective is text, and its data have no key."""
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / "run" / name).read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["metadata"]["objective"] = "ELBO(num_samples=1, beta=<vaekit.schedules.Linear object at 0x7f23>)"
    del config["metadata"]["data"]["key"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    run = runs.open(tmp_path)
    assert run.rows(FRAME.drop_columns(["id"])).key == "row"
    assert run.describe()["objective"] == config["metadata"]["objective"]
    assert catalog.cite(tmp_path)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("extra", [[], ["--label", "kind", "--key", "id"]], ids=["remembered", "repeated"])
def test_resume_remembers_how_the_data_were_read(folder, capsys, extra):
    before = contents(folder / "run")
    assert cli.run(["fit", str(folder / "t.csv"), "-o", str(folder / "run"), "--resume", *extra]) == 0
    assert "finished already" in capsys.readouterr().err
    assert contents(folder / "run") == before


def test_resume_remembers_the_size_and_goes_on(tmp_path):
    """A run that was stopped: what is remembered of it stays remembered."""
    (tmp_path / "images").mkdir()
    for i, image in enumerate(np.random.default_rng(0).integers(0, 256, (20, 6, 6)).astype(np.uint8)):
        Image.fromarray(image).save(tmp_path / "images" / f"{i:02}.png")
    arguments = ["fit", str(tmp_path / "images"), "-o", str(tmp_path / "run")]
    assert cli.run([*arguments, "--size", "4", *FAST]) == 0
    (tmp_path / "run" / "config.json").unlink()  # as if it had been killed before the end
    settings = (tmp_path / "run" / "settings.json").read_bytes()
    assert cli.run([*arguments, "--resume", "--quiet"]) == 0
    assert (tmp_path / "run" / "settings.json").read_bytes() == settings
    assert runs.open(tmp_path / "run").data.event_shape == (1, 4, 4)


# --- Runs that are refused -------------------------------------------------------------------------------------------

REFUSED = ["posterior=full-normal", "objective=beta-tc", "--quiet", "compile=off", "hidden=4"]


@pytest.fixture
def old(folder, tmp_path):
    """A copy of the run, to be overwritten."""
    return Path(shutil.copytree(folder / "run", tmp_path / "old"))


def test_a_new_run_that_is_refused_leaves_the_old_one(folder, old, capsys):
    """Refused by the objective, in the first step."""
    before = contents(old)
    data = ["fit", str(folder / "t.csv"), "-o", str(old), "--label", "kind", "--key", "id"]
    assert cli.run([*data, "--overwrite", *REFUSED]) == 2
    assert "factorised" in capsys.readouterr().err
    assert contents(old) == before


def test_a_refused_run_leaves_no_folder(folder, tmp_path):
    """The same command, mended, needs neither --overwrite nor --resume."""
    data = ["fit", str(folder / "t.csv"), "-o", str(tmp_path / "new"), "--label", "kind", "--key", "id"]
    assert cli.run([*data, *REFUSED]) == 2
    assert not (tmp_path / "new").exists()
    assert cli.run([*data, *FAST]) == 0


def test_a_new_run_takes_the_place_of_the_old_one(folder, old):
    data = ["fit", str(folder / "t.csv"), "-o", str(old), "--label", "kind", "--key", "id"]
    assert cli.run([*data, "--overwrite", *FAST, "seed=7"]) == 0
    assert sorted(contents(old)) == sorted(contents(folder / "run"))
    assert runs.open(old).settings.seed == 7


@pytest.mark.parametrize("has_begun", [False, True])
def test_a_fit_that_was_killed_is_settled_by_the_next_one(folder, old, has_begun):
    """What was set aside comes back, unless the new run has an epoch."""
    before = contents(old)
    set_aside(old)
    (old / "settings.json").write_bytes(before["settings.json"])
    (old / "metrics.jsonl").write_bytes(before["metrics.jsonl"] if has_begun else b"")
    data = ["fit", str(folder / "t.csv"), "-o", str(old)]
    assert cli.run([*data, "--quiet"]) == 2, "the folder holds a run"
    assert sorted(contents(old)) == (["metrics.jsonl", "settings.json"] if has_begun else sorted(before))
    assert cli.run([*data, "--resume", "--quiet"]) == 0
    assert runs.is_finished(old)


# --- Tables ----------------------------------------------------------------------------------------------------------


def test_a_table_is_a_frame_with_the_key_first():
    table = Table(np.array([[1.0, 2.0], [3.0, 4.0]]), ("u", "v"), "id", np.array(["a", "b"]))
    assert table.to_frame("pyarrow").to_pydict() == {"id": ["a", "b"], "u": [1.0, 3.0], "v": [2.0, 4.0]}
    assert list(table.without_keys().to_frame("pyarrow").to_pydict()) == ["u", "v"]
    assert len(table.to_frame()) == len(table) == 2


def test_a_table_is_written_as_its_suffix_says(tmp_path):
    table = Table(np.array([[1.5, 2.0]]), ("u", "v"), "id", np.array(["a,b"]))
    table.write(tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == '"id","u","v"\n"a,b",1.5,2\n'
    with pytest.raises(ConfigError, match=r"one of .npy, .csv, .parquet, .feather, .json, .jsonl; got .txt"):
        table.write(tmp_path / "t.txt")
    with pytest.raises(ConfigError, match="identifiers is called log_p, as a column of the result is; rename it"):
        Table(np.zeros((1, 1)), ("log_p",), "log_p", np.array(["a"]))


def test_rows_of_a_data_set_keep_their_keys_in_the_answer(run):
    part = Dataset(X, keys=np.array(NAMES), key="id").take([5, 2])
    assert run.encode(part).keys.tolist() == ["s5", "s2"]


def test_two_processes_do_not_fit_into_one_folder(tmp_path):
    run = tmp_path / "run"
    held = f"from pathlib import Path\nfrom vaekit.runs.folder import alone\nwith alone(Path({str(run)!r})):\n"
    script = f"{held}    print('in', flush=True)\n    input()\n"
    with subprocess.Popen([sys.executable, "-c", script], stdin=PIPE, stdout=PIPE, text=True) as other:
        assert other.stdout.readline() == "in\n"
        with pytest.raises(BusyError, match="another fit is writing"):
            vk.runs.fit("digits", run, {"max_epochs": 1}, progress=False)
        assert run.is_dir()  # empty as yet, and the other's
        other.kill()
    with alone(run):  # a killed process leaves no lock
        assert run.is_dir()
    assert not run.exists()


def test_a_folder_that_goes_is_never_another_processs(tmp_path):
    script = f"""
import os
from pathlib import Path
from vaekit.errors import BusyError
from vaekit.runs.folder import alone
run, mine, held = Path({str(tmp_path / "run")!r}), str(os.getpid()), 0
while held < 300:
    try:
        with alone(run):
            (run / mine).write_text("")
            assert os.listdir(run) == [mine]
            (run / mine).unlink()
            held += 1
    except BusyError:
        pass
"""
    others = [subprocess.Popen([sys.executable, "-c", script], stderr=PIPE, text=True) for _ in range(3)]
    assert [other.communicate(timeout=100)[1] for other in others] == ["", "", ""]


def test_a_row_scores_the_same_alone_and_among_others(run):
    """The noise of a row is a function of its content: neither its place nor its neighbours matter."""
    fitted, rows = run, run.rows().take(range(50))
    whole = fitted.score(rows, num_samples=20, seed=3)
    turned = fitted.score(rows.take(range(49, -1, -1)), num_samples=20, seed=3)
    np.testing.assert_allclose(turned.values[::-1], whole.values, rtol=1e-4)
    for i in (0, 48):
        alone = fitted.score(rows.take([i]), num_samples=20, seed=3)
        np.testing.assert_allclose(alone.values[0], whole.values[i], rtol=1e-4)
    assert not np.allclose(fitted.score(rows, num_samples=20, seed=4).values[:, 0], whole.values[:, 0], rtol=1e-4)
