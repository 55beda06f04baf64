"""numpy's .npy and .npz files, read without ever unpickling."""

import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import IO

import numpy as np

from vaekit.data.dataset import Dataset, StoredDataset
from vaekit.data.disk_cache import DecodedRows, stays_in_memory
from vaekit.data.kinds import described
from vaekit.data.readers.safe_reading import reading, refuse_bomb
from vaekit.data.readers.sparse import dense, is_sparse
from vaekit.data.reading import Reading, notice
from vaekit.errors import ColumnError, DataError
from vaekit.paths import as_text

X_NAMES = ("x", "data", "X")
LABEL_NAMES = ("y", "labels")


def npy_dataset(path: Path, in_memory: bool | None = None, how: Reading | None = None) -> Dataset:
    """Read an .npy file as a data set.

    A file that stays on disk is not copied: rows are read from it when they are asked for. Arrays of bools, in the
    order of Fortran, or of foreign byte order are read into memory.

    8-bit arrays of at least three dimensions are taken for images with values in 0 ... 255. Images with their channels
    last come out with the channels first, see `with_channels_first`.

    Args:
        path: The file.
        in_memory: Whether all rows are held in memory; None where they take no more than a quarter of what is free.
        how: How to read it.

    Returns:
        The data set, in the dtype of the file.

    Raises:
        DataError: The file cannot be read, is truncated, or holds Python objects.
    """
    with reading(path), open(path, "rb") as stream:
        num_bytes = path.stat().st_size
        stays = stays_in_memory(num_bytes) if in_memory is None else in_memory
        rows = None if stays else _on_disk(stream, num_bytes, str(path))
        if rows is not None:
            return _stored(rows, path, how)
        stream.seek(0)
        x = _read_array(stream, num_bytes, str(path))
    return _dataset(x, None, path, how)


def _on_disk(stream: IO[bytes], num_bytes: int, where: str) -> DecodedRows | None:
    """The rows of an .npy stream, left where they are; None where torch could not read them so."""
    with _named(where):
        shape, is_fortran, dtype = _check_header(stream, num_bytes, where)
    if is_fortran or not dtype.isnative or dtype.kind not in "iuf" or len(shape) < 2 or shape[0] < 2 or 0 in shape:
        return None
    return DecodedRows(shape, dtype, os.dup(stream.fileno()), stream.tell())


class _ChannelsFirst:
    """Images whose channels come last in their file, with the channels first."""

    def __init__(self, rows: DecodedRows) -> None:
        number, height, width, channels = rows.shape
        self.shape: tuple[int, ...] = (number, channels, height, width)
        self.dtype, self.is_decoded = rows.dtype, True
        self._rows = rows

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The rows of those indices, shape (B, C, H, W)."""
        return np.ascontiguousarray(self._rows.read(indices).transpose(0, 3, 1, 2))


def _stored(rows: DecodedRows, path: Path, how: Reading | None) -> StoredDataset:
    from vaekit.data.disk_rows import StoredRows

    is_last, found = _has_channels_last(rows.shape, how or Reading(), str(path))
    source = _ChannelsFirst(rows) if is_last else rows
    stored = StoredRows(source, name=as_text(path.stem))
    about = described(source.dtype, len(source.shape))
    return StoredDataset(stored, name=as_text(path.stem), source=str(path), reading=found, **about)


def npz_dataset(path: Path, label: str | None = None, how: Reading | None = None, member: str | None = None) -> Dataset:
    """Read an .npz archive: member `x`, `data` or `X`, or the only array; `y` or `labels` as labels.

    What `scipy.sparse.save_npz` writes comes out with its zeros.

    Args:
        path: The archive.
        label: Name of the member with the labels, where it is neither `y` nor `labels`.
        how: How to read it.
        member: Name of the member with the data, where it has another name.

    Returns:
        The data set, in the dtype of the archive.

    Raises:
        DataError: The archive is damaged, a decompression bomb, holds Python objects, or leaves open which array to
            read.
    """
    with reading(path):
        try:
            with zipfile.ZipFile(path) as archive:
                refuse_bomb(sum(info.file_size for info in archive.infolist()), path)
                members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}

                def read(name: str) -> np.ndarray:
                    with archive.open(members[name]) as stream:
                        return _read_array(stream, members[name].file_size, f"member {name!r} of {path}")

                x_name, label_name = _choose(list(members), label, member, path)
                arrays = [dense(read, str(path)) if x_name is None else read(x_name)]
                if label_name is not None:
                    arrays.append(read(label_name))
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:  # RuntimeError: it has a password
            raise DataError(f"{path} is not a readable .npz archive: {error}. Write it again with np.savez.") from error
    return _dataset(arrays[0], arrays[1] if len(arrays) > 1 else None, path, how)


def member_of(source: str) -> tuple[Path, str] | None:
    """The archive and the member that `file.npz:member` names; None for any other path."""
    archive, colon, member = source.rpartition(":")
    is_one = bool(colon and member) and archive.lower().endswith(".npz") and not os.path.exists(source)
    return (Path(archive), member) if is_one else None


def _choose(members: list[str], label: str | None, member: str | None, path: Path) -> tuple[str | None, str | None]:
    """Names of the members with x, None where several are a sparse matrix, and with the labels."""
    listing = ", ".join(repr(name) for name in members) or "none"
    if label is not None and label not in members:
        raise ColumnError(f"{path} has no member {label!r} for the labels; its members are {listing}.", "label")
    if member is not None and member not in members:
        raise DataError(f"{path} has no member {member!r}; its members are {listing}.")
    label_name = label or next((name for name in LABEL_NAMES if name in members and name != member), None)
    if member is not None:
        return member, label_name
    if is_sparse(members):
        return None, label_name
    rest = [name for name in members if name != label_name]
    x_name = next((name for name in X_NAMES if name in rest), None)
    if x_name is None and len(rest) == 1:
        x_name = rest[0]
    elif x_name is None and len(members) == 1 and label is None:  # its only array happens to be called y
        return members[0], None
    if x_name is None:
        example = f"{path.name}:{(rest or members)[0]}" if members else f"{path.name}:NAME"
        raise DataError(
            f"Which array of {path} are the data? Call it 'x'; the members are {listing}. Or name one behind the path: "
            f"{example}."
        )
    return x_name, label_name


def _dataset(x: np.ndarray, labels: np.ndarray | None, path: Path, how: Reading | None) -> Dataset:
    x, found = with_channels_first(x, how or Reading(), str(path))
    return Dataset(x, labels, as_text(path.stem), source=str(path), reading=found, **described(x.dtype, x.ndim))


def with_channels_first(x: np.ndarray, how: Reading, where: str) -> tuple[np.ndarray, Reading]:
    """Images of shape (N, C, H, W), from (N, H, W, C) where they are so, and how they were read.

    Where nobody says, the last dimension holds the channels if it is 1, 3 or 4, and height and width are larger than
    that and equal, or the height larger than the number of channels that an image can have. A notice says so.

    Raises:
        DataError: Channels are said to be last in an array that has none.
    """
    is_last, found = _has_channels_last(x.shape, how, where)
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if is_last else x, found


def _has_channels_last(shape: tuple[int, ...], how: Reading, where: str) -> tuple[bool, Reading]:
    """Whether the last dimension holds the channels, and how the file was read."""
    asked = how.given.get("channels_last")
    if asked and len(shape) != 4:
        raise DataError(f"{where} has shape {shape}, and images with channels last have (N, H, W, C).")
    if not (_looks_channels_last(shape) if asked is None else asked):
        return False, how
    if asked is None and not how.hints.get("channels_last"):
        notice(
            f"{where}: shape {shape} is read as images of {shape[1]} x {shape[2]} pixels with {shape[3]} "
            "channel(s) last (--channels-first: they are not)."
        )
    return True, how.found(channels_last=True)


def _looks_channels_last(shape: tuple[int, ...]) -> bool:
    if len(shape) != 4:
        return False
    _, height, width, channels = shape
    return channels in (1, 3, 4) and min(height, width) > channels and (height == width or height > 4)


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Say of what kind a file is not, where numpy cannot read it in the body."""
    try:
        yield
    except DataError:
        raise
    except (ArithmeticError, ValueError, TypeError, LookupError, SyntaxError, TokenError) as error:  # a damaged header
        raise DataError(f"{where} is not a readable .npy file: {error}. Write it again with np.save.") from error


def _read_array(stream: IO[bytes], num_bytes: int, where: str) -> np.ndarray:
    """Read one .npy stream of `num_bytes`, whose header is checked before numpy allocates what it declares."""
    with _named(where):
        _check_header(stream, num_bytes, where)
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False)


def _check_header(stream: IO[bytes], num_bytes: int, where: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in the order of Fortran, and dtype of what follows."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the format, which is for structured arrays only")
    read_header = (np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0)[version[0] - 1]
    shape, is_fortran, dtype = read_header(stream)
    if dtype.hasobject:
        raise DataError(
            f"{where} holds Python objects, which would have to be unpickled; that can run any code and is refused. "
            "Store numbers: np.save(file, x.astype('float32'))."
        )
    expected = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or expected > num_bytes - stream.tell():
        raise DataError(
            f"{where} is truncated: its header declares shape {shape} of {dtype}, {expected:,} bytes, "
            f"but the whole of it has {num_bytes:,}. Copy or write it again."
        )
    return shape, is_fortran, dtype
