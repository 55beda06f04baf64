"""IDX files: each type against bytes made by hand, and every kind of damage."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from vaekit.data import load, read_idx
from vaekit.errors import DataError

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (5, 3, 4, 6), dtype=np.uint8)


def idx_bytes(array: np.ndarray, code: int) -> bytes:
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("code", "dtype"), [(0x08, ">u1"), (0x09, ">i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")]
)
@pytest.mark.parametrize("shape", [(7,), (3, 2), (2, 3, 4, 5)])
def test_idx_of_each_type(tmp_path, code, dtype, zipped, shape):
    array = (RNG.normal(size=shape) * 50).astype(dtype) if dtype != ">u1" else np.arange(np.prod(shape)).astype("u1")
    array = array.reshape(shape)
    data = idx_bytes(array, code)
    path = tmp_path / "a.idx"
    path.write_bytes(gzip.compress(data) if zipped else data)
    back = read_idx(path)
    np.testing.assert_array_equal(back, array)
    assert (back.dtype.isnative, back.dtype.kind, back.dtype.itemsize) == (True, array.dtype.kind, array.itemsize)
    assert back.flags.writeable


def test_idx_bytes_written_by_hand(tmp_path):
    (tmp_path / "a.idx").write_bytes(b"\0\0\x0b\x02\0\0\0\x02\0\0\0\x02\0\x01\0\x02\xff\xff\x01\0")
    assert load(tmp_path / "a.idx").x.tolist() == [[1, 2], [-1, 256]]


@pytest.mark.parametrize("name", ["a.idx", "a.idx.gz", "train-images-idx3-ubyte", "t-images.idx3-ubyte", "b-ubyte.gz"])
def test_idx_images_get_a_channel(tmp_path, name):
    data = idx_bytes(BYTES[:, 0], 0x08)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    data = load(tmp_path / name)
    np.testing.assert_array_equal(data.x, BYTES[:, :1])
    assert (data.kind, data.value_range, data.x.dtype) == ("image", (0, 255), np.uint8)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x89PNG", "is not an IDX file: it starts with 89 50 4e 47"),
        (b"\0\0\x08", "is not an IDX file: it starts with 00 00 08"),
        (b"\0\0\x07\x01\0\0\0\0", "is not an IDX file"),
        (b"\0\0\x08\x00", "is not an IDX file"),
        (b"\0\0\x08\x03\0\0\0\x01", "truncated within its header of 3 dimensions"),
        (b"\0\0\x08\x09" + b"\0\0\0\x01" * 9 + b"\1", "declares 9 dimensions; at most 8"),
        (b"\0\0\x08\x01\0\0\0\x03ab", r"shape \(3,\) of uint8, 3 bytes, but only 2 are there"),
        (b"\0\0\x08\x01\0\0\0\x03abcd", "3 bytes, but more follow"),
        (b"\0\0\x0e\x03" + b"\xff" * 12 + b"1234", "more than its 20 bytes can hold"),
    ],
)
def test_damaged_idx_files(tmp_path, data, message):
    (tmp_path / "a.idx").write_bytes(data)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "a.idx")
    (tmp_path / "b.idx.gz").write_bytes(gzip.compress(data))
    with pytest.raises(DataError, match=message.replace("its 20", "its [0-9]+")):
        load(tmp_path / "b.idx.gz")


def test_truncated_and_damaged_gzip(tmp_path):
    path = tmp_path / "a.idx.gz"
    whole = gzip.compress(idx_bytes(RNG.integers(0, 256, (9, 9, 9)).astype("u1"), 0x08))
    for cut in (5, 12, 100, -8, -1):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"a\.idx\.gz is truncated"):
            load(path)
    path.write_bytes(whole[:60] + bytes(20) + whole[80:])
    with pytest.raises(DataError, match=r"a\.idx\.gz"):
        load(path)


def test_no_more_is_read_than_the_header_declares(tmp_path):
    """A gzip file whose header declares 4 bytes and which goes on for 64 MiB is not unpacked."""
    path = tmp_path / "a.idx.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x04" + bytes(2**26)))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="4 bytes, but more follow"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
