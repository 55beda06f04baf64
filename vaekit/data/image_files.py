"""Images that stay in their files until they are asked for."""

import math
import warnings
from pathlib import Path

import numpy as np

from vaekit.data.ahead import ahead
from vaekit.data.disk_cache import Spool
from vaekit.data.disk_rows import Source
from vaekit.data.readers.pixels import different_sizes, look_at, read_image
from vaekit.data.room import has_disk_room, no_room
from vaekit.errors import DataError
from vaekit.progress import track

_BLOCK_BYTES = 2**22


class ImageFiles:
    """Images of one size that are decoded when they are asked for.

    All files are opened once, in worker processes, for their sizes and modes; pixels are read later.

    Args:
        folder: The folder.
        files: Paths relative to it.
        size: Height and width to resize to; None if all have the same.

    Raises:
        DataError: A file is no image, or their sizes differ.
    """

    is_decoded = False
    dtype = np.dtype(np.uint8)

    def __init__(self, folder: Path, files: list[Path], size: tuple[int, int] | None) -> None:
        self.folder, self.files, self.size = folder, files, size
        blocks = np.array_split(np.arange(len(files)), math.ceil(len(files) / 4096))
        looks = np.concatenate(list(ahead(self._look, track(blocks, "looking at images"))))
        different = np.flatnonzero((looks[:, :2] != looks[0, :2]).any(1))
        if len(different):
            raise different_sizes(folder, files[different[0]], tuple(looks[different[0]]), files[0], tuple(looks[0]))
        height, width, _ = looks[0].tolist()
        self.shape: tuple[int, ...] = (len(files), int(looks[:, 2].max()), height, width)

    def _look(self, indices: np.ndarray) -> np.ndarray:
        return np.array([look_at(self.folder / self.files[i], self.size) for i in indices])

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Pixels of shape (B, C, H, W)."""
        x = np.empty((len(indices), *self.shape[1:]), np.uint8)
        for row, i in zip(x, indices, strict=True):
            pixels = read_image(self.folder / self.files[i], self.size)
            if pixels.shape[:2] != self.shape[2:] or pixels.ndim - 1 > self.shape[1]:
                raise DataError(f"{self.folder / self.files[i]} changed while the data were in use. Load them again.")
            row[:] = pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        return x


def kept_decoded(images: ImageFiles) -> Source:
    """The images decoded into a file of the cache, or themselves where the disk has no room for it."""
    num_bytes = math.prod(images.shape)
    if not has_disk_room(num_bytes):
        warnings.warn(f"{images.folder} is decoded again in each epoch: {no_room(num_bytes)}.", stacklevel=5)
        return images
    blocks = np.array_split(np.arange(len(images.files)), math.ceil(num_bytes / _BLOCK_BYTES))
    return Spool(images.shape, images.dtype, ahead(images.read, track(blocks, "decoding images")))
