"""One image, in any format that Pillow reads, as an array of bytes."""

import io
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vaekit.data.readers.safe_reading import reading
from vaekit.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

GREY_MODES = ("1", "L", "LA", "La")
WIDE_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_ORIENTATION = 0x0112  # the EXIF tag
_BITS_PER_SAMPLE = 258  # the TIFF tag
# EPS would start Ghostscript; the others are only recognised by Pillow, never read.
UNREAD_FORMATS = ("EPS", "PDF", "MPEG", "HDF5", "GRIB", "BUFR", "WMF")


@cache
def known_formats() -> tuple[list[str], set[str]]:
    """Formats that Pillow can read here, and the suffixes of their files."""
    from PIL import Image

    Image.init()
    formats = [name for name in Image.OPEN if name not in UNREAD_FORMATS]
    return formats, {suffix for suffix, name in Image.registered_extensions().items() if name in formats}


def look_at(path: Path, size: tuple[int, int] | None, alpha: str = "white") -> tuple[int, int, int, bool, bool]:
    """Height, width and number of channels of what `read_image` would return, and what it says of the file.

    The pixels are not decoded.
    """
    with _opened(path) as image:
        width, height = image.size
        has_orientation = image.format != "PNG" or "exif" in image.info  # Pillow decodes a PNG to be sure of it
        if has_orientation and image.getexif().get(_ORIENTATION, 1) > 4:  # stored lying on its side
            width, height = height, width
        is_transparent = image.has_transparency_data
        num_channels = (1 if image.mode in GREY_MODES else 3) + (is_transparent and alpha == "keep")
        return *(size or (height, width)), num_channels, is_transparent, _has_more(image)


def read_image(
    path: Path, size: tuple[int, int] | None, alpha: str = "white", content: bytes | None = None
) -> tuple[np.ndarray, bool, bool]:
    """One image as uint8, (H, W) if it is grey and (H, W, C) otherwise.

    Pixels of it are transparent, or may be; and the file holds more frames or pages than this first one: both are said.

    Args:
        path: The file.
        size: Height and width to resize to.
        alpha: What becomes of transparent pixels, see `Reading`; kept, they are the last channel.
        content: The bytes of the file, where it lies elsewhere; `path` then is what to call it.
    """
    from PIL import Image, ImageOps

    with _opened(path, content) as image:
        upright, mode = ImageOps.exif_transpose(image), "L" if image.mode in GREY_MODES else "RGB"
        is_transparent = False
        if image.has_transparency_data and alpha != "drop":
            whole = upright.convert("RGBA")
            is_transparent = bool(np.array(whole.getchannel("A")).min() < 255)
            if alpha == "keep":
                mode, upright = mode + "A", whole
            else:
                upright = Image.alpha_composite(Image.new("RGBA", whole.size, alpha), whole)
        upright = upright.convert(mode)
        if size is not None and upright.size != size[::-1]:
            upright = upright.resize(size[::-1], Image.Resampling.LANCZOS)
        return np.array(upright), is_transparent, _has_more(image)


def _has_more(image: "Image.Image") -> bool:
    """Whether the file holds another frame of an animation, or another page."""
    return bool(getattr(image, "is_animated", False))  # formats of one frame have no such word


def with_channels(pixels: np.ndarray, num_channels: int) -> np.ndarray:
    """Pixels as (C, H, W): grey ones are repeated where others have colours, and opaque where others have an alpha."""
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    own = pixels.shape[-1]
    colours, has_alpha = (pixels[..., :-1], True) if own in (2, 4) else (pixels, False)
    wanted = 1 if num_channels < 3 else 3
    parts = [np.broadcast_to(colours, (*pixels.shape[:2], wanted)) if colours.shape[-1] == 1 else colours]
    if num_channels in (2, 4):
        parts.append(pixels[..., -1:] if has_alpha else np.full((*pixels.shape[:2], 1), 255, np.uint8))
    return np.concatenate(parts, axis=-1).transpose(2, 0, 1)


def common_channels(counts: Iterable[int]) -> int:
    """Channels of images together: three where one has colours, one more where one has an alpha."""
    found = set(counts)
    return (1 if found <= {1, 2} else 3) + bool(found & {2, 4})


@contextmanager
def _opened(path: Path, content: bytes | None = None) -> Iterator["Image.Image"]:
    """An opened image; what goes wrong with it in the block becomes a `DataError`."""
    from PIL import Image

    formats, _ = known_formats()
    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about metadata that are not used
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path if content is None else io.BytesIO(content), formats=formats) as image:
                _refuse_wide(image, path)
                yield image
        except (DataError, FileNotFoundError, PermissionError, MemoryError):
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise DataError(f"{path} looks like a decompression bomb: {error} Shrink it or leave it out.") from error
        except Exception as error:  # a damaged file makes decoders raise almost anything
            raise DataError(f"{path} is not a readable image ({error}). Leave it out or store it again.") from error


def _refuse_wide(image: "Image.Image", path: Path) -> None:
    """Refuse what Pillow would cut to the high byte of each number, or has no 8-bit image for."""
    if image.mode in WIDE_MODES or _is_wide_inside(image):
        raise DataError(
            f"{path} has more than 8 bits per channel (mode {image.mode}), and a folder is read as 8-bit images. "
            "Convert it, or store all images in one .npy file."
        )


def _is_wide_inside(image: "Image.Image") -> bool:
    """Whether the file holds wider numbers than the pixels that Pillow makes of them."""
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, 8)  # of a TIFF
    if max(bits if isinstance(bits, tuple) else (bits,)) > 8:
        return True
    for tile in getattr(image, "tile", ()):
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if any(isinstance(word, str) and ";16" in word for word in arguments):
            return True
        if image.format == "PPM" and any(isinstance(most, int) and most > 255 for most in arguments):
            return True
    return (_bits_in_head(image) or 8) > 8


def _bits_in_head(image: "Image.Image") -> int | None:
    """Bits per channel of JPEG 2000, which its decoder alone would know; None for other formats."""
    if image.format != "JPEG2000":
        return None
    stream: Any = image.fp  # type: ignore[attr-defined]  # an opened file has one
    place = stream.tell()
    stream.seek(0)
    head = stream.read(2**16)
    stream.seek(place)
    at = head.find(b"\xff\x4f\xff\x51")  # the codestream's SIZ marker: sizes, number of channels, bits of each
    return (head[at + 42] & 0x7F) + 1 if 0 <= at < len(head) - 42 else None


def different_sizes(
    folder: Path, file: Path, size: tuple[int, ...], first: Path, first_size: tuple[int, ...]
) -> DataError:
    """What to say of two images whose sizes differ."""
    (height, width), (height_0, width_0) = size[:2], first_size[:2]
    return DataError(
        f"All images must have the same size; {folder / file} has {height} x {width} (height x width), "
        f"{folder / first} has {height_0} x {width_0}. Resize them: "
        f"size=({height_0}, {width_0}), or --size {height_0}x{width_0}."
    )
