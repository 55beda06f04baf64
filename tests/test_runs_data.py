"""The data of a run, read again: from another folder, moved, grown, changed, or gone."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vaekit as vk
from vaekit import cli, runs
from vaekit.errors import ConfigError, DataChangedWarning, DataError, ReadingWarning

pytestmark = pytest.mark.usefixtures("coarse", "quick_gap")

FAST = ["max_epochs=1", "hidden=4", "latent_dim=2", "compile=off", "--quiet"]
SETTINGS = {"max_epochs": 1, "hidden": "4", "latent_dim": 2, "compile": "off"}
X = np.random.default_rng(0).normal(size=(60, 3)) * [1, 10, 100]
OTHER = np.random.default_rng(1).normal(size=(20, 3))


def vaekit(*arguments) -> int:
    return cli.run([str(argument) for argument in arguments])


def write(path, x, header="a,b,c"):
    np.savetxt(path, x, delimiter=",", header=header, comments="")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A folder with the data and a run that was fitted to them by a relative path."""
    folder = tmp_path_factory.mktemp("fitted")
    write(folder / "data.csv", X)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert vaekit("fit", "data.csv", "-o", "run", *FAST) == 0
    return folder


@pytest.fixture
def project(fitted, tmp_path, monkeypatch):
    """A copy of that folder under its old name, as the current folder is another one."""
    shutil.copytree(fitted, tmp_path / "project")
    settings = tmp_path / "project" / "run" / "settings.json"
    settings.write_text(settings.read_text().replace(str(fitted), str(tmp_path / "project")))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "project"


def quietly(run, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return run.rows(**options)


# --- Place -----------------------------------------------------------------------------------------------------------


def test_settings_know_the_place_and_what_travels_with_the_model_does_not(fitted, tmp_path):
    stored = json.loads((fitted / "run" / "settings.json").read_text())["data"]
    assert stored["source"] == "data.csv"
    assert stored["local"]["place"] == str(fitted / "data.csv")
    assert stored["columns"] == ["a", "b", "c"]
    assert stored["crc32"]
    for source in (fitted / "data.csv", str(fitted / "data.csv")):
        vk.runs.fit(source, tmp_path / "run", SETTINGS, valid=str(fitted / "data.csv"), overwrite=True, progress=False)
        config = (tmp_path / "run" / "config.json").read_text()
        assert str(fitted) not in config
        data = json.loads(config)["metadata"]["data"]
        assert (data["source"], data["valid"]) == ("data.csv", "data.csv")


def test_commands_without_data_work_from_another_folder(project, capsys):
    write("data.csv", OTHER)  # a file of that name in the current folder is another one
    for command in ("score", "encode", "reconstruct"):
        assert vaekit(command, project / "run", "-o", "out.csv") == 0
        assert len(Path("out.csv").read_text().splitlines()) == 61
    assert vaekit("plot", project / "run", "latent", "-o", "p.png") == 0
    assert vaekit("evaluate", project / "run", "--num-samples", 5) == 0
    assert vaekit("compare", project / "run", project / "../project/run", "--num-samples", 5) == 0
    said = capsys.readouterr()
    assert "6 validation rows beside 54 training rows of data" in said.out
    assert "warning: " not in said.err.replace("warning: 6 rows", "")


def test_a_run_is_opened_once_and_asked_in_another_folder(project, monkeypatch):
    monkeypatch.chdir(project)
    run = runs.open("run")
    monkeypatch.chdir("/")
    assert len(run.score(quietly(run), num_samples=5)) == 60
    assert len(run.records) == 1


def test_a_project_is_moved_as_a_whole(project):
    moved = project.rename(project.parent / "moved")
    run = runs.open(moved / "run")
    with pytest.warns(DataChangedWarning, match=f"are read from {moved}/data.csv; they were at {project}/data.csv"):
        rows = run.rows()
    assert len(run.split(rows).train) == 54
    assert quietly(run).x.tolist() == rows.x.tolist()  # said once


def test_the_current_folder_is_searched_for_the_same_rows_only(project):
    run = runs.open(project / "run")
    (project / "data.csv").rename("data.csv")
    with pytest.warns(DataChangedWarning, match=r"are read from data\.csv; they were at"):
        assert run.rows().x.tolist() == X.tolist()
    write("data.csv", OTHER)
    with pytest.raises(DataError, match=r"data\.csv in this folder holds other rows than those that"):
        run.rows()


def test_data_that_are_gone_are_asked_for(project, capsys):
    (project / "data.csv").rename(project.parent / "new name.csv")
    assert vaekit("score", project / "run", "-o", "s.csv") == 1
    assert f"are not at {project}/data.csv any more. Name the place" in capsys.readouterr().err
    assert vaekit("score", project / "run", project.parent / "new name.csv", "-o", "s.csv") == 0
    assert "54 of the 60 rows were trained on; the others are validation rows" in capsys.readouterr().err


def test_a_run_that_was_copied_finds_the_data_of_this_machine_or_asks(project, capsys):
    shutil.copytree(project / "run", "copy")
    assert quietly(runs.open("copy")).x.tolist() == X.tolist()
    (project / "data.csv").unlink()
    for words in (["evaluate", "copy"], ["report", "copy", "-o", "r.html"], ["plot", "copy", "latent", "-o", "p.png"]):
        assert vaekit(*words) == 1
        assert f"fitted to are not at {project}/data.csv any more, nor at" in capsys.readouterr().err
    assert vaekit("sample", "copy", "-o", "s.csv") == 0  # asks for no data


def test_a_run_without_its_settings_file_looks_as_older_ones_did(project, monkeypatch):
    (project / "run" / "settings.json").unlink()
    run = runs.open(project / "run")
    with pytest.raises(DataError, match="No such file or folder"):
        run.rows()
    monkeypatch.chdir(project)
    assert len(run.split(quietly(run)).train) == 54
    write("data.csv", X[::-1])
    with pytest.raises(DataError, match="holds other rows than those that"):
        run.parts()
    with pytest.warns(DataChangedWarning, match="some values are others. Which of the rows"):
        assert run.parts("data.csv").part == "changed rows"


# --- Content ---------------------------------------------------------------------------------------------------------


def changed(project, x, message, header="a,b,c"):
    """The split of changed data, which is said."""
    write(project / "data.csv", x, header)
    run = runs.open(project / "run")
    with pytest.warns(DataChangedWarning, match=message):
        rows = run.rows()
    return rows, run.split(rows)


def trained(run):
    return {tuple(row) for row in quietly(run).take(run.split(run.rows()).train).x.tolist()}


def test_rows_that_were_appended_are_held_out(project):
    old = trained(runs.open(project / "run"))
    rows, split = changed(project, np.vstack([X, OTHER]), "20 rows appended. They count as held-out rows")
    assert {tuple(row) for row in rows.take(split.train).x.tolist()} == old
    assert (len(split.held_out), split.part) == (26, "held-out rows")


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (
            "before",
            "20 rows inserted. The rows of the fit are known by their content, and the others count as held-out",
        ),
        ("back", "stand in another order"),
    ],
)
def test_rows_are_known_by_their_content_wherever_they_stand(project, order, message):
    old = trained(runs.open(project / "run"))
    x = X[::-1] if order == "back" else np.vstack([OTHER, X])
    rows, split = changed(project, x, message)
    assert {tuple(row) for row in rows.take(split.train).x.tolist()} == old
    assert len(split.train) + len(split.held_out) == len(x)
    assert split.part == ("validation rows" if order == "back" else "held-out rows")


def test_a_changed_cell_is_said_and_its_row_is_no_part(project, capsys):
    x = X.copy()
    x[17, 1] += 0.5
    _rows, split = changed(project, x, r"1 of the 60 rows changed or gone \(row 17, column 'b'\)")
    assert 17 not in [*split.train, *split.held_out]
    assert len(split.train) + len(split.held_out) == 59
    assert vaekit("score", project / "run", "-o", "s.csv") == 0
    assert "1 may be changed rows of the fit" in capsys.readouterr().err


def test_rows_that_are_gone_leave_the_others_known(project):
    _rows, split = changed(project, X[5:40], "25 of the 60 rows changed or gone. The rows of the fit are known")
    assert len(split.train) + len(split.held_out) == 35


def test_of_data_that_were_changed_throughout_no_row_is_called_held_out(project, capsys):
    _rows, split = changed(project, X * 2, "none of the 60 rows is one of the 60 of the fit. Which of the rows")
    assert not split.is_known
    assert vaekit("evaluate", project / "run", "--num-samples", 5) == 0
    assert "60 changed rows of data" in capsys.readouterr().out


def test_one_column_that_changed_throughout_is_named(project):
    changed(project, X * [1, 1, 3], "none of the 60 rows is one of the 60 of the fit, column 'c'")


@pytest.mark.parametrize(
    ("columns", "header", "message"),
    [
        ([0, 1], "a,b", r"without \['c'\]. Hand over data that have these columns, or fit anew"),
        ([0, 1, 2, 2], "a,b,c,d", r"with \['d'\] besides. Leave those out: --drop d"),
        ([2, 1, 0], "c,b,a", r"their order. Read them in the order of the fit: --columns a,b,c"),
        ([0, 1, 2], "a,b,e", r"without \['c'\], with \['e'\]"),
    ],
)
def test_other_columns_are_refused_with_the_cure(project, columns, header, message):
    """Of a run without a schema, which knows its columns by their order."""
    assert vaekit("fit", project / "data.csv", "-o", project / "plain", "likelihood=normal", *FAST) == 0
    write(project / "data.csv", X[:, columns], header)
    with pytest.raises(DataError, match=message):
        runs.open(project / "plain").rows()


def test_by_a_schema_columns_are_found_by_their_names(project):
    run = runs.open(project / "run")
    write(project / "turned.csv", X[:, [2, 1, 0]], "c,b,a")
    np.testing.assert_array_equal(run.rows(project / "turned.csv").x, run.rows().x)
    write(project / "more.csv", X[:, [0, 1, 2, 2]], "a,b,c,d")
    with pytest.warns(ReadingWarning, match="left out 'd', which the schema does not have"):
        np.testing.assert_array_equal(run.rows(project / "more.csv").x, run.rows().x)
    write(project / "fewer.csv", X[:, :2], "a,b")
    with pytest.raises(DataError, match="no column 'c'. Nearest: 'a', 'b'"):
        run.rows(project / "fewer.csv")


def test_the_cures_for_columns_work(project):
    write(project / "data.csv", X[:, [2, 1, 0]], "c,b,a")
    assert vaekit("score", project / "run", "-o", "s.csv", "--columns", "a,b,c") == 0
    write(project / "data.csv", X[:, [0, 1, 2, 2]], "a,b,c,d")
    assert vaekit("score", project / "run", "-o", "s.csv", "--drop", "d") == 0


def test_comparing_runs_says_whose_data_changed(project, capsys):
    write(project / "data.csv", np.vstack([X, OTHER]))
    assert vaekit("fit", project / "data.csv", "-o", "second", *FAST) == 0
    capsys.readouterr()
    assert vaekit("compare", "second", project / "run", "--num-samples", 5) == 0
    said = capsys.readouterr()
    assert f"is not as it was when {project}/run was fitted to it: 20 rows appended" in said.err
    assert "was trained on" not in said.out


def test_images_that_were_added_between_the_old_ones(tmp_path):
    (tmp_path / "images").mkdir()
    for i in range(0, 40, 2):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (6, 4), dtype=np.uint8)).save(
            tmp_path / "images" / f"{i:02}.png"
        )
    vk.runs.fit(str(tmp_path / "images"), tmp_path / "run", SETTINGS, progress=False)
    Image.fromarray(np.zeros((6, 4), np.uint8)).save(tmp_path / "images" / "01.png")
    run = runs.open(tmp_path / "run")
    with pytest.warns(DataChangedWarning, match=": 1 row inserted"):
        rows = run.rows()
    split = run.split(rows)
    assert (len(split.train), len(split.held_out)) == (18, 3)
    assert 1 in split.held_out


def test_a_new_dtype_is_no_change(tmp_path):
    counts = np.random.default_rng(0).integers(0, 9, (40, 2))
    np.save(tmp_path / "x.npy", counts)
    vk.runs.fit(str(tmp_path / "x.npy"), tmp_path / "run", SETTINGS | {"likelihood": "normal"}, progress=False)
    np.save(tmp_path / "x.npy", np.vstack([counts, [[1, 2]]]).astype(np.float64))
    run = runs.open(tmp_path / "run")
    with pytest.warns(DataChangedWarning, match=": 1 row appended"):
        assert len(run.split(run.rows()).train) == 36


# --- Validation data, named sets, stdin, resuming --------------------------------------------------------------------


def test_validation_data_have_a_place_too(tmp_path, monkeypatch):
    write(tmp_path / "train.csv", X)
    write(tmp_path / "valid.csv", OTHER)
    monkeypatch.chdir(tmp_path)
    vk.runs.fit("train.csv", "run", SETTINGS, valid="valid.csv", progress=False)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = runs.open("../run")
    parts = run.parts()
    assert (len(parts.judged), len(parts.train), parts.part) == (20, 60, "validation rows")
    write(tmp_path / "valid.csv", OTHER + 1)
    with pytest.warns(DataChangedWarning, match="not as it was when it chose the epoch"):
        assert runs.open("../run").parts().part == "rows"


def test_the_folder_of_named_sets_is_remembered(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (30, 3, 3), dtype=np.uint8)
    for prefix in ("train", "t10k"):
        for name, values in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", images[:, 0, 0] % 10)):
            head = bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape)
            (tmp_path / "sets" / "mnist").mkdir(parents=True, exist_ok=True)
            (tmp_path / "sets" / "mnist" / f"{prefix}-{name}").write_bytes(head + values.tobytes())
    monkeypatch.chdir(tmp_path)
    vk.runs.fit("mnist", "run", SETTINGS, data_dir="sets", progress=False)
    monkeypatch.chdir("/")
    assert len(quietly(runs.open(tmp_path / "run"))) == 30
    assert str(tmp_path) not in (tmp_path / "run" / "config.json").read_text()


def test_resuming_from_another_folder_and_after_a_change(project, capsys):
    stored = (project / "run" / "settings.json").read_text()
    assert vaekit("fit", project / "data.csv", "-o", project / "run", "--resume", "--quiet") == 0
    assert (project / "run" / "settings.json").read_text() == stored
    write(project / "data.csv", np.vstack([X, OTHER]))
    capsys.readouterr()
    assert vaekit("fit", project / "data.csv", "-o", project / "run", "--resume", "--quiet") == 2
    error = capsys.readouterr().err
    assert "run was fitted to other data: 20 rows appended. --resume goes on with the same rows alone" in error
    x = X.copy()
    x[3, 2] = 0
    write(project / "data.csv", x)
    with pytest.raises(ConfigError, match=r"1 of the 60 rows changed or gone \(row 3, column 'c'\)"):
        vk.runs.fit(str(project / "data.csv"), project / "run", resume=True, progress=False)


def test_resuming_finds_the_validation_data_of_another_folder(tmp_path, monkeypatch):
    write(tmp_path / "train.csv", X)
    write(tmp_path / "valid.csv", OTHER)
    monkeypatch.chdir(tmp_path)
    vk.runs.fit("train.csv", "run", SETTINGS, valid="valid.csv", progress=False)
    (tmp_path / "run" / "config.json").unlink()  # as if it had been stopped
    monkeypatch.chdir("/")
    assert vk.runs.fit(str(tmp_path / "train.csv"), tmp_path / "run", resume=True, progress=False) is not None
    local = json.loads((tmp_path / "run" / "settings.json").read_text())["data"]["local"]
    assert local["valid_place"] == str(tmp_path / "valid.csv")


def test_a_member_of_an_archive_has_a_place(tmp_path, monkeypatch):
    np.savez(tmp_path / "x.npz", imgs=X, other=OTHER)
    monkeypatch.chdir(tmp_path)
    vk.runs.fit("x.npz:imgs", "run", SETTINGS, progress=False)
    monkeypatch.chdir("/")
    run = runs.open(tmp_path / "run")
    assert quietly(run).x.tolist() == X.tolist()
    np.savez(tmp_path / "new.npz", imgs=X[:2], other=OTHER)  # of others the array of that name is taken
    assert run.rows(tmp_path / "new.npz").x.tolist() == X[:2].tolist()
    np.savez(tmp_path / "else.npz", x=X[:2])
    with pytest.raises(DataError, match="no member 'imgs'; its members are 'x'"):
        run.rows(str(tmp_path / "else.npz"))
