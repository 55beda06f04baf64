"""Images as tiles: one array for a file, one axes for a figure."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from vaekit.data.kinds import IMAGES
from vaekit.distributions.support import bounds_of, element_support
from vaekit.errors import ConfigError, ShapeError
from vaekit.models.rows import as_tensor
from vaekit.models.view import View
from vaekit.plots import style
from vaekit.saving.files import check_suffix, write_atomically
from vaekit.traits import Data, RowTraits, told

Range = tuple[float, float]
_SEPARATOR = 160  # grey between tiles: visible beside black and beside white
_GAP = 3  # pixels between enlarged tiles
_MAX_WIDTH = 9.0  # inches of a figure's tiles
_SMALL = 16  # pixels: figures show tiles of shorter sides smoothly, as the eye cannot read large squares


def data_range(x: Data) -> Range:
    """Black and white for images about which nothing else is known.

    (0, 255) for 8-bit images that use the upper half of it, (0, 1) for reals within it, else the smallest and largest
    value, for reals without the outermost thousandth at either end.
    """
    values = np.asarray(as_tensor(x).detach().cpu())
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    if values.dtype == np.uint8 and high > 127:
        return 0.0, 255.0
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    if values.dtype.kind == "f" and finite.size > 2000 and (np.modf(finite[:2000])[0] != 0).any():
        low, high = (float(q) for q in np.quantile(finite, (0.001, 0.999)))
    low = min(low, 0.0) if 0 <= low < 0.5 * high else low
    if high > low:
        return low, high
    return (min(low, 0.0), max(high, 0.0)) if low else (0.0, 1.0)


def model_range(view: View, x: Data = None, decoded: Data = None) -> Range:
    """Black and white in the units of the data: the bounds of what the likelihood can explain, or what the data show.

    The data win where they fill less than half of the bounds (digits of 16 grey levels under a likelihood of 256).
    """
    bounds = _support_range(view)
    seen = told(RowTraits, x).value_range or (data_range(x) if x is not None else None)
    if bounds is None:
        return seen or data_range(decoded)
    if seen is not None and seen[1] - seen[0] < 0.5 * (bounds[1] - bounds[0]):
        return float(seen[0]), float(seen[1])
    return bounds


def _support_range(view: View) -> Range | None:
    """The bounds of the likelihood's support, seen through the transform; None where it is unbounded."""
    found = bounds_of(element_support(view.at_prior))
    if found is None:
        return None
    ends = [torch.full((1, *view.event_shape), end) for end in found]
    transform = view.transform
    with torch.no_grad():
        ends = ends if transform is None else [transform.inverse(end) for end in ends]
    first, last = (float(end.double().mean()) for end in ends)
    return (first, last) if math.isfinite(first) and math.isfinite(last) and first < last else None


def to_bytes_range(x: Data, value_range: Range | None = None) -> np.ndarray:
    """Images as uint8, channels last: (N, H, W) for grey, (N, H, W, 3) for colour; the range becomes 0 to 255.

    Raises:
        ShapeError: if x is no batch of images.
        ConfigError: unless low < high.
    """
    low, high = value_range or data_range(x)
    if not low < high:
        raise ConfigError(f"value_range expects low < high; got {low} and {high}")
    values = np.asarray(as_tensor(x).detach().cpu(), dtype=np.float64)
    if values.ndim < 3 or values.ndim > 4 or not IMAGES.shows(values.shape[1:]) or len(values) == 0:
        raise ShapeError(f"expected images of shape (N, H, W) or (N, C, H, W) with C of 1 or 3; got {values.shape}")
    if values.ndim == 4:
        values = values[:, 0] if values.shape[1] == 1 else np.moveaxis(values, 1, -1)
    scaled = np.nan_to_num((values - low) / (high - low), nan=0.5)
    return np.rint(255 * np.clip(scaled, 0, 1)).astype(np.uint8)


def image_grid(x: Data, ncols: int | None = None, value_range: Range | None = None, gap: int = 1) -> np.ndarray:
    """Images side by side, tile k in row k // ncols and column k % ncols, with grey lines between and around them.

    Args:
        x: images, shape (N, H, W) or (N, C, H, W) with C of 1 or 3.
        ncols: tiles per row; None makes the picture close to a square.
        value_range: what becomes black and white; None reads it off the values.
        gap: width of the lines in pixels.

    Returns:
        uint8, shape (rows, columns) for grey or (rows, columns, 3) for colour images; tile k starts at
        (gap + (k // ncols) (H + gap), gap + (k % ncols) (W + gap)).

    Raises:
        ShapeError: if x is no batch of images.
        ConfigError: for a column number below 1 or an empty range.

    Example:
        >>> import numpy as np
        >>> image_grid(np.zeros((6, 1, 8, 8)), ncols=3).shape
        (19, 28)
    """
    tiles = to_bytes_range(x, value_range)
    num, height, width = tiles.shape[:3]
    ncols = _square_columns(num, height, width) if ncols is None else ncols
    if ncols < 1:
        raise ConfigError(f"ncols is at least 1; got {ncols}")
    nrows = -(-num // ncols)
    shape = (gap + nrows * (height + gap), gap + ncols * (width + gap), *tiles.shape[3:])
    grid = np.full(shape, _SEPARATOR, np.uint8)
    for k, tile in enumerate(tiles):
        top, left = gap + k // ncols * (height + gap), gap + k % ncols * (width + gap)
        grid[top : top + height, left : left + width] = tile
    return grid


def _square_columns(num: int, height: int, width: int) -> int:
    """Columns that make the whole picture close to a square, whatever the shape of a tile."""
    return max(1, min(num, math.ceil(math.sqrt(num * height / width) - 1e-9)))


def save_grid(path: str | Path, x: Data, ncols: int | None = None, value_range: Range | None = None) -> None:
    """Write images as one PNG; small tiles are enlarged by a whole factor, so that every pixel stays a sharp square.

    Args:
        path: ends in .png.
        x: see `image_grid`.
        ncols: see `image_grid`.
        value_range: see `image_grid`.

    Raises:
        ConfigError: for another suffix.
        ArtifactError: if the file cannot be written.
    """
    from PIL import Image

    check_suffix(path, (".png",))
    buffer = io.BytesIO()
    Image.fromarray(_enlarged_grid(x, ncols, value_range)).save(buffer, "PNG", optimize=True)
    write_atomically(path, buffer.getvalue())


def _enlarged_grid(
    x: Data, ncols: int | None, value_range: Range | None, gap: int = _GAP, smooth: bool = False
) -> np.ndarray:
    """`image_grid` of tiles enlarged to about 56 pixels, so that the lines stay thin beside the pixels.

    Each pixel becomes a square; with `smooth`, values between the centres of pixels follow a cubic curve.
    """
    side = min(as_tensor(x).shape[-2:])
    factor = max(1, round(56 / side))
    tiles = to_bytes_range(x, value_range)
    if smooth and side < _SMALL:
        tiles = np.stack([_smoothly_enlarged(tile, factor) for tile in tiles])
    else:
        tiles = tiles.repeat(factor, 1).repeat(factor, 2)
    return image_grid(np.moveaxis(tiles, -1, 1) if tiles.ndim == 4 else tiles, ncols, (0, 255), gap)


def is_smooth(event_shape: Sequence[int]) -> bool:
    """Whether figures enlarge images of that shape smoothly."""
    return min(event_shape[-2:]) < _SMALL


def _smoothly_enlarged(tile: np.ndarray, factor: int) -> np.ndarray:
    """An image of shape (H, W) or (H, W, 3), uint8, whose sides are `factor` times as long."""
    from PIL import Image

    height, width = tile.shape[:2]
    return np.asarray(Image.fromarray(tile).resize((width * factor, height * factor), Image.Resampling.BICUBIC))


def tiles_figure(
    x: Data,
    ncols: int,
    title: str,
    value_range: Range,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    tile_inches: float = 0.62,
    gap: int = _GAP,
    page: float | None = None,
) -> Figure:
    """A figure of image tiles whose size follows from their number, with labels beside rows and above columns.

    Tiles fill a page of that many inches beside their labels, at most. Tiles of few pixels are enlarged smoothly.
    """
    x = as_tensor(x)
    grid = _enlarged_grid(x, ncols, value_range, gap, smooth=True)
    nrows = -(-len(x) // ncols)
    height, width = (grid.shape[0] - gap) / nrows, (grid.shape[1] - gap) / ncols
    beside = 0.085 * max((len(line) for label in row_labels for line in label.split("\n")), default=0)
    size = min(tile_inches, (_MAX_WIDTH if page is None else page - 0.3 - beside) / ncols)
    aspect = grid.shape[0] / grid.shape[1]
    across = max(size * ncols * min(1.0, width / height if width < height else 1.0), 2.0)
    with style.style():
        made = Figure(figsize=(across, across * aspect), dpi=style.DPI)
        axes = made.add_axes((0, 0, 1, 1))
        axes.imshow(grid, cmap="gray", vmin=0, vmax=255, interpolation="none", aspect="auto")
        axes.set_frame_on(False)
        title = title if page is None else style.wrapped(title, page)
        axes.set_title(title, pad=10 if not column_labels else 12, loc="left" if across < 3.2 else "center")
        axes.tick_params(length=0, labeltop=True, labelbottom=False, pad=3)
        centres = [(k + 0.5) * width + gap / 2 - 0.5 for k in range(ncols)]
        axes.set_xticks(centres if column_labels else [], column_labels or None)
        middles = [(k + 0.5) * height + gap / 2 - 0.5 for k in range(nrows)]
        axes.set_yticks(middles if row_labels else [], row_labels or None)
    return made
