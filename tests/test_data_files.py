"""What holds for a path of any kind."""

import os

import numpy as np
import pytest

from vaekit.data import load
from vaekit.data.readers import safe_reading
from vaekit.errors import DataError


def test_unknown_suffixes_and_missing_files(tmp_path):
    (tmp_path / "data.xls").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"unknown suffix '\.xls'. Known: \.npy, \.npz, \.csv.*a folder of images"):
        load(tmp_path / "data.xls")
    for name in ("none.npy", "none.csv", "none"):
        with pytest.raises(DataError, match=r"No such file or folder: .*none.*relative to"):
            load(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_files_without_the_right_to_read(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((3, 2)))
    (tmp_path / "x.npy").chmod(0)
    with pytest.raises(DataError, match="Not allowed to read"):
        load(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied"), r"Not allowed to read .*chmod"),
        (OSError(5, "Input/output error"), r"Cannot read .*Input/output error"),
        (MemoryError(), "does not fit into memory"),
    ],
)
def test_errors_of_the_system_become_data_errors(error, message, tmp_path):
    with pytest.raises(DataError, match=message), safe_reading.reading(tmp_path):
        raise error


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.csv", "x.csv.gz", "x.parquet", "x.idx", "x.idx.gz"])
def test_empty_files_and_folders_with_the_suffix_of_a_file(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"x\.(npy|npz|csv|csv.gz|parquet|idx|idx.gz) is "):
        load(tmp_path / name)
    (tmp_path / "sub" / name).mkdir(parents=True)
    with pytest.raises(DataError, match="holds no images"):
        load(tmp_path / "sub" / name)


def test_label_and_size_only_where_they_mean_something(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((3, 2)))
    with pytest.raises(DataError, match="label='y' names a column of a table"):
        load(tmp_path / "x.npy", label="y")
    with pytest.raises(DataError, match=r"size=8 resizes the images of a folder; .*x\.npy is not a folder"):
        load(tmp_path / "x.npy", size=8)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_before_it_blocks(tmp_path):
    os.mkfifo(tmp_path / "x.npy")
    with pytest.raises(DataError, match="neither a file nor a folder"):
        load(tmp_path / "x.npy")


@pytest.mark.parametrize("source", ["", "a\0b.npy", "x" * 5000])
def test_strings_that_cannot_be_paths(source):
    with pytest.raises(DataError, match="A data set is a name or a path; got"):
        load(source)


def test_a_link_to_itself(tmp_path):
    (tmp_path / "x.npy").symlink_to(tmp_path / "x.npy")
    with pytest.raises(DataError, match=r"Cannot read .*x\.npy"):
        load(str(tmp_path / "x.npy"))
