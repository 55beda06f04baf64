"""Readers on generated files: either the numbers that were written, or a `DataError`; never another exception."""

import gzip
import io
import warnings

import numpy as np
import pyarrow as pa
import pytest
from generated import given
from hypothesis import example
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from pyarrow import parquet

from vaekit.data import Dataset, load
from vaekit.data.readers.idx import DTYPES
from vaekit.errors import DataError, ReadingWarning

SUFFIXES = [".npy", ".npz", ".idx", ".idx.gz", ".csv", ".tsv", ".csv.gz", ".parquet"]
SHAPES = arrays_of.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=4).filter(lambda shape: shape[0] > 1)
NUMPY_DTYPES = st.one_of(
    arrays_of.boolean_dtypes(),
    arrays_of.integer_dtypes(endianness="?"),
    arrays_of.unsigned_integer_dtypes(endianness="?"),
    arrays_of.floating_dtypes(endianness="?"),
)
NAMES = st.text("abcXY_ -é#=", min_size=1, max_size=6).filter(lambda name: name.strip())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("generated")


def read(folder, suffix, content):
    """What the reader of a suffix makes of these bytes."""
    path = folder / f"file{suffix}"
    path.write_bytes(content)
    return load(path)


def read_or_refuse(folder, suffix, content):
    """A data set of numbers, or a `DataError`; where it is a guess, a warning says so."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ReadingWarning)
            data = read(folder, suffix, content)
    except DataError:
        return
    assert isinstance(data, Dataset)
    assert len(data) >= 1
    assert data.x.dtype.kind in "iuf"


def saved(x, suffix):
    """An array as the bytes of a file."""
    buffer = io.BytesIO()
    if suffix == ".npy":
        np.save(buffer, x)
    elif suffix == ".npz":
        np.savez(buffer, x=x, y=np.arange(len(x)))
    elif suffix == ".parquet":
        parquet.write_table(pa.table({f"c{i}": column for i, column in enumerate(x.reshape(len(x), -1).T)}), buffer)
    elif ".idx" in suffix:
        code = next(code for code, dtype in DTYPES.items() if np.dtype(dtype) == x.dtype.newbyteorder(">"))
        buffer.write(bytes([0, 0, code, x.ndim]) + np.array(x.shape, ">u4").tobytes())
        buffer.write(x.astype(x.dtype.newbyteorder(">")).tobytes())
    else:
        buffer.write(text_of(x.reshape(len(x), -1), "\t" if ".tsv" in suffix else ",").encode())
    return gzip.compress(buffer.getvalue(), mtime=0) if suffix.endswith(".gz") else buffer.getvalue()


def text_of(x, delimiter, names=None):
    """A table as text, floats with all their digits, holes as empty cells."""
    header = names or [f"c{i}" for i in range(x.shape[1])]
    rows = [["" if value != value else repr(value) for value in row] for row in x.tolist()]
    return "".join(delimiter.join(row) + "\n" for row in [header, *rows])


@given(x=arrays_of.arrays(NUMPY_DTYPES, SHAPES), suffix=st.sampled_from([".npy", ".npz"]), fortran=st.booleans())
def test_arrays_come_back(folder, x, suffix, fortran):
    found = read(folder, suffix, saved(np.asfortranarray(x) if fortran else x, suffix))
    assert found.x.shape == x.shape
    assert found.x.dtype == (np.uint8 if x.dtype.kind == "b" else x.dtype.newbyteorder("="))
    np.testing.assert_array_equal(found.x, x)
    assert (found.labels is None) is (suffix == ".npy")


@given(x=arrays_of.arrays(st.sampled_from([np.dtype(name) for name in DTYPES.values()]), SHAPES), zipped=st.booleans())
def test_idx_comes_back(folder, x, zipped):
    suffix = ".idx.gz" if zipped else ".idx"
    found = read(folder, suffix, saved(x, suffix))
    np.testing.assert_array_equal(found.x, x[:, None] if x.dtype == np.uint8 and x.ndim == 3 else x)


TABLES = st.tuples(st.integers(2, 5), st.integers(2, 4))
NUMBERS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=False), st.integers(-(2**53), 2**53).map(float), st.just(np.nan)
)


@given(
    x=arrays_of.arrays(
        np.float64, st.tuples(st.integers(2, 5), st.integers(2, 4)), elements=NUMBERS, fill=st.nothing()
    ),
    names=st.lists(NAMES, min_size=4, max_size=4, unique=True),
    suffix=st.sampled_from([".csv", ".tsv"]),
)
def test_tables_come_back_to_the_last_digit(folder, x, names, suffix):
    names = [f"n{name}" for name in names[: x.shape[1]]]
    found = read(folder, suffix, text_of(x, "\t" if suffix == ".tsv" else ",", names).encode())
    np.testing.assert_array_equal(found.x, x)
    assert found.columns == tuple(names)


@given(x=arrays_of.arrays(np.int64, TABLES))
def test_whole_numbers_come_back_as_such(folder, x):
    found = read(folder, ".csv", saved(x, ".csv"))
    assert found.x.dtype == np.int64
    np.testing.assert_array_equal(found.x, x)


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(content=st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(folder, suffix, content):
    read_or_refuse(folder, suffix, content)


CELLS = st.one_of(
    st.sampled_from(["", "1", "-2.5", "1e400", "nan", "inf", "true", "x", "2020-01-01", '"', "12:30", "0x1", " 3 "]),
    st.text(max_size=4),
)


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@given(rows=st.lists(st.lists(CELLS, max_size=4), max_size=5), end=st.sampled_from(["\n", "\r\n", "\r", ""]))
def test_any_text_is_read_or_refused(folder, suffix, rows, end):
    text = end.join(("\t" if suffix == ".tsv" else ",").join(row) for row in rows)
    read_or_refuse(folder, suffix, text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(edits=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=3)), min_size=1, max_size=4), cut=st.floats(0, 1))
@example([(0.05859375, b"\x00")], 1.0)  # npy: numpy's tokenizer gives up
@example([(0.314453125, b"\x80")], 1.0)  # parquet: a name that is not UTF-8
def test_damaged_files_are_read_or_refused(folder, suffix, edits, cut):
    content = bytearray(saved(np.arange(12, dtype=np.float32).reshape(4, 3), suffix))
    for place, new in edits:
        start = int(place * len(content))
        content[start : start + len(new)] = new
    read_or_refuse(folder, suffix, bytes(content[: max(1, round(len(content) * cut))] if cut < 0.3 else content))


DESCRIPTIONS = ["<f4", "|O", "<U3", "<M8[s]", "<c16", "V8", "<f16", "", "x", 3, (), ("<f4",), [("a", "<f4")], [()], [3]]
HEADERS = st.fixed_dictionaries(
    {
        "descr": st.sampled_from(DESCRIPTIONS),
        "fortran_order": st.sampled_from([True, False, 2, None]),
        "shape": st.lists(st.integers(-2, 2**63), max_size=5).map(tuple) | st.integers() | st.text(max_size=2),
    }
)
EXTRAS = st.dictionaries(st.text(max_size=2) | st.integers(), st.integers(), max_size=1)


@given(header=HEADERS, more=EXTRAS, version=st.integers(1, 3))
@example({"descr": (), "fortran_order": True, "shape": (2, 0)}, {}, 1)
def test_npy_headers_are_believed_or_refused(folder, header, more, version):
    text = f"{header | more!r}\n".encode("utf-8", "surrogatepass")
    length = len(text).to_bytes(2 if version == 1 else 4, "little")
    read_or_refuse(folder, ".npy", b"\x93NUMPY" + bytes([version, 0]) + length + text + bytes(64))
