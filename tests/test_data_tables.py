"""Tables: round trips against pyarrow and data frames, and every kind of damage."""

import gzip
import io
from pathlib import Path

import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import csv as pa_csv
from pyarrow import parquet

from vaekit.data import Reading, from_frame, load
from vaekit.data.readers import safe_reading
from vaekit.errors import DataError, ReadingWarning
from vaekit.frames import cells, to_arrow

RNG = np.random.default_rng(0)


def write_table(table: pa.Table, path: Path) -> None:
    if path.suffix == ".parquet":
        parquet.write_table(table, path)
        return
    buffer = io.BytesIO()
    pa_csv.write_csv(table, buffer, pa_csv.WriteOptions(delimiter="\t" if ".tsv" in path.name else ","))
    path.write_bytes(gzip.compress(buffer.getvalue()) if path.suffix == ".gz" else buffer.getvalue())


SUFFIXES = [".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tables_of_numbers(tmp_path, suffix):
    a, b = [1.5, -2.25, 1e-300], [1, 2, 3]
    path = tmp_path / f"t{suffix}"
    write_table(pa.table({"a": a, "b": b}), path)
    data = load(path)
    np.testing.assert_array_equal(data.x, np.column_stack([a, b]))
    assert data.x.dtype == np.float64
    assert (data.columns, data.kind, data.value_range, data.labels) == (("a", "b"), "table", None, None)
    assert (data.name, data.source) == ("t", str(path))
    assert data.x.flags.writeable
    write_table(pa.table({"b": b, "c": [True, False, True]}), path)
    data = load(path)
    assert (data.x.dtype, data.x.tolist()) == (np.int64, [[1, 1], [2, 0], [3, 1]])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_labels_and_empty_cells(tmp_path, suffix):
    table = pa.table({"a": [1, None, 3], "k": ["u", "v", "u"], "b": [True, None, False], "n": pa.nulls(3)})
    path = tmp_path / f"t{suffix}"
    write_table(table, path)
    data = load(path, label="k")
    np.testing.assert_array_equal(data.x, [[1, 1, np.nan], [np.nan, np.nan, np.nan], [3, 0, np.nan]])
    assert data.columns == ("a", "b", "n")
    assert data.labels.tolist() == ["u", "v", "u"]
    with pytest.raises(DataError, match=r"Column 'k' of 't' holds String, not numbers.*--label k, .*drop it"):
        load(path)
    with pytest.raises(DataError, match=r"no column 'K' for the labels\. Nearest: 'a'"):
        load(path, label="K")
    with pytest.raises(DataError, match=r"Column 'n' of 't' has no label in any row"):
        load(path, label="n")
    partly = load(path, label="a", reading=Reading(drop=("k",)))
    assert (partly.labels.tolist(), partly.unlabelled.tolist()) == ([1, -1, 3], [False, True, False])


def test_a_misspelt_label_names_the_nearest(tmp_path):
    (tmp_path / "t.csv").write_text("width,height,species\n1,2,a\n3,4,b\n")
    with pytest.raises(DataError, match=r"no column 'specie' for the labels\. Nearest: 'species'"):
        load(tmp_path / "t.csv", label="specie")


def test_whole_numbers_as_labels(tmp_path):
    (tmp_path / "t.csv").write_text("x,y\n0.5,1\n1.5,0\n")
    data = load(tmp_path / "t.csv", label="y")
    assert (data.labels.tolist(), data.labels.dtype, data.event_shape) == ([1, 0], np.int64, (1,))


def test_whole_numbers_beyond_float_precision_stay_exact(tmp_path):
    (tmp_path / "t.csv").write_text(f"x\n{2**53 + 1}\n{-(2**62)}\n")
    assert load(tmp_path / "t.csv").x.tolist() == [[2**53 + 1], [-(2**62)]]
    parquet.write_table(pa.table({"a": pa.array([2**63, 1], pa.uint64())}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="Column 'a' of 't' cannot be held as int64"):
        load(tmp_path / "t.parquet")


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_fraction_far_down_a_column_of_whole_numbers(tmp_path, suffix):
    """The type of a column is settled by all its rows, not by the first block."""
    num_rows = 300_000
    text = "a,b\n" + "1234567,2\n" * num_rows + "0.5,\n"
    path = tmp_path / f"t{suffix}"
    path.write_bytes(gzip.compress(text.encode(), 1) if suffix.endswith("gz") else text.encode())
    data = load(path)
    assert data.x.shape == (num_rows + 1, 2)
    assert data.x[-1, 0] == 0.5
    assert np.isnan(data.x[-1, 1])


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_first_line_of_numbers_is_a_row(tmp_path, suffix):
    def store(text: str) -> Path:
        path = tmp_path / f"t{suffix}"
        path.write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode())
        return path

    data = load(store("5,0.5,0\n4,0,1.5\n"))
    assert (data.x.tolist(), data.columns) == ([[5, 0.5, 0], [4, 0, 1.5]], ("f0", "f1", "f2"))
    for text, columns in {"0,1,2\n4,0,1\n5,6,7\n": ("0", "1", "2"), "1,2\n4,0\n5,6\n": ("1", "2")}.items():
        path = store(text)
        with pytest.warns(ReadingWarning, match="its first line of numbers taken for the names"):
            assert load(path).columns == columns
    assert load(store('\ufeff"a","b,c"\n4,0\n5,6\n')).columns == ("a", "b,c")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3\n", "is not a readable CSV file: .*Expected 2 columns, got 1"),
        (",a\n0,5\n1,6\n", r"Column 1 of 't' has no name; .*index=False"),
        ("a,a\n1,2\n3,4\n", "'t' is not a data frame that can be read"),
        ("a,b\n", "at least one row"),
        ("a,b\n1,2020-01-01\n3,2020-01-02\n", "Column 'b' of 't' holds Date, not numbers"),
        ("k\nu\nv\n", "Column 'k' of 't' holds String"),
        ("k,a,l\nu,1,x\nv,2,y\n", r"Column 'k' of 't' holds String, not numbers \(nor do 'l'\)"),
    ],
)
def test_bad_csv(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "t.csv")


def test_a_table_of_nothing_but_labels(tmp_path):
    (tmp_path / "t.csv").write_text("k\nu\nv\n")
    with pytest.raises(DataError, match="no columns of numbers beside the label"):
        load(tmp_path / "t.csv", label="k")


@pytest.mark.parametrize("suffix", [".csv.gz", ".parquet"])
def test_truncated_tables(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    write_table(pa.table({"a": RNG.normal(size=2000)}), path)
    whole = path.read_bytes()
    for keep in (3, 100, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:keep])
        with pytest.raises(DataError, match=r"t\.(csv\.gz is truncated|parquet is not a readable)"):
            load(path)


@pytest.mark.parametrize("suffix", [".csv.gz", ".parquet"])
def test_tables_that_are_bombs(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(safe_reading, "MAX_BYTES", 2**16)
    monkeypatch.setattr(safe_reading, "MAX_RATIO", 100)
    path = tmp_path / f"t{suffix}"
    write_table(pa.table({"a": np.zeros(2_000_000, np.int64)}), path)
    with pytest.raises(DataError, match="looks like a decompression bomb"):
        load(path)


def test_parquet_index_of_pandas_and_folders_with_an_equals_sign(tmp_path):
    folder = tmp_path / "year=2020"
    folder.mkdir()
    parquet.write_table(pa.table({"a": [1, 2], "__index_level_0__": [5, 6]}), folder / "t.parquet")
    assert load(folder / "t.parquet").columns == ("a",)


def test_columns_of_pyarrow_are_read_from_their_memory():
    """Slices, chunks, holes, no rows: as pyarrow itself, or pandas, reads them."""
    chunks = pa.chunked_array([pa.array([9.0, 1.5, None]), pa.array([], pa.float64()), pa.array([3, 4], pa.float64())])
    for name, column, values in [
        ("holes", chunks.slice(1), [1.5, np.nan, 3, 4]),
        ("small", pa.array([7, 1, 2], pa.int8()).slice(1), [1, 2]),
        ("bools", pa.array([True, False, None]), [1, 0, np.nan]),
        ("no rows", pa.array([], pa.float64()), []),
    ]:
        found = cells(
            nw.from_native(pa.chunked_array([column]) if isinstance(column, pa.Array) else column, series_only=True),
            name,
        )
        np.testing.assert_array_equal(found, values)
        assert found.flags.writeable


def test_tables_of_pyarrow_are_handed_over_as_memory():
    columns = {
        "text": np.array(["\u00e4", "", "xyz"]),
        "small": np.arange(3, dtype=np.uint8),
        "strided": np.arange(6, dtype=np.float64)[::2],
        "single": np.ones(3, np.float32),
        "bools": np.array([True, False, True]),
    }
    assert to_arrow(columns).equals(pa.table(columns))
    assert to_arrow(columns).schema == pa.table(columns).schema
    assert to_arrow({"none": np.array([], "<U3")}).equals(pa.table({"none": np.array([], "<U3")}))


def test_frames_of_other_makes():
    frame = pd.DataFrame({"a": [1.5, np.nan], "b": pd.array([1, None], "Int64"), "c": [True, False], 3: [7, 8]})
    np.testing.assert_array_equal(from_frame(frame).x, [[1.5, 1, 1, 7], [np.nan, np.nan, 0, 8]])
    assert from_frame(frame).columns == ("a", "b", "c", "3")
    frame["k"] = pd.Categorical(["v", "u"])
    assert from_frame(frame, label="k").labels.tolist() == ["v", "u"]
    frame["k"] = np.array(["x", "y"], dtype=object)
    assert from_frame(frame, "k").labels.tolist() == ["x", "y"]
    for dtype in ("Int64", "boolean", "uint8", "bool"):
        labelled = pd.DataFrame({"a": [0.5, 1.5], "y": pd.array([1, 0]).astype(dtype)})
        assert from_frame(labelled, "y").labels.tolist() == [1, 0]
    whole = from_frame(pd.DataFrame({"a": [1, 2], "b": [3, 4]}, dtype="int32"), name="mine")
    assert (whole.x.dtype, whole.name, whole.source) == (np.int64, "mine", "memory")


def test_frames_of_polars_eager_and_lazy():
    frame = pl.DataFrame({"a": [1, None], "k": ["u", "v"]})
    for made in (frame, frame.lazy()):
        np.testing.assert_array_equal(from_frame(made, "k").x, [[1.0], [np.nan]])


@pytest.mark.parametrize("thing", [np.zeros((3, 2)), [[1, 2]], "text", None])
def test_what_is_no_frame(thing):
    with pytest.raises(DataError, match="'frame' is not a data frame"):
        from_frame(thing)
