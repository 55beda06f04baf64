"""Names that are no UTF-8, ASCII locales, places that cannot be written, stdin: found out before the work is done."""

import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

import vaekit as vk
from vaekit import cli, paths, runs
from vaekit.errors import ArtifactError, ConfigError, DataError
from vaekit.saving import artifact
from vaekit.saving.files import check_place, write_atomically

pytestmark = pytest.mark.usefixtures("coarse", "quick_gap")

RAW = os.fsdecode(b"d\xe9pense")  # Latin-1
FAST = ["max_epochs=1", "hidden=4", "latent_dim=2", "compile=off", "--quiet"]
X = np.random.default_rng(0).normal(size=(40, 3))
posix = pytest.mark.skipif(sys.platform != "linux", reason="file systems of other systems take Unicode alone")


def vaekit(*arguments) -> int:
    return cli.run([str(argument) for argument in arguments])


def table(path, x=X):
    with open(path, "wb") as file:
        np.savetxt(file, x, delimiter=",", header="a,b,c", comments="")


# --- Names -----------------------------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("name", ["data.csv", "größe.csv", "a b%41.csv", RAW, "file:", "\\xe9"])
def test_places_come_back_and_are_unicode(name):
    text = paths.to_place(f"/tmp/{name}")
    assert text.encode().decode() == text
    assert paths.from_place(text) == f"/tmp/{name}"
    assert (text == f"/tmp/{name}") == (name != RAW)
    assert paths.as_text(name) == (name if name != RAW else r"d\xe9pense")
    assert paths.as_text("\ud800") == r"\ud800"


def files(folder):
    """A file of each format, and images, under names that are no UTF-8."""
    table(folder / f"{RAW}.csv")
    with open(folder / f"{RAW}.npy", "wb") as file:
        np.save(file, X)
    with open(folder / f"{RAW}.npz", "wb") as file:
        np.savez(file, imgs=X, other=X)
    with open(folder / f"{RAW}.parquet", "wb") as file:
        parquet.write_table(pa.table({c: X[:, i] for i, c in enumerate("abc")}), file)
    for kind in (RAW, "other"):
        (folder / RAW / kind).mkdir(parents=True)
        for i in range(10):
            pixels = np.random.default_rng(i).integers(0, 256, (4, 6), dtype=np.uint8)
            with open(folder / RAW / kind / f"{i}{RAW}.png", "wb") as file:
                Image.fromarray(pixels).save(file, "PNG")


@posix
@pytest.mark.parametrize("source", [f"{RAW}.csv", f"{RAW}.npy", f"{RAW}.npz:imgs", f"{RAW}.parquet", RAW])
def test_names_that_are_no_utf8_work_in_each_format(tmp_path, monkeypatch, capsys, source):
    files(tmp_path)
    monkeypatch.chdir(tmp_path)
    run = tmp_path / f"run {RAW}"
    assert vaekit("fit", source, "-o", run.name, *FAST) == 0
    for name in ("settings.json", "config.json"):
        text = (run / name).read_bytes().decode()
        assert json.dumps(json.loads(text), ensure_ascii=False).encode()
        assert "pense" in text
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for suffix in (".csv", ".parquet", ".npy"):
        assert vaekit("score", run, "-o", f"{RAW}{suffix}") == 0
        assert Path(f"{RAW}{suffix}").exists()
    assert vaekit("evaluate", run, "--num-samples", 5, "--json") == 0
    assert vaekit("report", run, "--num-samples", 5, "-o", f"{RAW}.html") == 0
    said = capsys.readouterr()
    assert json.loads(said.out[said.out.index("{") :])["run"].endswith(r"run d\xe9pense")
    assert r"wrote d\xe9pense.csv" in said.err
    assert r"d\xe9pense" in Path(f"{RAW}.html").read_text(encoding="utf-8")


@posix
def test_an_ascii_locale_reads_writes_and_prints_everything(tmp_path):
    table(tmp_path / "größe.csv")
    names = ("LC_ALL", "LANG", "PYTHONUTF8", "PYTHONCOERCECLOCALE", "PYTHONIOENCODING")
    environment = {**os.environ, **dict(zip(names, ("C", "C", "0", "0", "ascii"), strict=True))}

    def program(*arguments):
        command = [sys.executable, "-m", "vaekit", *map(str, arguments)]
        found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=240)
        assert found.returncode == 0, found.stderr
        return found

    fit = program("fit", "größe.csv", "-o", "Ergebnis für b", *FAST)
    assert rb"Ergebnis f\xfcr b: 1 epochs" in fit.stdout  # the locale has no such letter
    stored = json.loads((tmp_path / "Ergebnis für b" / "settings.json").read_text(encoding="utf-8"))
    assert stored["data"]["local"]["place"] == str(tmp_path / "größe.csv")
    scores = program("score", "Ergebnis für b", "-o", "-")
    assert scores.stdout.startswith(b'"row","log_p"')
    assert rb"gr\xf6\xdfe" in program("evaluate", "Ergebnis für b", "--num-samples", "5").stdout


def test_text_that_a_stream_lacks_is_escaped():
    paths.register_escapes()
    assert f"é {RAW} € 😀".encode("ascii", paths.ERRORS) == rb"\xe9 d\xe9pense \u20ac \U0001f600"
    assert f"é {RAW}".encode("utf-8", paths.ERRORS) == "é ".encode() + rb"d\xe9pense"


@posix
@pytest.mark.parametrize("option", ["--missing", "--encoding", "--label", "--columns", "--delimiter"])
def test_words_that_are_no_utf8_are_refused_in_words(tmp_path, capsys, option):
    table(tmp_path / "x.csv")
    assert vaekit("fit", tmp_path / "x.csv", "-o", tmp_path / "run", option, RAW, *FAST) in (0, 1, 2)
    assert "unexpected" not in capsys.readouterr().err
    with pytest.raises(DataError, match="is no UTF-8"):
        vk.data.Reading(missing=(RAW,))


def test_keys_that_are_no_unicode_can_be_written(tmp_path):
    data = vk.data.Dataset(X, keys=np.array([RAW] * 40), key="id")
    assert set(data.row_keys) == {r"d\xe9pense"}


# --- Places to write -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paths")
    table(folder / "x.csv")
    assert vaekit("fit", folder / "x.csv", "-o", folder / "run", *FAST) == 0
    return folder / "run"


COMMANDS = {
    "score": (["score"], ".csv"),
    "encode": (["encode"], ".npy"),
    "reconstruct": (["reconstruct"], ".parquet"),
    "sample": (["sample"], ".csv"),
    "evaluate": (["evaluate"], ".json"),
    "plot": (["plot"], ".svg"),
    "report": (["report"], ".html"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("place", "code", "message"),
    [
        ("nowhere/out{}", 2, "the folder nowhere does not exist; create it first"),
        ("file/out{}", 2, "file is a file, no folder to write out"),
        ("folder{}", 2, "is a folder; name a file"),
        ("x" * 300 + "{}", 1, "File name too long"),
        ("denied{}", 1, "Permission denied"),
        ("out.xyz", 2, "the suffix picks the format"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    run, tmp_path, monkeypatch, capsys, command, place, code, message
):
    words, suffix = COMMANDS[command]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / f"folder{suffix}").mkdir()
    make = tempfile.mkstemp

    def mkstemp(dir=None, prefix="", **options):
        if "denied" in prefix:
            raise PermissionError(13, "Permission denied")
        return make(dir=dir, prefix=prefix, **options)

    monkeypatch.setattr(tempfile, "mkstemp", mkstemp)
    monkeypatch.setattr(runs, "open", lambda folder: pytest.fail("the work began"))
    kind = ["latent"] if command == "plot" else []
    assert vaekit(*words, run, *kind, "-o", place.format(suffix)) == code
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", f"folder{suffix}"]


@pytest.mark.parametrize("command", ["sample", "reconstruct"])
def test_a_picture_of_rows_that_are_no_images_is_refused_before_the_work(run, monkeypatch, capsys, command):
    monkeypatch.setattr(runs.Run, command, lambda *a, **k: pytest.fail("the work began"))
    assert vaekit(command, run, "-o", run.parent / "x.png") == 2
    assert "a .png shows images, and a row of" in capsys.readouterr().err


def test_the_longest_name_can_be_written(tmp_path):
    path = tmp_path / ("x" * 251 + ".csv")
    check_place(path)
    write_atomically(path, b"1")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_link_to_itself_and_a_dangling_one_are_replaced(tmp_path):
    for name, target in (("loop.csv", "loop.csv"), ("dangling.csv", "nowhere.csv")):
        (tmp_path / name).symlink_to(target)
        check_place(tmp_path / name)
        write_atomically(tmp_path / name, b"1")
        assert (tmp_path / name).read_bytes() == b"1"


def test_a_folder_that_cannot_be_written_is_refused_before_data_are_read(run, tmp_path, monkeypatch):
    def refuse(**options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    monkeypatch.setattr(vk.data, "load", lambda *a, **k: pytest.fail("data were read"))
    with pytest.raises(ArtifactError, match="cannot write .*Permission denied"):
        vk.runs.fit(str(run.parent / "x.csv"), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_described_is_refused_before_training(run, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="cannot be written as JSON"):
        artifact.check(runs.open(run).model, {"note": "\ud800"})
    monkeypatch.setattr(vk.Trainer, "fit", lambda *a, **k: pytest.fail("training began"))
    monkeypatch.setattr("vaekit.runs.training.asdict", lambda rows: {"oops": object()})
    with pytest.raises(ConfigError, match="cannot be written as JSON"):
        vk.runs.fit(str(run.parent / "x.csv"), tmp_path / "run", progress=False)


def test_an_interrupt_after_the_last_epoch_costs_no_model(run, tmp_path, monkeypatch):
    def interrupted(*a):
        raise KeyboardInterrupt

    monkeypatch.setattr("vaekit.runs.training.with_log_p", interrupted)
    with pytest.raises(KeyboardInterrupt):
        vk.runs.fit(str(run.parent / "x.csv"), tmp_path / "run", {"max_epochs": 1, "hidden": "4"}, progress=False)
    assert runs.open(tmp_path / "run").config.metadata["finished"]
    assert runs.open(tmp_path / "run").training_rows is not None


def test_a_tilde_may_begin_the_name_of_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("~.csv", "~nobody~.csv", "~nobody~.npz"):
        if name.endswith(".npz"):
            np.savez(name, imgs=np.eye(3))
            assert len(vk.data.load(f"./{name}:imgs")) == len(vk.data.load(f"{name}:imgs")) == 3
        else:
            Path(name).write_text("a,b\n1,2\n3,4\n")
            assert vk.data.load(name).x.tolist() == vk.data.load(f"./{name}").x.tolist() == [[1, 2], [3, 4]]
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("t.csv").write_text("a,b\n1,2\n")
    assert vk.data.load("~/t.csv").x.tolist() == [[1, 2]]


# --- stdin, sizes ----------------------------------------------------------------------------------------------------


def test_a_model_is_fitted_to_stdin_and_asked_for_other_rows(run, monkeypatch, capsys):
    folder = run.parent
    words = f"{sys.executable} -m vaekit fit - -o piped {' '.join(FAST)}"
    command = ["sh", "-c", f"cat x.csv | {words}"]
    fit = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    assert fit.returncode == 0, fit.stderr
    data = json.loads((folder / "piped" / "settings.json").read_text())["data"]
    assert (data["source"], data["name"], data["local"]["place"]) == ("-", "stdin", None)
    monkeypatch.chdir(folder)
    assert vaekit("score", "piped", "-o", "s.csv") == 2
    said = "piped was fitted to rows from stdin, which cannot be read again; name the data"
    assert said in capsys.readouterr().err
    assert vaekit("score", "piped", "x.csv", "-o", "s.csv") == 0
    assert "36 of the 40 rows were trained on" in capsys.readouterr().err

    def piped(content, *arguments):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        return vaekit(*arguments)

    rows = (folder / "x.csv").read_bytes()
    assert piped(rows, "fit", "-", "-o", "piped", "--resume") == 0
    assert piped(rows, "compare", "piped", "run", "-", "--num-samples", 5) == 0
    assert piped(b"", "score", "piped", "-", "-o", "s.csv") == 1
    assert "vaekit: stdin is empty, and a table must have at least one row" in capsys.readouterr().err
    assert piped(rows, "fit", "x.csv", "--valid", "-", "-o", "other") == 2
    capsys.readouterr()
    assert piped(rows, "fit", "-", "-o", "-") == 2
    assert "fit writes a folder, and - is stdout" in capsys.readouterr().err
    assert not (folder / "-").exists()
    assert piped(rows.replace(b",", b";"), "fit", "-", "-o", "other", *FAST) == 0
    said = capsys.readouterr().err
    assert "vaekit: warning: stdin is read with delimiter ';'" in said
    assert "columns of stdin: " in said
    assert "stdin.csv" not in said


@pytest.mark.parametrize(("size", "shape"), [("6", (1, 6, 6)), ("6x4", (1, 6, 4)), ("4X6", (1, 4, 6))])
def test_images_get_a_height_and_a_width(tmp_path, size, shape):
    (tmp_path / "images").mkdir()
    for i in range(20):
        pixels = np.random.default_rng(i).integers(0, 256, (5 + i % 3, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i:02}.png")
    assert vaekit("fit", tmp_path / "images", "-o", tmp_path / "run", "--size", size, *FAST) == 0
    run = runs.open(tmp_path / "run")
    assert run.data.event_shape == shape
    assert run.rows().event_shape == shape
    assert vaekit("fit", tmp_path / "images", "-o", tmp_path / "run", "--resume", "--quiet") == 0


@pytest.mark.parametrize("size", ["0", "6x", "x6", "6x0", "6x4x3", "-6", "6.5", "six", "6×4", ""])
def test_other_sizes_are_refused(tmp_path, capsys, size):
    assert vaekit("fit", tmp_path, "-o", tmp_path / "run", f"--size={size}") == 2
    assert "height x width, as 48x64" in capsys.readouterr().err
