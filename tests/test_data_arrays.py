"""Arrays in files, .npy and .npz: round trips against numpy, and every kind of damage."""

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from vaekit import cli, runs
from vaekit.data import Reading, load
from vaekit.data.readers import safe_reading
from vaekit.errors import DataError, ReadingWarning

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (5, 3, 4, 6), dtype=np.uint8)


class Opens:
    """Writes its own unpickling down: a file that runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("dtype", ["u1", "i2", "<i8", ">i4", "f2", "<f4", ">f8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays_come_back_as_numpy_wrote_them(tmp_path, dtype, order, suffix):
    x = np.asarray(RNG.integers(0, 2, (4, 3)), dtype=dtype, order=order)
    path = tmp_path / f"x{suffix}"
    np.save(path, x) if suffix == ".npy" else np.savez_compressed(path, x=x)
    data = load(path)
    np.testing.assert_array_equal(data.x, x)
    assert data.x.dtype.isnative
    assert data.x.flags.writeable  # torch warns about arrays that are not
    assert (data.name, data.kind, data.value_range, data.source) == ("x", "array", None, str(path))


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize(
    ("x", "kind", "value_range"),
    [
        (BYTES, "image", (0, 255)),
        (BYTES[:, 0], "image", (0, 255)),
        (BYTES[:, 0, 0], "array", None),
        (BYTES / 255, "array", None),
    ],
)
def test_bytes_of_three_dimensions_are_images(tmp_path, suffix, x, kind, value_range):
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x)
    data = load(tmp_path / f"x{suffix}")
    assert (data.kind, data.value_range, data.event_shape, data.x.dtype) == (kind, value_range, x.shape[1:], x.dtype)


def test_objects_are_refused_and_never_unpickled(tmp_path):
    witness = tmp_path / "ran"
    x = np.array([[1, Opens(witness)], [2, 3]], dtype=object)
    np.save(tmp_path / "x.npy", x, allow_pickle=True)
    np.savez(tmp_path / "x.npz", x=x)
    np.savez(tmp_path / "y.npz", x=np.zeros((2, 2)), y=x[:, 1])
    for name in ("x.npy", "x.npz", "y.npz"):
        with pytest.raises(DataError, match="holds Python objects, which would have to be unpickled"):
            load(tmp_path / name)
    assert not witness.exists()
    with np.load(tmp_path / "x.npz", allow_pickle=True) as archive:
        archive["x"][0, 1].close()
    assert witness.exists()  # so the file would have run its code


def test_strings_and_records_are_refused(tmp_path):
    np.save(tmp_path / "s.npy", np.array([["a"], ["b"]]))
    with pytest.raises(DataError, match="got dtype <U1"):
        load(tmp_path / "s.npy")
    np.save(tmp_path / "r.npy", np.zeros((3, 2), dtype=[("a", "f4"), ("b", "i4")]))
    with pytest.raises(DataError, match="must hold integers, floats or bools"):
        load(tmp_path / "r.npy")


@pytest.mark.parametrize("keep", [1, 7, 40, 127, 128, 130, 200])
def test_a_truncated_npy_is_refused(tmp_path, keep):
    np.save(tmp_path / "x.npy", np.arange(20.0).reshape(5, 4))
    whole = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(whole[:keep])
    with pytest.raises(DataError, match=r"is not a readable \.npy file|is truncated"):
        load(tmp_path / "x.npy")


@pytest.mark.parametrize("shape", ["(1000000000000, 4)", "(-5, 4)", "(5, -4)", "(99999999999999999999, 4)"])
def test_an_npy_that_declares_too_much_is_not_allocated(tmp_path, shape):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
    header += " " * ((-len(header) - 11) % 64) + "\n"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(160)
    (tmp_path / "x.npy").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", data)
    for name in ("x.npy", "x.npz"):
        with pytest.raises(DataError, match="truncated: its header declares shape"):
            load(tmp_path / name)


def test_members_of_an_npz(tmp_path):
    x, y, path = np.arange(6.0).reshape(3, 2), np.array([2, 0, 1]), tmp_path / "a.npz"
    for x_name in ("x", "data", "X"):
        for y_name in ("y", "labels"):
            np.savez(path, **{x_name: x, y_name: y, "other": x + 1})
            data = load(path)
            np.testing.assert_array_equal(data.x, x)
            np.testing.assert_array_equal(data.labels, y)
    np.savez(path, whatever=x)
    np.testing.assert_array_equal(load(path).x, x)
    assert load(path).labels is None
    np.savez(path, whatever=x, y=np.array(["u", "v", "w"]))
    assert load(path).labels.tolist() == ["u", "v", "w"]
    np.savez(path, y=x)
    np.testing.assert_array_equal(load(path).x, x)
    np.savez(path, x=x, target=y, y=y[::-1])
    np.testing.assert_array_equal(load(path, label="target").labels, y)


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "dia"])
@pytest.mark.parametrize("make", ["matrix", "array"])
def test_sparse_matrices_come_out_with_their_zeros(tmp_path, kind, make):
    counts = RNG.poisson(0.2, (20, 8)).astype(np.float32)
    path = tmp_path / "a.npz"
    scipy.sparse.save_npz(path, getattr(scipy.sparse, f"{kind}_{make}")(counts))
    data = load(path)
    np.testing.assert_array_equal(data.x, counts)
    assert (data.x.dtype, data.labels) == (np.float32, None)
    with pytest.raises(DataError, match="no member 'y' for the labels; its members are"):
        load(path, label="y")


def test_damaged_sparse_matrices_are_refused(tmp_path):
    matrix = scipy.sparse.csr_matrix(np.eye(4))
    parts = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}
    parts |= {"format": np.array(b"csr"), "shape": np.array([4, 4])}
    path = tmp_path / "a.npz"
    for changed, message in (
        ({"indices": matrix.indices + 10**6}, "damaged sparse matrix"),  # compiled code would write there
        ({"indptr": matrix.indptr[:-1]}, "damaged sparse matrix"),
        ({"indices": matrix.indices.astype(float)}, "no integers"),
        ({"shape": np.array([10**9, 10**9])}, "takes 7,450,580,596.9 GiB with its zeros: more than is free"),
        ({"shape": np.array([4, -4])}, "no sparse matrix of numbers"),
        ({"format": np.array(b"lil")}, "no sparse matrix of numbers"),
        ({"data": matrix.data + 1j}, "no sparse matrix of numbers"),
    ):
        np.savez(path, **(parts | changed))
        with pytest.raises(DataError, match=message):
            load(path)


def test_an_npz_that_leaves_a_choice_lists_its_members(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, first=np.zeros((3, 2)), second=np.zeros((3, 2)))
    with pytest.raises(DataError, match="Call it 'x'; the members are 'first', 'second'"):
        load(path)
    with pytest.raises(DataError, match="no member 'target' for the labels; its members are 'first', 'second'"):
        load(path, label="target")
    np.savez(path, y=np.zeros(3))
    with pytest.raises(DataError, match="Which array"):
        load(path, label="y")
    np.savez(path)
    with pytest.raises(DataError, match="members are none"):
        load(path)


@pytest.mark.parametrize("cut", [10, 60, 100, -1, -30])
def test_a_truncated_npz_is_refused(tmp_path, cut):
    np.savez_compressed(tmp_path / "x.npz", x=RNG.normal(size=(50, 4)))
    (tmp_path / "x.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:cut])
    with pytest.raises(DataError, match=r"is not a readable \.npz archive"):
        load(tmp_path / "x.npz")


def test_a_flipped_bit_in_an_npz_is_seen(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.arange(200.0).reshape(50, 4))
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[800] ^= 1
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(DataError, match="Bad CRC-32"):
        load(tmp_path / "x.npz")


def test_a_decompression_bomb_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(safe_reading, "MAX_BYTES", 2**20)
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((2**12, 2**11)))  # 64 MiB in 64 KiB
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("the archive was read"))
    with pytest.raises(DataError, match=r"decompression bomb: .* bytes on disk would become at least 67,"):
        load(tmp_path / "x.npz")


# --- Channels last ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("shape", [(16, 16, 3), (16, 16, 1), (16, 16, 4), (5, 7, 3), (28, 20, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images_with_channels_last_come_out_with_channels_first(tmp_path, suffix, shape, dtype):
    x = RNG.integers(0, 256, (6, *shape)).astype(dtype)
    path = tmp_path / f"x{suffix}"
    np.save(path, x) if suffix == ".npy" else np.savez(path, x=x)
    height, width, channels = shape
    with pytest.warns(ReadingWarning, match=rf"{height} x {width} pixels with {channels} .* last \(--channels-first"):
        data = load(path)
    np.testing.assert_array_equal(data.x, x.transpose(0, 3, 1, 2))
    assert (data.reading.hints, data.x.dtype) == ({"channels_last": True}, dtype)
    load(path, reading=data.reading)  # known already: no notice
    np.testing.assert_array_equal(load(path, reading=Reading(channels_last=True)).x, data.x)
    np.testing.assert_array_equal(load(path, reading=Reading(channels_last=False)).x, x)


@pytest.mark.parametrize(
    "shape",
    [(3, 16, 16), (1, 28, 28), (4, 8, 3), (3, 3, 3), (8, 4, 4), (16, 3, 3), (8, 1, 1), (16, 16), (7,), (3, 5, 1)],
)
def test_other_shapes_are_left_alone(tmp_path, shape):
    np.save(tmp_path / "x.npy", RNG.integers(0, 256, (6, *shape)).astype(np.uint8))
    assert load(tmp_path / "x.npy").event_shape == shape
    if len(shape) != 3:
        with pytest.raises(DataError, match="images with channels last have"):
            load(tmp_path / "x.npy", reading=Reading(channels_last=True))


def test_a_run_takes_images_as_its_file_had_them_or_as_it_made_them(tmp_path):
    x = RNG.integers(0, 256, (30, 8, 8, 3)).astype(np.uint8)
    np.save(tmp_path / "x.npy", x)
    fast = ["max_epochs=1", "hidden=4", "latent_dim=2", "compile=off", "--quiet"]
    arguments = ["fit", tmp_path / "x.npy", "-o", tmp_path / "r", "--channels-last", *fast]
    assert cli.run([str(argument) for argument in arguments]) == 0
    run = runs.open(tmp_path / "r")
    assert (run.data.event_shape, run.data.reading.channels_last) == ((3, 8, 8), True)
    for rows in (x, x.transpose(0, 3, 1, 2), tmp_path / "x.npy", None):
        np.testing.assert_array_equal(run.rows(rows).x, x.transpose(0, 3, 1, 2))
    assert cli.run(["sample", str(tmp_path / "r"), "-n", "4", "-o", str(tmp_path / "s.png")]) == 0
