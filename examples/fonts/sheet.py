"""The sheet: glyphs that are given, and the others as the model makes them, above the truth."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

import vaekit as vk
from examples.fonts.glyphs import SIDE, Fonts
from examples.fonts.measure import given, order, told

_GAP = 2
_COLOURS = 64  # of the file: a third of its size
_GIVEN = (255, 236, 200)  # paper of given glyphs
_TRUTH = (226, 236, 250)  # of the truth


def _tile(bits: np.ndarray, paper: tuple[int, int, int]) -> np.ndarray:
    """Ink from 0 to 1, shape (SIDE, SIDE), on paper of a colour, with a gap around."""
    ink = np.nan_to_num(bits)[..., None]
    cell = np.full((SIDE + _GAP, SIDE + _GAP, 3), 255.0)
    cell[:SIDE, :SIDE] = (1 - ink) * np.array(paper, float)
    return cell


def draw(
    model: vk.VAE, fonts: Fonts, path: str | Path, *, num_fonts: int = 10, num_given: int = 5, seed: int = 0
) -> None:
    """Write the sheet: fonts of different held-out families in the order of their hash, none chosen by hand.

    Each font has two lines: five given glyphs and what the model makes of the others, and below these the truth.
    """
    first: dict[str, int] = {}
    for i in np.flatnonzero(fonts.held_out):
        first.setdefault(fonts.families[i], int(i))
    numbers = list(first.values())[:num_fonts]
    rows = torch.from_numpy(fonts.bits[numbers])
    orders = order(rows.shape[1], len(rows), seed)
    made = told(model, given(rows, orders[:, :num_given]), seed).numpy()
    lines = []
    for row, mean, places in zip(rows.numpy(), made, orders.numpy(), strict=True):
        shown, others = np.sort(places[:num_given]), np.sort(places[num_given : num_given + 26])
        blank = np.full((SIDE + _GAP, SIDE // 4, 3), 255.0)
        left = [_tile(row[i], _GIVEN) for i in shown]
        above = [*left, blank, *(_tile(mean[i], (255, 255, 255)) for i in others)]
        below = [*(np.full_like(tile, 255.0) for tile in left), blank, *(_tile(row[i], _TRUTH) for i in others)]
        lines += [np.concatenate(above, 1), np.concatenate(below, 1), np.full((6, _width(above), 3), 255.0)]
    whole = Image.fromarray(np.concatenate(lines).round().astype(np.uint8))
    whole.quantize(_COLOURS).save(path, "PNG", optimize=True)


def _width(tiles: list[np.ndarray]) -> int:
    """How wide tiles are side by side."""
    return sum(tile.shape[1] for tile in tiles)
