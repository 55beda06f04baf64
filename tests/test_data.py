"""Data sets in memory, and their splits."""

import subprocess
import sys
import warnings

import numpy as np
import pytest

from vaekit.data import Dataset, holdout, split, warn_constant_columns
from vaekit.errors import DataError


def numbered(n: int) -> Dataset:
    """Rows that carry their own number, so that a row in the wrong place is seen."""
    return Dataset(np.stack([np.arange(n), np.arange(n) ** 2], axis=1), labels=np.arange(n) * 10)


def test_rows_keep_their_dtype_and_labels_follow():
    x = np.arange(24, dtype=np.uint8).reshape(4, 1, 2, 3)
    data = Dataset(x, np.array(["a", "b", "c", "d"]), "tiny", None, (0, 255), "image")
    assert len(data) == 4
    assert data.event_shape == (1, 2, 3)
    assert data.x.dtype == np.uint8
    np.testing.assert_array_equal(data[2], x[2])
    np.testing.assert_array_equal(data[1:3], x[1:3])
    part = data.take([3, 0])
    np.testing.assert_array_equal(part.x, x[[3, 0]])
    assert part.labels.tolist() == ["d", "a"]
    assert (part.name, part.value_range, part.kind) == ("tiny", (0, 255), "image")
    mask = np.array([False, True, False, False])
    assert data.take(mask).labels.tolist() == ["b"]
    assert len(data) == 4


def test_bools_become_bytes_and_foreign_byte_order_becomes_native():
    assert Dataset(np.array([[True], [False]])).x.tolist() == [[1], [0]]
    assert Dataset(np.array([[True], [False]])).x.dtype == np.uint8
    swapped = Dataset(np.array([[1.5], [2.5]], dtype=">f4"))
    assert swapped.x.dtype.isnative
    assert swapped.x.tolist() == [[1.5], [2.5]]


def test_nan_is_not_refused_here():
    assert np.isnan(Dataset(np.array([[1.0], [np.nan]])).x[1, 0])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros(5), r"at least two dimensions; got \(5,\).*reshape\(-1, 1\)"),
        (np.float64(3), "at least two dimensions"),
        (np.zeros((0, 3)), r"at least one row; got x of shape \(0, 3\)"),
        (np.zeros((3, 0)), "rows of .* are empty"),
        (np.array([["a"], ["b"]]), "got dtype <U1"),
        (np.array([[1], [None]], dtype=object), "got dtype object"),
        (np.zeros((3, 2), dtype=complex), "got dtype complex128"),
        (np.zeros((3, 2), dtype="M8[s]"), "got dtype datetime64"),
        ([[1, 2], [3]], r"numeric array of shape \(N, ...\)"),
    ],
)
def test_rows_that_are_no_numbers_are_refused(x, message):
    with pytest.raises(DataError, match=message):
        Dataset(x, name="bad")


def test_labels_are_integers_or_strings_one_per_row():
    x = np.zeros((3, 2))
    assert Dataset(x, np.array([1.0, 2.0, 0.0])).labels.dtype == np.int64
    assert Dataset(x, np.array([True, False, True])).labels.tolist() == [1, 0, 1]
    assert Dataset(x, np.array(["a", "bc", "d"], dtype=object)).labels.dtype.kind == "U"
    with pytest.raises(DataError, match=r"shape \(3,\), one for each row of x; got \(2,\)"):
        Dataset(x, np.array([0, 1]))
    for labels in (np.array([0.5, 1, 2]), np.array([np.nan, 0.5, 2])):
        with pytest.raises(DataError, match="labels of 'data' must be integers or strings; got dtype float64"):
            Dataset(x, labels)
    with pytest.raises(DataError, match="no row of 'data' has a label"):
        Dataset(x, np.full(3, np.nan))
    for keys in (np.array([np.nan, 1, 2]), np.array(["a", None, "b"], dtype=object)):
        with pytest.raises(DataError, match="must be integers or strings, without missing ones"):
            Dataset(x, keys=keys)


def test_columns_and_kind_must_fit():
    assert Dataset(np.zeros((3, 2)), columns=["a", "b"], kind="table").columns == ("a", "b")
    with pytest.raises(DataError, match=r"got 1 names for x of shape \(3, 2\)"):
        Dataset(np.zeros((3, 2)), columns=("a",))
    with pytest.raises(DataError, match="'image', 'table' or 'array'; got 'picture'"):
        Dataset(np.zeros((3, 2)), kind="picture")


def test_take_says_what_is_wrong():
    data = numbered(4)
    with pytest.raises(DataError, match="which has 4: index 9 is out of bounds"):
        data.take([9])
    with pytest.raises(DataError, match="at least one row"):
        data.take(np.array([], dtype=int))
    with pytest.raises(DataError, match="list of at least one row"):
        data.take(2)


def test_constant_columns_are_warned_about_in_tables_only():
    x = np.array([[1.0, 5.0, np.nan, 2.0], [2.0, 5.0, 3.0, np.nan], [3.0, 5.0, 3.0, 4.0]])
    table = Dataset(x, columns=("a", "b", "c", "d"), kind="table")
    with pytest.warns(UserWarning, match=r"has 2 constant column\(s\): 'b', 'c'\. ") as caught:
        warn_constant_columns(table)
    assert caught[0].filename == __file__
    wide = Dataset(np.zeros((3, 9), int), columns=tuple("abcdefghi"), kind="table")
    with pytest.warns(UserWarning, match="9 constant .*'a', 'b', 'c', 'd', 'e' and 4 more"):
        warn_constant_columns(wide)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_constant_columns(Dataset(x[:, [0, 3]], kind="table"))
        warn_constant_columns(Dataset(np.zeros((3, 2)), kind="array"))


@pytest.mark.parametrize("n", [2, 3, 7, 10, 1797])
@pytest.mark.parametrize("fractions", [(0.9, 0.1), (0.1, 0.9), (0.5, 0.5), (1e-6, 1 - 1e-6)])
def test_parts_are_disjoint_exhaustive_and_not_empty(n, fractions):
    parts = split(n, fractions, seed=3)
    assert all(len(part) for part in parts)
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))


def test_splits_repeat_and_depend_on_the_seed_only():
    state = np.random.get_state()[1].copy()  # noqa: NPY002  (the global stream must not be touched)
    first, again, other = (split(100, (0.6, 0.3, 0.1), seed) for seed in (1, 1, 2))
    assert [len(part) for part in first] == [60, 30, 10]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], other[0])
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_three_parts_of_three_rows():
    assert [len(part) for part in split(3, (0.98, 0.01, 0.01))] == [1, 1, 1]


@pytest.mark.parametrize("fractions", [(), (0.5, 0.4), (1.5, -0.5), (1.0, 0.0), (np.nan, 1.0)])
def test_fractions_must_be_positive_and_sum_to_one(fractions):
    with pytest.raises(DataError, match="positive and sum to 1"):
        split(10, fractions)


def test_more_parts_than_rows_are_refused():
    with pytest.raises(DataError, match=r"Cannot divide 1 row\(s\) into 2"):
        split(1, (0.5, 0.5))


@pytest.mark.parametrize(("n", "num_valid"), [(2, 1), (3, 1), (10, 1), (11, 2), (60000, 6000)])
def test_holdout_takes_a_tenth_and_at_least_one_row(n, num_valid):
    data = numbered(n)
    train, valid = holdout(data)
    assert (len(train), len(valid)) == (n - num_valid, num_valid)
    assert sorted(np.concatenate([train.x[:, 0], valid.x[:, 0]]).tolist()) == list(range(n))
    np.testing.assert_array_equal(valid.labels, valid.x[:, 0] * 10)
    np.testing.assert_array_equal(holdout(data)[1].x, valid.x)


def test_holdout_of_another_seed_differs_and_its_fraction_is_checked():
    data = numbered(50)
    assert not np.array_equal(holdout(data, seed=1)[1].x, holdout(data, seed=0)[1].x)
    for fraction in (0, 1, -0.1, float("nan")):
        with pytest.raises(DataError, match=r"fraction must lie in \(0, 1\)"):
            holdout(data, fraction)


def test_the_import_loads_no_reader():
    code = "import sys, vaekit.data; print(*(m for m in sys.argv[1:] if m in sys.modules))"
    heavy = ["sklearn", "PIL", "pyarrow", "narwhals", "pooch", "pandas", "requests"]
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
