"""How files are read: what is found out of them, what can be said, and what a run remembers of it."""

import gzip
import time
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from vaekit import cli, runs
from vaekit.data import Reading, from_frame, load
from vaekit.data.by_schema import load_by_schema
from vaekit.errors import DataError, ReadingWarning

RNG = np.random.default_rng(0)
FAST = ["max_epochs=1", "hidden=4", "latent_dim=2", "compile=off", "--quiet"]
X = [[1.5, -2.25, 3.0], [4.0, 5.5, -6.125], [7.0, 8.0, 9.75]]


def vaekit(*arguments) -> int:
    return cli.run([str(argument) for argument in arguments])


def text(delimiter=",", decimal=".", header="a,b,c", end="", header_end=""):
    lines = [delimiter.join(str(v).replace(".", decimal) for v in row) + end for row in X]
    named = [header.replace(",", delimiter) + header_end] if header else []
    return "\n".join(named + lines) + "\n"


def quietly(path, **options):
    """The data, and the notices."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load(path, **options)
    assert {warning.category for warning in caught} <= {ReadingWarning}
    return data, " ".join(str(warning.message) for warning in caught)


# --- What is found out of a file -------------------------------------------------------------------------------------

FILES = {
    "plain": (text().encode(), "", {}),
    "semicolons": (text(";").encode(), "';'", {"delimiter": ";"}),
    "decimal commas": (text(";", ",").encode(), "decimal ','", {"delimiter": ";", "decimal": ","}),
    "tabs": (text("\t").encode(), r"'\t'", {"delimiter": "\t"}),
    "bars": (text("|").encode(), "'|'", {"delimiter": "|"}),
    "carriage returns": (text().replace("\n", "\r\n").encode(), "", {}),
    "byte order mark": (b"\xef\xbb\xbf" + text().encode(), "", {}),
    "utf-16": (text().encode("utf-16"), "utf-16", {"encoding": "utf-16"}),
    "utf-16 from its high bytes": (b"\xfe\xff" + text().encode("utf-16-be"), "utf-16", {"encoding": "utf-16"}),
    "utf-16 without a mark": (text().encode("utf-16-le"), "utf-16-le", {"encoding": "utf-16-le"}),
    "utf-32": (text().encode("utf-32"), "utf-32", {"encoding": "utf-32"}),
    "utf-32 from its high bytes": (b"\0\0\xfe\xff" + text().encode("utf-32-be"), "utf-32", {"encoding": "utf-32"}),
    "trailing commas": (text(end=",", header_end=",").encode(), "at the end of each line", {}),
    "trailing commas below the header": (text(end=",").encode(), "at the end of each line", {}),
    "quoted decimal commas": (
        ("a,b,c\n" + "".join(",".join(f'"{v}"'.replace(".", ",") for v in row) + "\n" for row in X)).encode(),
        "decimal ','",
        {"decimal": ","},
    ),
    "all of it": (
        text(";", ",", end=";").encode("utf-16"),
        "utf-16",
        {"encoding": "utf-16", "delimiter": ";", "decimal": ","},
    ),
}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_files_of_other_programs(tmp_path, name, zipped):
    content, said, found = FILES[name]
    path = tmp_path / ("t.csv.gz" if zipped else "t.csv")
    path.write_bytes(gzip.compress(content) if zipped else content)
    data, notices = quietly(path)
    assert (data.x.tolist(), data.columns) == (X, ("a", "b", "c"))
    assert (said in notices) if said else not notices
    plain = {"encoding": "utf-8", "delimiter": ",", "decimal": ".", "header": True}
    assert data.reading.hints == plain | found
    again = load(path, reading=data.reading)  # what is known of a file is not told again
    assert again.x.tolist() == X


@pytest.mark.parametrize(("encoding", "name"), [("latin-1", "größe"), ("cp1252", "größe €"), ("utf-8", "größe €")])
def test_letters_beyond_ascii(tmp_path, encoding, name):
    path = tmp_path / "t.csv"
    path.write_bytes(text(header=f"{name},b,c").encode(encoding))
    data, _ = quietly(path)
    assert (data.columns[0], data.reading.encoding) == (name, encoding)
    path.write_bytes(("a,k\n" + "1.5,u\n" * 300_000 + "2.5,ü\n").encode(encoding))  # far below what is looked at
    data, _ = quietly(path, label="k")
    assert (data.labels[-1], data.reading.encoding in (encoding, "latin-1")) == ("ü", True)


def test_a_column_of_decimal_commas_is_one_column(tmp_path):
    (tmp_path / "t.csv").write_text("a\n1,5\n2,25\n")
    assert quietly(tmp_path / "t.csv")[0].x.tolist() == [[1.5], [2.25]]


@pytest.mark.parametrize(
    ("content", "how", "message"),
    [
        ("a,b\n1,2\n", {"delimiter": ";"}, r"not separated by ';': its first line is 'a,b'"),
        ("a,b\n1,2\n", {"encoding": "utf-16"}, "is not utf-16: .* BOM"),
        ("größe,b\n1,2\n", {"encoding": "ascii"}, "not a readable CSV file: 'ascii' codec"),
        ("a,b\n1,2\n3,4,5\n", {}, "Row #3: Expected 2 columns, got 3: 3,4,5"),
        ("a,b\n" + "1,2,\n" * 2000 + "3,4,5\n", {}, r"row 2000 \(line 2002\) goes on behind the last delimiter"),
        ("a;b\n1.234,5;2\n3,5;4\n", {"delimiter": ";", "decimal": ","}, r"If '1\.234,5' in row 0 \(line 2\)"),
        ("a,b\n1,2\n", {"drop": ("a", "b")}, "no columns of numbers"),
        ("a,b\n1,2\n", {"header": False}, "Column 'f0' .* holds String"),
        ("a,b\n1.5,2\n", {"decimal": ","}, r"Its cells look like numbers, such as '1\.5'; look at --decimal"),
        ("# logger 7\na,b\n1,2\n", {}, r"first line is '# logger 7'\. If it is no header, delete it"),
        ("sep=;\na;b;c\n1;2;3\n", {}, r"first line is 'sep=;'\. If it is no header, delete it"),
        ("\n\n", {}, "t.csv is empty, and a table must have at least one row"),
        ("\ufeff", {}, "t.csv is empty, and a table must have at least one row"),
        ("a,b\n", {}, r"t.csv is empty but for the names of its columns \('a', ...\)"),
        ("a,b", {}, r"t.csv is empty but for the names of its columns \('a', ...\)"),
    ],
)
def test_what_does_not_fit_a_file(tmp_path, content, how, message):
    (tmp_path / "t.csv").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load(tmp_path / "t.csv", reading=Reading(**how))


def header_of(numbers, rows):
    lines = [numbers, *rows]
    return "\n".join(",".join(f"{v:g}" for v in line) for line in lines) + "\n"


@pytest.mark.parametrize(
    "numbers", [range(400, 700, 25), range(2010, 2022), [9.9 - 0.8 * i for i in range(12)], range(-20, 4, 2)]
)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_header_of_numbers(tmp_path, numbers, suffix):
    numbers = [float(v) for v in numbers]
    rows = RNG.normal(0.4, 0.1, (50, 12)).round(4)
    if numbers[0] == -20:  # a level in the midst of the values is no name
        rows[:, 9:] = RNG.normal(-1, 3, (50, 3)).round(4)
    path = tmp_path / f"t{suffix}"
    content = header_of(numbers, rows).encode()
    path.write_bytes(gzip.compress(content) if suffix == ".csv.gz" else content)
    data, notices = quietly(path)
    is_header = numbers[0] != -20
    assert len(data) == 50 + (not is_header)
    assert data.columns == (tuple(f"{v:g}" for v in numbers) if is_header else tuple(f"f{i}" for i in range(12)))
    assert ("first line of numbers taken for the names" in notices) == is_header
    assert load(path, reading=Reading(header=True)).x.tolist() == rows.tolist()
    whole = load(path, reading=Reading(header=False))
    assert (len(whole), whole.columns[0]) == (51, "f0")
    assert whole.x[0].tolist() == pytest.approx(numbers)


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
def test_no_header_of_numbers_without_a_notice(tmp_path, start, suffix):
    path, numbers = tmp_path / f"t{suffix}", range(start, start + 3)
    if suffix == ".xlsx":
        pd.DataFrame(X, columns=list(numbers)).to_excel(path, index=False)
    else:
        path.write_text(header_of(numbers, X))
    data, notices = quietly(path)
    assert (data.x.tolist(), data.columns) == (X, tuple(map(str, numbers)))
    assert "of numbers taken for the names of the columns (--no-header: they are data)" in notices
    assert not quietly(path, reading=data.reading)[1]  # known of the file that was read first
    assert not quietly(path, reading=Reading(header=True))[1]
    assert quietly(path, reading=Reading(header=False))[0].x.tolist() == [list(numbers), *X]


def test_a_single_one_names_no_column(tmp_path):
    (tmp_path / "t.csv").write_text("1\n0\n1\n1\n")
    data, notices = quietly(tmp_path / "t.csv")
    assert (data.x.ravel().tolist(), notices) == ([1, 0, 1, 1], "")


def test_a_header_of_numbers_above_a_column_of_holes(tmp_path):
    rows = RNG.normal(0.4, 0.1, (20, 4)).round(4)
    lines = ["2010,2011,2012,2013", *(f"{a},{b},,{d}" for a, b, _, d in rows)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    data, _ = quietly(tmp_path / "t.csv")  # and no warning of numpy's
    assert (data.columns, len(data)) == (("2010", "2011", "2012", "2013"), 20)


@pytest.mark.parametrize(
    "rows", [[[2, 4], [4, 8], [6, 12], [8, 16]], [[2, 3, 4], [5, 6, 7], [8, 9, 10.5]], [[9, 5], [1, 2]]]
)
def test_a_trend_has_no_header(tmp_path, rows):
    (tmp_path / "t.csv").write_text(header_of(rows[0], rows[1:]))
    assert load(tmp_path / "t.csv").x.tolist() == rows


def test_an_index_that_was_written_twice_is_left_out(tmp_path):
    frame = pd.DataFrame(X, columns=list("abc"))
    frame.to_csv(tmp_path / "once.csv")
    pd.read_csv(tmp_path / "once.csv").to_csv(tmp_path / "twice.csv", index=False)
    parquet.write_table(pa.Table.from_pandas(pd.read_csv(tmp_path / "once.csv")), tmp_path / "twice.parquet")
    for name in ("twice.csv", "twice.parquet"):
        data, notices = quietly(tmp_path / name)
        assert (data.x.tolist(), data.columns) == (X, ("a", "b", "c"))
        assert "left out 'Unnamed: 0'" in notices
        assert load(tmp_path / name, reading=Reading(columns=("Unnamed: 0", "a"))).columns == ("Unnamed: 0", "a")
    again = pd.read_csv(tmp_path / "twice.csv")
    for name in (
        "Unnamed: 0.1",
        "Unnamed: 0.1.1",
        "__index_level_0__",
        "...1",
    ):  # of pandas once more, arrow, R's readr
        again.assign(**{name: range(3)}).to_csv(tmp_path / "thrice.csv", index=False)
        data, notices = quietly(tmp_path / "thrice.csv")
        assert (data.x.tolist(), data.columns) == (X, ("a", "b", "c"))
        assert f"left out 'Unnamed: 0', {name!r}" in notices
    with pytest.warns(ReadingWarning, match="Unnamed: 0"):
        assert from_frame(pd.read_csv(tmp_path / "once.csv")).columns == ("a", "b", "c")
    with pytest.raises(DataError, match="Column 1 of 'once' has no name"):
        load(tmp_path / "once.csv")


# --- What can be said ------------------------------------------------------------------------------------------------


def test_what_is_said_goes_before_what_is_found(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a~b\n1,5~2\n3,5~4\n")
    data = load(path, reading=Reading(delimiter="~", decimal=","))
    assert (data.x.tolist(), data.reading.given) == ([[1.5, 2], [3.5, 4]], {"delimiter": "~", "decimal": ","})
    path.write_bytes("\u0436,b\n1,2\n3,4\n".encode("cp1251"))
    assert load(path, reading=Reading(encoding="cp1251")).columns == ("\u0436", "b")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_columns_marks_and_labels(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    frame = pa.table({"a": [1.5, -999.0], "k": ["u", "v"], "b": [-999, 4], "c,d": [5, 6], "t": ["x", "y"]})
    if suffix == ".csv":
        path.write_text('a,k,b,"c,d",t\n1.5,u,?,5,x\n-999,v,4,6,y\n')
    else:
        parquet.write_table(frame, path)
    for in_memory in [None] if suffix == ".csv" else [True, False]:
        how = Reading(missing=("?", "-999"), drop=("t", "c,d"))
        data = load(path, label="k", reading=how, in_memory=in_memory)
        np.testing.assert_array_equal(data.x, [[1.5, np.nan], [np.nan, 4]])
        assert (data.columns, data.labels.tolist()) == (("a", "b"), ["u", "v"])
        chosen = load(path, label="k", reading=Reading(columns=("c,d", "a")), in_memory=in_memory)
        assert (chosen.columns, chosen.x.tolist()) == (("c,d", "a"), [[5, 1.5], [6, -999]])
        with pytest.raises(DataError, match=r"no column 'cd' \(--drop\). Nearest: 'c,d'"):
            load(path, label="k", reading=Reading(drop=("cd",)), in_memory=in_memory)
        with pytest.raises(DataError, match=r"no column 'A' \(--columns\)"):
            load(path, label="k", reading=Reading(columns=("A",)), in_memory=in_memory)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"delimiter": ";;"}, "delimiter must be one character"),
        ({"decimal": ";"}, "decimal must be"),
        ({"encoding": "utf-99"}, "no encoding 'utf-99'"),
        ({"alpha": "red"}, "alpha must be white, black, keep or drop"),
        ({"columns": "a"}, "columns takes several words"),
    ],
)
def test_what_cannot_be_said(words, message):
    with pytest.raises(DataError, match=message):
        Reading(**words)


def test_marks_in_text_of_other_makes(tmp_path):
    for frame in (pd.DataFrame({"a": ["1.5", "?", "2"]}), pl.DataFrame({"a": ["1.5", "?", "2"]})):
        np.testing.assert_array_equal(from_frame(frame, reading=Reading(missing=("?",))).x, [[1.5], [np.nan], [2]])
    parquet.write_table(pa.table({"a": ["1.5", "?", None]}), tmp_path / "t.parquet")
    for in_memory in (True, False):
        data = load(tmp_path / "t.parquet", reading=Reading(missing=("?",)), in_memory=in_memory)
        np.testing.assert_array_equal(data.x, [[1.5], [np.nan], [np.nan]])


def test_options_only_where_they_mean_something(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((3, 2)))
    parquet.write_table(pa.table({"a": [1, 2]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"delimiter=';' is for \.csv, .*; it has no meaning for .*x\.npy"):
        load(tmp_path / "x.npy", reading=Reading(delimiter=";"))
    with pytest.raises(DataError, match=r"header=False is for \.csv"):
        load(tmp_path / "t.parquet", reading=Reading(header=False))
    with pytest.raises(DataError, match="alpha='keep' is for a folder of images"):
        load(tmp_path / "t.parquet", reading=Reading(alpha="keep"))
    with pytest.raises(DataError, match="columns=.* no meaning for 'digits'"):
        load("digits", reading=Reading(columns=("a",)))


# --- Wide tables, vectors, archives ----------------------------------------------------------------------------------


def test_wide_tables_take_time_in_proportion(tmp_path):
    def seconds(num_columns):
        path = tmp_path / f"{num_columns}.csv"
        names = ",".join(f"GENE{i:011d}.{i % 9}" for i in range(num_columns))
        path.write_text(names + "\n" + (",".join(["0.5"] * num_columns) + "\n") * 12)
        began = time.process_time()
        assert load(path).x.shape == (12, num_columns)
        return time.process_time() - began

    seconds(10)
    assert seconds(16_000) < 40 * max(seconds(1000), 0.1)  # 256 times as long, were it with the square


def test_a_header_beyond_a_mebibyte(tmp_path):
    names = [f"{'g' * 200}{i}" for i in range(6000)]
    (tmp_path / "t.csv").write_text(",".join(names) + "\n" + (",".join(["0.5"] * 6000) + "\n") * 2)
    data = load(tmp_path / "t.csv")
    assert (data.columns, data.x.shape) == (tuple(names), (2, 6000))


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_column_of_vectors_is_as_many_columns(tmp_path, in_memory):
    e = RNG.normal(size=(30, 8)).astype("f4")
    whole = RNG.integers(0, 9, (30, 2))
    columns = {
        "list": pa.array(e.tolist(), pa.list_(pa.float32())),
        "fixed": pa.FixedSizeListArray.from_arrays(pa.array(e.ravel()), 8),
        "whole": pa.array(whole.tolist(), pa.list_(pa.int64())),
    }
    for name, x in (("list", e), ("fixed", e), ("whole", whole)):
        parquet.write_table(pa.table({"f": range(30), "v": columns[name]}), tmp_path / "t.parquet")
        data = load(tmp_path / "t.parquet", in_memory=in_memory)
        assert data.columns == ("f", *(f"v_{i}" for i in range(x.shape[1])))
        np.testing.assert_array_equal(data.x, np.column_stack([np.arange(30), x]))
        assert data.dtype == (np.int64 if name == "whole" else np.float64)
        parquet.write_table(pa.table({"v": columns[name]}), tmp_path / "t.parquet")
        assert load(tmp_path / "t.parquet", in_memory=in_memory).event_shape == x.shape[1:]
    ragged = pa.array([[1.0, 2.0]] * 29 + [[1.0]])
    parquet.write_table(pa.table({"v": ragged}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="not a vector of as many numbers in each row"):
        load(tmp_path / "t.parquet", in_memory=in_memory)


@pytest.mark.parametrize("suffix", [".parquet", ".feather"])
def test_a_model_of_vectors_beside_other_columns(tmp_path, capsys, suffix):
    x = RNG.normal(size=(40, 3))
    lists = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 3)
    words = pa.array(["u", "v"] * 20)
    table = pa.table({"name": words, "emb": lists, "tags": pa.array([["a"], ["b", "c"]] * 20), "w": pa.array(x[:, 0])})
    write = parquet.write_table if suffix == ".parquet" else feather.write_feather
    write(table, tmp_path / f"t{suffix}")
    run, path = tmp_path / "run", tmp_path / f"t{suffix}"
    assert vaekit("fit", path, "-o", run, "--drop", "tags", *FAST) == 0
    fitted = runs.open(run)
    assert [column.name for column in fitted.rows(path).schema.modelled] == ["name", "emb_0", "emb_1", "emb_2", "w"]
    np.testing.assert_array_equal(fitted.rows(path).x[:, 1:4], x)
    assert vaekit("score", run, path, "-o", tmp_path / "s.csv") == 0
    for frame in (pd.DataFrame({"name": words, "emb": list(x)}), pl.DataFrame({"name": words, "emb": x.tolist()})):
        found = load_by_schema(frame)
        assert found.columns == ("name", "emb_0", "emb_1", "emb_2")
        np.testing.assert_array_equal(found.x[:, 1:], x)
    with pytest.raises(DataError, match="Column 'emb' holds vectors, and 'emb_1' stands beside it. Rename it"):
        load_by_schema(pd.DataFrame({"emb_1": words, "emb": list(x)}))
    assert vaekit("schema", path) == 0
    assert "free text is no data, and is dropped: 'tags'" in capsys.readouterr().err


def test_vectors_in_frames_of_other_makes():
    e = RNG.normal(size=(3, 2))
    for frame in (pl.DataFrame({"v": e.tolist()}), pl.DataFrame({"v": e}), pd.DataFrame({"v": list(e)})):
        np.testing.assert_array_equal(from_frame(frame).x, e)
        assert from_frame(frame).columns == ("v_0", "v_1")


def test_a_member_of_an_archive_by_its_name(tmp_path, capsys):
    images = RNG.integers(0, 2, (60, 8, 8)).astype(np.uint8)
    path = tmp_path / "sprites.npz"
    np.savez(path, imgs=images, values=RNG.normal(size=(60, 6)), meta=np.array({"a": 1}, dtype=object))
    with pytest.raises(DataError, match=r"Which array .* behind the path: sprites\.npz:imgs"):
        load(path)
    for source in (f"{path}:imgs", type(path)(f"{path}:imgs")):
        data = load(source)
        np.testing.assert_array_equal(data.x, images)
    assert (data.name, data.kind) == ("sprites", "image")
    with pytest.raises(DataError, match="no member 'img'; its members are 'imgs', 'values', 'meta'"):
        load(f"{path}:img")
    assert vaekit("fit", f"{path}:imgs", "-o", tmp_path / "r", *FAST) == 0
    assert vaekit("score", tmp_path / "r", "-o", tmp_path / "s.npy") == 0
    assert np.load(tmp_path / "s.npy").shape == (60, 3)
