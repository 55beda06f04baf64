"""Data sets by name: what they hold, where they are found, how they are downloaded."""

import gzip
import hashlib
import os
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from vaekit.data import available, load, named
from vaekit.errors import DataError

REAL_DATA = os.environ.get("VAEKIT_DATA", "")


def test_available_names_have_a_line_each():
    assert set(available()) == {"digits", "mnist", "fashion-mnist"}
    assert all(line and "\n" not in line for line in available().values())


def test_digits_are_those_of_scikit_learn_divided_by_the_documented_rule():
    whole, train, test = load("digits"), load("digits:train"), load("digits:test")
    assert (whole.x.shape, whole.x.dtype, whole.value_range) == ((1797, 1, 8, 8), np.uint8, (0, 16))
    np.testing.assert_array_equal(whole.x[:, 0], load_digits().images)
    np.testing.assert_array_equal(whole.labels, load_digits().target)
    order = np.random.default_rng(0).permutation(1797)
    np.testing.assert_array_equal(train.x, whole.x[order[:1437]])
    np.testing.assert_array_equal(test.labels, whole.labels[order[1437:]])
    assert (whole.name, whole.kind, whole.source) == ("digits", "image", "scikit-learn")


def test_the_part_in_the_name_goes_before_the_argument():
    assert len(load("digits", part="test")) == 360
    assert len(load("digits", part="all")) == 1797
    assert len(load("digits:train", part="test")) == 1437
    assert len(load("DIGITS:test")) == 360


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("digit", {}, "Did you mean digits.*Data sets: digits, mnist, fashion-mnist"),
        ("fashion-mnits", {}, "Did you mean fashion-mnist"),
        ("qwxyz", {}, "neither a data set nor a file or folder. Data sets"),
        ("digits:valid", {}, "write digits:train, digits:test or digits"),
        ("digits:", {}, "asks for the part ''"),
        ("digits", {"part": "valid"}, "part must be 'train', 'test', 'all' or None; got 'valid'"),
        ("digits", {"label": "y"}, "label and size are for files"),
        ("digits", {"size": 4}, "label and size are for files"),
        ("nowhere/data.npy", {}, "No such file or folder: nowhere/data.npy"),
        ("missing.csv", {}, "No such file or folder: missing.csv"),
    ],
)
def test_sources_that_do_not_exist(source, options, message):
    with pytest.raises(DataError, match=message):
        load(source, **options)


def test_a_path_is_used_whole(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((3, 2)))
    assert len(load(str(tmp_path / "x.npy"), part="test")) == 3
    with pytest.raises(DataError, match="which is used whole: leave out ':test'"):
        load(f"{tmp_path / 'x.npy'}:test")


def test_a_name_goes_before_a_file_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert len(load("digits")) == 1797
    with pytest.raises(DataError, match="holds no images"):
        load("./digits")


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_set(folder: Path, num_train: int = 6, num_test: int = 3, zipped: bool = True) -> np.ndarray:
    """Four small files in the layout of MNIST; returns all images."""
    folder.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(num_train).integers(0, 256, (num_train + num_test, 28, 28), dtype=np.uint8)
    labels = np.arange(num_train + num_test, dtype=np.uint8)
    for prefix, rows in (("train", slice(num_train)), ("t10k", slice(num_train, None))):
        for name, array in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
            data = idx_bytes(array[rows])
            path = folder / f"{prefix}-{name}{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(data) if zipped else data)
    return images[:, None]


@pytest.fixture
def nothing_installed(tmp_path, monkeypatch):
    """No data anywhere, and no network."""

    def refuse(*_args, **_kwargs):
        raise ConnectionError("no network in tests")

    monkeypatch.delenv("VAEKIT_DATA", raising=False)
    monkeypatch.setattr(named, "SYSTEM_FOLDER", tmp_path / "system")
    monkeypatch.setenv("VAEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("pooch.HTTPDownloader.__call__", refuse)
    return tmp_path


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("zipped", [True, False])
def test_files_are_found_in_each_place_in_order(nothing_installed, monkeypatch, name, zipped):
    root = nothing_installed
    places = [root / "system" / name, root / "env", root / "env" / name, root / "dir", root / "dir" / name]
    monkeypatch.setenv("VAEKIT_DATA", str(root / "env"))
    for num_train, folder in enumerate(places, start=4):  # each new place goes before those that are there already
        images = write_set(folder, num_train, zipped=zipped)
        data = load(name, data_dir=root / "dir")
        assert data.source == str(folder)
        np.testing.assert_array_equal(data.x, images)
        assert (data.name, data.kind, data.value_range, data.x.dtype) == (name, "image", (0, 255), np.uint8)
        np.testing.assert_array_equal(data.labels, np.arange(num_train + 3))
    assert load(name, data_dir=None).source == str(root / "env" / name)


def test_parts_are_the_files_and_only_those_of_the_part_are_needed(nothing_installed):
    images = write_set(nothing_installed / "mnist")
    np.testing.assert_array_equal(load("mnist:train", data_dir=nothing_installed).x, images[:6])
    np.testing.assert_array_equal(load("mnist:test", data_dir=nothing_installed).x, images[6:])
    (nothing_installed / "mnist" / "train-images-idx3-ubyte.gz").unlink()
    assert len(load("mnist:test", data_dir=nothing_installed)) == 3
    with pytest.raises(DataError, match="not on this machine"):
        load("mnist:train", data_dir=nothing_installed)


def test_a_truncated_file_is_named(nothing_installed):
    write_set(nothing_installed / "mnist")
    path = nothing_installed / "mnist" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz is truncated or damaged"):
        load("mnist:test", data_dir=nothing_installed)


def test_one_set_is_not_taken_for_another_with_the_same_file_names(nothing_installed, monkeypatch):
    write_set(nothing_installed)
    labels = np.arange(6, dtype=np.uint8)
    foreign = named.MnistLike("other", (), {}, (hashlib.sha256(labels.tobytes()).hexdigest(),))
    assert len(load("mnist:train", data_dir=nothing_installed)) == 6
    monkeypatch.setattr(named, "SETS", (*named.SETS, foreign))
    with pytest.raises(DataError, match="'mnist' is not on this machine"):
        load("mnist:train", data_dir=nothing_installed)


def test_an_absent_set_says_which_files_to_put_where(nothing_installed):
    with pytest.raises(DataError) as caught:
        load("mnist")
    message = str(caught.value)
    for part in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz",
                 "t10k-labels-idx1-ubyte.gz", "$VAEKIT_DATA", "--data-dir", "no network in tests"):  # fmt: skip
        assert part in message
    assert "ossci-datasets" in message
    assert "cvdf-datasets" in message


def test_a_download_goes_through_the_mirrors_and_checks_the_hash(nothing_installed, monkeypatch):
    remote = nothing_installed / "remote"
    images = write_set(remote)
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in remote.iterdir()}
    assert hashes.keys() == named.MNIST.sha256.keys()
    monkeypatch.setattr(named, "MNIST", replace(named.MNIST, sha256=hashes))
    calls = []

    def download(self, url, output_file, pooch):
        calls.append(url)
        content = (remote / url.rpartition("/")[2]).read_bytes()
        Path(output_file).write_bytes(b"other" if "ossci" in url else content)

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", download)
    data = load("mnist:test")
    np.testing.assert_array_equal(data.x, images[6:])
    assert data.source == str(nothing_installed / "cache" / "mnist")
    assert calls == [
        mirror + file
        for file in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
        for mirror in named.MNIST.mirrors
    ]
    load("mnist:test")
    assert len(calls) == 4, "what is in the cache is not fetched again"
    images_of_train = "train-images-idx3-ubyte.gz"
    hashes[images_of_train] = named.FASHION_MNIST.sha256[images_of_train]
    with pytest.raises(DataError, match=r"ossci.*ValueError SHA256 hash.*cvdf.*ValueError SHA256 hash"):
        load("mnist:train")


def test_the_hash_of_a_file_is_that_of_the_mirrors():
    assert named.MNIST.sha256["t10k-images-idx3-ubyte.gz"].startswith(
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584"
    )


@pytest.mark.parametrize("known", named.SETS, ids=lambda known: known.name)
def test_each_set_has_four_hashes_and_two_mirrors(known):
    assert len(set(known.sha256.values())) == 4
    assert all(len(digest) == 64 and int(digest, 16) for digest in (*known.sha256.values(), *known.label_sha256))
    assert len(known.mirrors) == 2
    assert all(mirror.startswith("http") and mirror.endswith("/") for mirror in known.mirrors)


@pytest.mark.mnist
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_real_files(name, nothing_installed):
    root = REAL_DATA
    if not root or not Path(root, name).is_dir():
        pytest.skip(f"$VAEKIT_DATA has no folder {name}")
    train, test = load(f"{name}:train", data_dir=root), load(f"{name}:test", data_dir=root)
    assert (train.x.shape, test.x.shape) == ((60000, 1, 28, 28), (10000, 1, 28, 28))
    assert (train.x.dtype, train.x.max()) == (np.uint8, 255)
    first, counts = {
        "mnist": ([5, 0, 4, 1, 9], [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
        "fashion-mnist": ([9, 0, 0, 3, 0], [1000] * 10),
    }[name]
    assert train.labels[:5].tolist() == first
    assert np.bincount(test.labels).tolist() == counts
    if name == "mnist":
        assert train.x.mean() / 255 == pytest.approx(0.1307, abs=5e-5)  # the mean that everyone standardises with
        assert train.x.std() / 255 == pytest.approx(0.3081, abs=5e-5)
    other = {"mnist": "fashion-mnist", "fashion-mnist": "mnist"}[name]
    with pytest.raises(DataError, match="not on this machine"):
        load(f"{other}:test", data_dir=Path(root, name))
