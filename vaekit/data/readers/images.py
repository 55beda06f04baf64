"""A folder of images, in any format that Pillow reads."""

import math
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vaekit.data.dataset import About, Dataset, StoredDataset
from vaekit.data.disk_cache import decoded, has_disk_room, no_room, stays_in_memory
from vaekit.data.kinds import IMAGES
from vaekit.data.once_here import Beat, computed_once
from vaekit.data.readers.pixels import (
    common_channels,
    different_sizes,
    known_formats,
    look_at,
    read_image,
    with_channels,
)
from vaekit.data.readers.safe_reading import reading
from vaekit.data.reading import Reading, notice
from vaekit.errors import DataError
from vaekit.paths import as_text
from vaekit.progress import track

if TYPE_CHECKING:
    from vaekit.data.disk_rows import Source

_BLOCK_BYTES = 2**22


def folder_dataset(
    folder: Path,
    size: tuple[int, int] | int | None = None,
    in_memory: bool | None = None,
    how: Reading | None = None,
) -> Dataset:
    """Read a folder of images, subfolders included, in the order of their sorted paths.

    Images are turned upright as their EXIF data say; of an animation the first frame is read; transparent pixels are
    composed over white, unless `how.alpha` says otherwise, for what hides under them is no part of the picture. If all
    images are grey there is one channel, else there are three. Where images lie only in subfolders, and in each of them
    (two or more), the names of the subfolders are the labels.

    Images that stay on disk are decoded once, in worker processes, into a file of the cache. Where the disk has no room
    for that, they are decoded anew whenever they are asked for, by workers too, and a warning says so.

    Args:
        folder: The folder; hidden files are passed over, links to folders not followed.
        size: Height and width to resize to, or one number for both; None if all images have the same size already.
        in_memory: Whether all images are held in memory; None where they take no more than a quarter of what is free.
        how: What becomes of transparent pixels.

    Returns:
        Images of shape (N, C, H, W), uint8, C being 1 or 3, and one more where transparency is kept; the key of each is
        its path within the folder.

    Raises:
        DataError: There are no images, one cannot be read, is a decompression bomb or has more than 8 bits per
            channel, or their sizes differ.

    Warns:
        ReadingWarning: Transparent pixels were composed over white, and nobody said so; or a file holds several frames.
    """
    how = how or Reading()
    alpha = str(how.given.get("alpha", "white"))
    shape = _checked_size(size)
    files, num_skipped = _find_images(folder)
    if not files:
        raise DataError(
            f"{folder} holds no images that Pillow reads ({num_skipped} other file(s)). "
            "Pass the folder that holds them, or the path of one data file."
        )
    if num_skipped:
        warnings.warn(f"Skipped {num_skipped} file(s) in {folder} that are not images.", UserWarning, stacklevel=4)
    if in_memory is None:
        height, width, *_ = look_at(folder / files[0], shape)
        in_memory = stays_in_memory(len(files) * height * width * 3)
    about: About = {"labels": _labels(folder, files), "name": as_text(folder.resolve().name)}
    about |= {"value_range": IMAGES.value_range, "kind": IMAGES.name, "source": str(folder)}
    about |= {"keys": np.array([as_text(file.as_posix()) for file in files]), "key": "file"}
    if in_memory or len(files) < 2:
        images = None
        x, are_transparent, are_animated = _read_all(folder, files, shape, alpha)
    else:
        images = ImageFiles(folder, files, shape, alpha)
        are_transparent, are_animated = images.are_transparent, images.are_animated
    if are_animated.any():
        first = folder / files[int(np.argmax(are_animated))]
        notice(
            f"{int(are_animated.sum())} file(s) in {folder} hold several frames or pages (the first: {first.name}), of "
            "which only the first is read. Store each as a file of its own if all are data."
        )
    num_transparent = int(np.sum(are_transparent))
    if num_transparent and "alpha" not in how.given and "alpha" not in how.hints:
        first = folder / files[int(np.argmax(are_transparent))]
        notice(
            f"{num_transparent} image(s) in {folder} have transparent pixels (the first: {first.name}), which are "
            "composed over white (--alpha black, keep or drop does otherwise)."
        )
    about["reading"] = how.found(alpha=alpha) if num_transparent else how
    return Dataset(x, **about) if images is None else _stored(images, about)


def _stored(images: "ImageFiles", about: About) -> StoredDataset:
    from vaekit.data.disk_rows import StoredRows

    return StoredDataset(StoredRows(_source(images), name=about["name"]), **about)


def _read_all(
    folder: Path, files: list[Path], shape: tuple[int, int] | None, alpha: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    images: list[np.ndarray] = []
    marks: list[tuple[bool, bool]] = []
    for file in files:
        pixels, is_transparent, is_animated = read_image(folder / file, shape, alpha)
        images.append(pixels)
        marks.append((is_transparent, is_animated))
        if pixels.shape[:2] != images[0].shape[:2]:
            raise different_sizes(folder, file, pixels.shape, files[0], images[0].shape)
    num_channels = common_channels(1 if image.ndim == 2 else image.shape[2] for image in images)
    return np.stack([with_channels(image, num_channels) for image in images]), *np.array(marks).T


def _checked_size(size: tuple[int, int] | int | None) -> tuple[int, int] | None:
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(isinstance(side, int) and 1 <= side <= 2**14 for side in sides):
        raise DataError(f"size must be a height and a width of 1 to 16384 pixels, or one number; got {size!r}.")
    return sides[0], sides[1]


def _find_images(folder: Path) -> tuple[list[Path], int]:
    """Sorted paths of the images relative to `folder`, and the number of other files."""
    _, suffixes = known_formats()
    found: list[Path] = []
    num_skipped = 0

    def stop(error: OSError) -> None:
        raise error

    with reading(folder):
        for parent, folders, names in os.walk(folder, onerror=stop):
            folders[:] = [name for name in folders if not name.startswith(".")]
            visible = [Path(parent, name) for name in names if not name.startswith(".")]
            images = [path.relative_to(folder) for path in visible if path.suffix.lower() in suffixes]
            found += images
            num_skipped += len(visible) - len(images)
    return sorted(found, key=lambda path: path.parts), num_skipped


def _labels(folder: Path, files: list[Path]) -> np.ndarray | None:
    if any(len(file.parts) == 1 for file in files):
        return None
    names = [file.parts[0] for file in files]
    subfolders = {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}
    return np.array([as_text(name) for name in names]) if len(subfolders) > 1 and subfolders == set(names) else None


class ImageFiles:
    """Images of one size that are decoded when they are asked for.

    All files are opened once, in worker processes, for their sizes and modes; pixels are read later.

    Args:
        folder: The folder.
        files: Paths relative to it.
        size: Height and width to resize to; None if all have the same.
        alpha: What becomes of transparent pixels.

    Attributes:
        are_transparent: Whether pixels of each may be transparent, shape (N,), bool.
        are_animated: Whether each file holds more frames than the first, shape (N,), bool.

    Raises:
        DataError: A file is no image, or their sizes differ.
    """

    is_decoded = False
    dtype = np.dtype(np.uint8)

    def __init__(self, folder: Path, files: list[Path], size: tuple[int, int] | None, alpha: str) -> None:
        from vaekit.data.disk_rows import ahead

        self.folder = Path(os.path.abspath(folder))  # files are read later, in another current folder perhaps
        self.files, self.size, self.alpha = files, size, alpha
        blocks = np.array_split(np.arange(len(files)), math.ceil(len(files) / 4096))

        def look(beat: Beat) -> bytes:
            found = []
            for block in ahead(self._look, track(blocks, "looking at images")):
                found.append(block)
                beat()
            return np.concatenate(found).astype(np.int64).tobytes()

        looks = np.frombuffer(computed_once(look), np.int64).reshape(len(files), -1)
        different = np.flatnonzero((looks[:, :2] != looks[0, :2]).any(1))
        if len(different):
            raise different_sizes(folder, files[different[0]], tuple(looks[different[0]]), files[0], tuple(looks[0]))
        height, width = looks[0, :2].tolist()
        self.shape: tuple[int, ...] = (len(files), common_channels(looks[:, 2].tolist()), height, width)
        self.are_transparent, self.are_animated = looks[:, 3:].astype(bool).T

    def _look(self, indices: np.ndarray) -> np.ndarray:
        return np.array([look_at(self.folder / self.files[i], self.size, self.alpha) for i in indices])

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Pixels of shape (B, C, H, W)."""
        x = np.empty((len(indices), *self.shape[1:]), np.uint8)
        for row, i in zip(x, indices, strict=True):
            pixels, *_ = read_image(self.folder / self.files[i], self.size, self.alpha)
            own = 1 if pixels.ndim == 2 else pixels.shape[2]
            if pixels.shape[:2] != self.shape[2:] or common_channels((own, self.shape[1])) != self.shape[1]:
                raise DataError(f"{self.folder / self.files[i]} changed while the data were in use. Load them again.")
            row[:] = with_channels(pixels, self.shape[1])
        return x


def _source(images: ImageFiles) -> "Source":
    """The images decoded into a file of the cache, or themselves where the disk has no room for it."""
    from vaekit.data.disk_rows import ahead

    num_bytes = math.prod(images.shape)
    if not has_disk_room(num_bytes):
        warnings.warn(f"{images.folder} is decoded again in each epoch: {no_room(num_bytes)}.", stacklevel=5)
        return images
    blocks = np.array_split(np.arange(len(images.files)), math.ceil(num_bytes / _BLOCK_BYTES))
    return decoded(images.shape, images.dtype, ahead(images.read, track(blocks, "decoding images")))
