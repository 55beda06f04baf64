"""One image, in any format that Pillow reads, as an array of bytes."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vaekit.data.readers.safe_reading import reading
from vaekit.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

GREY_MODES = ("1", "L", "LA", "La")
WIDE_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_ORIENTATION = 0x0112  # the EXIF tag
# EPS would start Ghostscript; the others are only recognised by Pillow, never read.
UNREAD_FORMATS = ("EPS", "PDF", "MPEG", "HDF5", "GRIB", "BUFR", "WMF")


@cache
def known_formats() -> tuple[list[str], set[str]]:
    """Formats that Pillow can read here, and the suffixes of their files."""
    from PIL import Image

    Image.init()
    formats = [name for name in Image.OPEN if name not in UNREAD_FORMATS]
    return formats, {suffix for suffix, name in Image.registered_extensions().items() if name in formats}


def look_at(path: Path, size: tuple[int, int] | None) -> tuple[int, int, int]:
    """Height, width and number of channels of what `read_image` would return, without decoding the pixels."""
    with _opened(path) as image:
        width, height = image.size
        has_orientation = image.format != "PNG" or "exif" in image.info  # Pillow decodes a PNG to be sure of it
        if has_orientation and image.getexif().get(_ORIENTATION, 1) > 4:  # stored lying on its side
            width, height = height, width
        return *(size or (height, width)), 1 if image.mode in GREY_MODES else 3


def read_image(path: Path, size: tuple[int, int] | None) -> np.ndarray:
    """One image as uint8, (H, W) if it is grey and (H, W, 3) otherwise."""
    from PIL import Image, ImageOps

    with _opened(path) as image:
        upright = ImageOps.exif_transpose(image).convert("L" if image.mode in GREY_MODES else "RGB")
        if size is not None and upright.size != size[::-1]:
            upright = upright.resize(size[::-1], Image.Resampling.LANCZOS)
        return np.array(upright)


@contextmanager
def _opened(path: Path) -> Iterator["Image.Image"]:
    """An opened image; what goes wrong with it in the block becomes a `DataError`."""
    from PIL import Image

    formats, _ = known_formats()
    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about metadata that are not used
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=formats) as image:
                _refuse_wide(image, path)
                yield image
        except (DataError, FileNotFoundError, PermissionError, MemoryError):
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise DataError(f"{path} looks like a decompression bomb: {error} Shrink it or leave it out.") from error
        except Exception as error:  # a damaged file makes decoders raise almost anything
            raise DataError(f"{path} is not a readable image ({error}). Leave it out or store it again.") from error


def _refuse_wide(image: "Image.Image", path: Path) -> None:
    if image.mode in WIDE_MODES:
        raise DataError(
            f"{path} has more than 8 bits per channel (mode {image.mode}), and a folder is read as 8-bit images. "
            "Convert it, or store all images in one .npy file."
        )


def different_sizes(
    folder: Path, file: Path, size: tuple[int, ...], first: Path, first_size: tuple[int, ...]
) -> DataError:
    """What to say of two images whose sizes differ."""
    (height, width), (height_0, width_0) = size[:2], first_size[:2]
    return DataError(
        f"All images must have the same size; {folder / file} has {height} x {width} (height x width), "
        f"{folder / first} has {height_0} x {width_0}. Resize them: size=({height_0}, {width_0})."
    )
