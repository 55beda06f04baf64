"""What a run remembers of how its data were read: new files, single rows, and cells that cannot be used."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

import vaekit as vk
from vaekit import cli, runs
from vaekit.data import Reading, load
from vaekit.errors import DataError

RNG = np.random.default_rng(0)
FAST = ["max_epochs=1", "hidden=4", "latent_dim=2", "likelihood=normal", "compile=off", "--quiet"]


def vaekit(*arguments) -> int:
    return cli.run([str(argument) for argument in arguments])


def header_of(numbers, rows):
    return "\n".join(",".join(f"{v:g}" for v in line) for line in [numbers, *rows]) + "\n"


# --- Cells, lines, columns -------------------------------------------------------------------------------------------


def table(cell, value, n=200, header=True, blank=False):
    x = [[f"{v:.3f}" for v in row] for row in np.random.default_rng(0).normal(size=(n, 4))]
    x[cell[0]][cell[1]] = value
    lines = (["age,height,weight,pulse"] if header else []) + [",".join(row) for row in x]
    return ("\n\n" if blank else "\n").join(lines) + "\n"


@pytest.mark.parametrize("value", ["", "NA", "nan", "inf", "-inf"])
@pytest.mark.parametrize(("header", "blank", "line"), [(True, False, 59), (False, False, 58), (True, True, 117)])
def test_a_bad_cell_is_named_by_its_place_in_the_file(tmp_path, capsys, value, header, blank, line):
    (tmp_path / "t.csv").write_text(table((57, 2), value, header=header, blank=blank))
    likelihood = [] if value.endswith("inf") else ["likelihood=normal"]  # by a schema, an empty cell is a hole
    assert vaekit("fit", tmp_path / "t.csv", "-o", tmp_path / "r", *likelihood, *FAST) == 1
    which = value if value.endswith("inf") else "empty"
    column = "weight" if header else "f2"
    assert f"t.csv: row 57 (line {line}), column '{column}' is {which}. Fill" in capsys.readouterr().err


@pytest.mark.parametrize("mark", ["?", "-", "n.a."])
def test_a_mark_is_named_and_can_be_said(tmp_path, capsys, mark):
    (tmp_path / "t.csv").write_text(table((57, 2), mark))
    normal = [] if mark == "n.a." else ["likelihood=normal"]  # by a schema, the other two are holes
    assert vaekit("fit", tmp_path / "t.csv", "-o", tmp_path / "r", *normal, *FAST) == 1
    error = capsys.readouterr().err
    assert f"If {mark!r} in row 57 (line 59) means" in error
    assert "--missing" in error
    assert vaekit("fit", tmp_path / "t.csv", "-o", tmp_path / "r", "--missing", mark, "likelihood=normal", *FAST) == 1
    assert "row 57 (line 59), column 'weight' is empty" in capsys.readouterr().err


def test_bad_cells_of_other_files_and_of_new_rows(tmp_path, capsys):
    x = RNG.normal(size=(5000, 3))
    np.save(tmp_path / "x.npy", x)
    assert vaekit("fit", tmp_path / "x.npy", "-o", tmp_path / "r", *FAST) == 0
    x[4321, 1], x[4900, 0] = np.nan, np.inf
    np.save(tmp_path / "bad.npy", x)
    frame = pa.table({"id": [f"s{i}" for i in range(5000)], **{c: x[:, i] for i, c in enumerate("abc")}})
    parquet.write_table(frame, tmp_path / "bad.parquet")
    capsys.readouterr()
    for command in ("score", "encode", "reconstruct"):
        assert vaekit(command, tmp_path / "r", tmp_path / "bad.npy", "-o", tmp_path / "o.csv") == 1
        assert "row 4321, element 1 is nan; 1 more cell(s) are empty or infinite" in capsys.readouterr().err
    assert vaekit("fit", tmp_path / "bad.npy", "-o", tmp_path / "q", *FAST) == 1
    assert "row 4900, element 0 is inf" in capsys.readouterr().err
    x[4900, 0] = 0
    frame = frame.set_column(1, "a", pa.array(x[:, 0]))
    parquet.write_table(frame, tmp_path / "bad.parquet")
    options = ["--key", "id", "likelihood=normal", *FAST]
    assert vaekit("fit", tmp_path / "bad.parquet", "-o", tmp_path / "q", *options) == 1
    assert "row 4321 with id s4321, column 'b' is empty" in capsys.readouterr().err


def test_arrays_count_rows_from_their_beginning():
    x = RNG.normal(size=(9000, 4))
    x[8120, 1] = np.nan
    model, objective = vk.presets.vae((4,), latent_dim=2, hidden=(8,), likelihood="normal")
    with pytest.raises(DataError, match=r"the first at \(8120, 1\)"):
        vk.Trainer(max_epochs=1, progress=False).fit(model, objective, x)


# --- What a run remembers --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def semicolons(tmp_path_factory):
    """A run fitted to semicolons, decimal commas and Latin-1, with a mark and a column that is no data."""
    folder = tmp_path_factory.mktemp("semicolons")
    x = np.random.default_rng(0).normal(10, 2, (40, 2)).round(2)
    lines = [f"{a};{b};note".replace(".", ",") for a, b in x]
    (folder / "t.csv").write_bytes(("größe;b;c\n" + "\n".join(lines) + "\n").encode("latin-1"))
    assert vaekit("fit", folder / "t.csv", "-o", folder / "r", "--drop", "c", "--missing", "-1", *FAST) == 0
    return folder, x


def test_a_run_reads_new_files_as_the_first(semicolons, tmp_path, capsys):
    folder, x = semicolons
    run = runs.open(folder / "r")
    hints = {"delimiter": ";", "decimal": ",", "encoding": "latin-1", "header": True}
    assert run.data.reading.given == {"drop": ("c",), "missing": ("-1",)}
    assert run.data.reading.hints == hints
    whole = run.score(run.rows()).to_numpy()
    files = {
        "one.csv": "größe;b;c\n{};{};z\n".format(*(str(v).replace(".", ",") for v in x[0])).encode("latin-1"),
        "utf8.csv": "größe;b\n{};{}\n".format(*(str(v).replace(".", ",") for v in x[0])).encode(),
        "plain.csv": "größe,b\n{},{}\n".format(*x[0]).encode(),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    parquet.write_table(pa.table({"größe": x[:1, 0], "b": x[:1, 1]}), tmp_path / "one.parquet")
    for name in (*files, "one.parquet"):
        capsys.readouterr()
        assert vaekit("score", folder / "r", tmp_path / name, "-o", tmp_path / "s.npy") == 0
        assert "is read with" not in capsys.readouterr().err
        assert run.rows(tmp_path / name).x.tolist() == x[:1].tolist()
    frame = pd.DataFrame({"größe": x[:, 0], "b": x[:, 1], "c": "z"})
    np.testing.assert_array_equal(run.score(run.rows(frame)).to_numpy(), whole)


def test_what_is_said_to_a_run_goes_before_what_it_remembers(semicolons, tmp_path, capsys):
    folder, x = semicolons
    (tmp_path / "t.csv").write_text("größe~b\n{}~{}\n".format(*x[0]), encoding="utf-8")
    arguments = ["score", folder / "r", tmp_path / "t.csv", "-o", tmp_path / "s.npy"]
    assert vaekit(*arguments) == 1
    assert vaekit(*arguments, "--delimiter", "~", "--decimal", ".") == 0
    assert vaekit(*arguments, "--alpha", "keep") == 1
    assert "alpha='keep' is for a folder of images" in capsys.readouterr().err


def test_a_run_without_a_header_reads_files_without_one(tmp_path, capsys):
    x = RNG.normal(size=(40, 3)).round(3)
    np.savetxt(tmp_path / "t.csv", x, delimiter=",")
    assert vaekit("fit", tmp_path / "t.csv", "-o", tmp_path / "r", *FAST) == 0
    assert "t.csv has no header: its columns are called f0, f1, ..." in capsys.readouterr().err
    (tmp_path / "one.csv").write_text("100,200,300\n1,2,3\n4,5,6\n2,1,2\n")  # like a header, and here it is none
    run = runs.open(tmp_path / "r")
    assert run.rows(tmp_path / "one.csv").x[0].tolist() == [100, 200, 300]
    with pytest.raises(DataError, match="columns differ"):
        run.rows(tmp_path / "one.csv", reading=Reading(header=True))


def test_a_header_of_numbers_is_one_in_a_file_of_one_row(tmp_path):
    (tmp_path / "t.csv").write_text(header_of(range(400, 700, 25), RNG.normal(0.4, 0.1, (50, 12))))
    assert vaekit("fit", tmp_path / "t.csv", "-o", tmp_path / "r", "--header", *FAST) == 0
    (tmp_path / "one.csv").write_text(header_of(range(400, 700, 25), RNG.normal(0.4, 0.1, (1, 12))))
    assert len(runs.open(tmp_path / "r").rows(tmp_path / "one.csv")) == 1


def test_columns_in_the_order_that_was_asked_for(tmp_path):
    (tmp_path / "t.csv").write_text(
        "id,a,b,c\n" + "".join(f"{i},{v},{-v},7\n" for i, v in enumerate(RNG.normal(size=30)))
    )
    assert vaekit("fit", tmp_path / "t.csv", "-o", tmp_path / "r", "--columns", "b,a", "--key", "id", *FAST) == 0
    run = runs.open(tmp_path / "r")
    assert run.data.columns == ("b", "a")
    assert run.rows().row_keys.tolist() == list(range(30))
    with pytest.raises(DataError, match=r"no column 'b' \(--columns\)"):
        run.rows(pd.DataFrame({"a": [1.0]}))


# --- One row ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".parquet", ".npy", ".npz"])
def test_one_row_is_enough_to_use_a_model_and_not_to_fit_one(tmp_path, capsys, suffix):
    x = RNG.normal(size=(40, 3))

    def write(name, rows):
        path = tmp_path / f"{name}{suffix}"
        if suffix == ".npy":
            np.save(path, rows)
        elif suffix == ".npz":
            np.savez(path, x=rows)
        elif suffix == ".parquet":
            parquet.write_table(pa.table({c: rows[:, i] for i, c in enumerate("abc")}), path)
        else:
            pd.DataFrame(rows, columns=list("abc")).to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
        return path

    assert vaekit("fit", write("train", x), "-o", tmp_path / "r", *FAST) == 0
    one = write("one", x[:1])
    for command, width in (("score", 3), ("encode", 2), ("reconstruct", 3)):
        assert vaekit(command, tmp_path / "r", one, "-o", tmp_path / "out.npy") == 0
        assert vaekit(command, tmp_path / "r", "-o", tmp_path / "all.npy") == 0
        first, alone = np.load(tmp_path / "all.npy")[0], np.load(tmp_path / "out.npy")
        assert alone.shape == (1, width)
        if command == "score":  # with other noise: of two standard errors, six
            assert abs(alone[0, 0] - first[0]) < 6 * np.hypot(alone[0, 1], first[1])
        else:
            np.testing.assert_allclose(alone[0], first, rtol=1e-5)
    capsys.readouterr()
    assert vaekit("fit", one, "-o", tmp_path / "q", *FAST) == 1
    assert "Fitting needs at least two rows" in capsys.readouterr().err
    assert not (tmp_path / "q").exists()


def test_one_row_without_its_batch_dimension(tmp_path):
    np.save(tmp_path / "flat.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"x\[None\]"):
        load(tmp_path / "flat.npy")


def test_new_rows_with_empty_labels(tmp_path):
    x = RNG.normal(size=(40, 2)).round(3)
    for name, labels in (("train", ["u", "v"]), ("empty", [""]), ("numbers", [1.5, 2.5])):
        rows = [f"{a},{b},{labels[i % len(labels)]}" for i, (a, b) in enumerate(x)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["a,b,y", *rows]) + "\n")
    assert vaekit("fit", tmp_path / "train.csv", "-o", tmp_path / "r", "--label", "y", *FAST) == 0
    run = runs.open(tmp_path / "r")
    for name in ("empty", "numbers"):
        rows = run.rows(tmp_path / f"{name}.csv")
        assert (rows.x.tolist(), rows.columns, rows.labels) == (x.tolist(), ("a", "b"), None)
        with pytest.raises(DataError):
            load(tmp_path / f"{name}.csv", label="y")
