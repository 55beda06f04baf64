"""A folder of images, in any format that Pillow reads."""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vaekit.data.dataset import Dataset
from vaekit.data.guards import reading
from vaekit.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

GREY_MODES = ("1", "L", "LA", "La")
WIDE_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
# EPS would start Ghostscript; the others are only recognised by Pillow, never read.
UNREAD_FORMATS = ("EPS", "PDF", "MPEG", "HDF5", "GRIB", "BUFR", "WMF")


def folder_dataset(folder: Path, size: tuple[int, int] | int | None = None) -> Dataset:
    """Read a folder of images, subfolders included, in the order of their sorted paths.

    Images are turned upright as their EXIF data say; of an animation the first frame is read; transparency is
    dropped. If all images are grey there is one channel, else there are three. Where images lie only in subfolders,
    and in each of them (two or more), the names of the subfolders are the labels.

    Args:
        folder: The folder; hidden files are passed over, links to folders not followed.
        size: Height and width to resize to, or one number for both; None if all images have the same size already.

    Returns:
        Images of shape (N, 1, H, W) or (N, 3, H, W), uint8.

    Raises:
        DataError: There are no images, one cannot be read, is a decompression bomb or has more than 8 bits per
            channel, or their sizes differ.
    """
    shape = _checked_size(size)
    files, num_skipped = _find_images(folder)
    if not files:
        raise DataError(
            f"{folder} holds no images that Pillow reads ({num_skipped} other file(s)). "
            "Pass the folder that holds them, or the path of one data file."
        )
    if num_skipped:
        warnings.warn(f"Skipped {num_skipped} file(s) in {folder} that are not images.", UserWarning, stacklevel=4)
    images: list[np.ndarray] = []
    for file in files:
        images.append(_read_image(folder / file, shape))
        if images[-1].shape[:2] != images[0].shape[:2]:
            (height, width), (height_0, width_0) = images[-1].shape[:2], images[0].shape[:2]
            raise DataError(
                f"All images must have the same size; {folder / file} has {height} x {width} (height x width), "
                f"{folder / files[0]} has {height_0} x {width_0}. Resize them: size=({height_0}, {width_0})."
            )
    if any(image.ndim == 3 for image in images):
        x = np.stack([image if image.ndim == 3 else np.stack([image] * 3, axis=-1) for image in images])
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    else:
        x = np.stack(images)[:, None]
    return Dataset(x, _labels(folder, files), folder.resolve().name, None, (0, 255), "image", str(folder))


def _checked_size(size: tuple[int, int] | int | None) -> tuple[int, int] | None:
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(isinstance(side, int) and 1 <= side <= 2**14 for side in sides):
        raise DataError(f"size must be a height and a width of 1 to 16384 pixels, or one number; got {size!r}.")
    return sides[0], sides[1]


def _formats() -> tuple[list[str], set[str]]:
    """Formats that Pillow can read here, and the suffixes of their files."""
    from PIL import Image

    Image.init()
    formats = [name for name in Image.OPEN if name not in UNREAD_FORMATS]
    return formats, {suffix for suffix, name in Image.registered_extensions().items() if name in formats}


def _find_images(folder: Path) -> tuple[list[Path], int]:
    """Sorted paths of the images relative to `folder`, and the number of other files."""
    _, suffixes = _formats()
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
    return np.array(names) if len(subfolders) > 1 and subfolders == set(names) else None


def _read_image(path: Path, shape: tuple[int, int] | None) -> np.ndarray:
    """One image as uint8, (H, W) if it is grey and (H, W, 3) otherwise."""
    from PIL import Image, ImageOps

    formats, _ = _formats()
    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about metadata that are not used
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=formats) as image:
                _refuse_wide(image, path)
                upright = ImageOps.exif_transpose(image).convert("L" if image.mode in GREY_MODES else "RGB")
            if shape is not None and upright.size != shape[::-1]:
                upright = upright.resize(shape[::-1], Image.Resampling.LANCZOS)
            return np.array(upright)
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
