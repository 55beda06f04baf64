"""Rows carry their keys along: identifiers of a table, files of a folder, else numbers from 0."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from PIL import Image
from pyarrow import parquet

from vaekit.data import Dataset, from_frame, from_records, holdout, load
from vaekit.errors import DataError

NAMES = [f"s{i}" for i in range(9)]
FRAME = pa.table({"a": np.arange(9.0), "id": NAMES, "b": np.arange(9) + 0.5, "kind": [i % 2 for i in range(9)]})


@pytest.fixture
def table(tmp_path):
    parquet.write_table(FRAME, tmp_path / "t.parquet")
    pyarrow.csv.write_csv(FRAME, tmp_path / "t.csv")
    return tmp_path


@pytest.mark.parametrize(("file", "in_memory"), [("t.csv", None), ("t.parquet", True), ("t.parquet", False)])
def test_a_column_of_identifiers_names_the_rows_and_is_no_data(table, file, in_memory):
    data = load(table / file, key="id", label="kind", in_memory=in_memory)
    assert (data.key, data.columns) == ("id", ("a", "b"))
    assert data.row_keys.tolist() == NAMES
    assert data.labels.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0]
    taken = data.take([4, 1]).take(np.array([False, True]))
    assert (taken.row_keys.tolist(), taken.key, taken.x.tolist()) == (["s1"], "id", [[1.0, 1.5]])
    for part in holdout(data, 0.3):
        assert part.row_keys.tolist() == [f"s{int(x[0])}" for x in part.x]
        assert part.labels.tolist() == [int(x[0]) % 2 for x in part.x]


def test_rows_without_identifiers_are_numbered_from_0(table):
    data = Dataset(np.arange(6.0).reshape(3, 2))
    assert (data.key, data.row_keys.tolist()) == ("row", [0, 1, 2])
    assert data.take([2, 0]).row_keys.tolist() == [2, 0]
    assert load("digits:test").row_keys.tolist() == list(range(360)), "each part has numbers of its own"
    whole_numbers = from_frame(pa.table({"id": [7, 5], "a": [0.5, 1.5]}), key="id")
    assert whole_numbers.row_keys.dtype == np.int64
    assert whole_numbers.row_keys.tolist() == [7, 5]


@pytest.mark.parametrize("in_memory", [True, False])
def test_images_are_named_by_their_files(tmp_path, in_memory):
    for i, name in enumerate(["b.png", "u/a.png", "u/c.png"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4), i, np.uint8)).save(tmp_path / name)
    data = load(tmp_path, in_memory=in_memory)
    assert data.key == "file"
    assert dict(zip(data.row_keys.tolist(), data.x[:, 0, 0, 0].tolist(), strict=True)) == {
        "b.png": 0,
        "u/a.png": 1,
        "u/c.png": 2,
    }
    assert data.take([2]).row_keys.tolist() == ["u/c.png"]


def test_records_are_rows_and_what_one_lacks_is_nan():
    data = from_records([{"a": 1.5, "id": "u"}, {"b": 2, "id": "v", "a": 3}], key="id")
    assert (data.columns, data.row_keys.tolist()) == (("a", "b"), ["u", "v"])
    np.testing.assert_array_equal(data.x, [[1.5, np.nan], [3, 2]])
    with pytest.raises(DataError, match="no table: .*one kind"):
        from_records([{"a": 1}, {"a": "x"}])
    with pytest.raises(DataError, match="at least one row"):
        from_records([])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": "ident"}, "has no column 'ident' for the keys. Nearest: 'id'"),
        ({"key": "hole"}, "Column 'hole' of 't' has 1 row.* without a key"),
        ({}, r"Column 'id' of 't' holds String, .*--key id"),
    ],
)
def test_bad_keys(tmp_path, options, message):
    parquet.write_table(pa.table({"a": [1.0, 2.0], "id": ["u", "v"], "hole": [1, None]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=message):
        load(tmp_path / "t.parquet", **options)


def test_keys_are_for_tables(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((3, 2)))
    with pytest.raises(DataError, match="key='id' names a column of a table; .*x.npy is none"):
        load(tmp_path / "x.npy", key="id")
    with pytest.raises(DataError, match="key, label and size are for files"):
        load("digits", key="id")
    with pytest.raises(DataError, match=r"keys of 'data' must have shape \(3,\), one for each row of x; got \(2,\)"):
        Dataset(np.zeros((3, 2)), keys=np.arange(2))
