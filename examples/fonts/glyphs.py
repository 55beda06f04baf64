"""Glyphs of the system's fonts as bits: which fonts there are, which draw the same, and which are held out."""

import hashlib
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

SIDE = 32
_SCALE = 4  # glyphs are drawn so much larger, changed there, and made small by averaging
_MARGIN = 1
_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts", "/Library/Fonts")
_WEIGHTS = (
    "thin hairline extralight ultralight light demilight semilight book regular roman normal medium demibold semibold "
    "demi bold extrabold ultrabold black heavy ultra fat italic oblique slanted condensed semicondensed narrow "
    "extended expanded wide compressed extra semi med cond lt bd std pro otf ttf"
)
_SAME, _RELATED = 0.03, 0.1  # share of differing ink: of copies, and of families that are one design
_UNLIKE = 0.35  # least correlation with the median font: dingbats, maps and bar codes are no letters

LATIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# Frequent characters of which Big5, GB 2312 and JIS X 0208 have the same form; kept so by `chinese`.
_FREQUENT = (
    "的一是不了在人有我他中上大和地到以要就出可也你生能而子得下自之年作里用道行所然家事成方多如都同起看天分小部其些主"
    "心她本前但因只想日者意力十民第公此已工使情明性知全三又正外向文美相利二等新己制身果加西月合回特代内信化老世位次度"
    "任常先海通教原立提及比水名真走各入口平太量再感建必件直命山金指至形社便空治司五基眼放光强即像王象完式色路住告求"
    "北安少百反目元女四神何早高兵令石田古立音青草林花羊米竹血車足身里雨食黑白赤火土木左右手耳刀牛犬王玉糸虫夕男字"
    "村町父母兄弟姉妹友半南北春夏秋冬朝夜今週毎市京国東京谷岩池汁汗忙怒忍思恩悲愁志忘念息悟慰悔恨情感意愛"
)


def chinese(count: int = 100) -> str:
    """The first of the frequent characters that all three of the East's old codes have."""
    found: list[str] = []
    for character in _FREQUENT:
        try:
            for code in ("big5", "gb2312", "shift_jis"):
                character.encode(code)
        except UnicodeEncodeError:
            continue
        if character not in found:
            found.append(character)
    return "".join(found[:count])


@dataclass(frozen=True)
class FontFile:
    """A face of a font file, and the name of its family without words of weight and width."""

    path: str
    index: int
    family: str


@dataclass(frozen=True)
class Style:
    """What a copy of a font changes, so that training sees more styles than there are fonts.

    Attributes:
        slant: shear of the letters.
        width: factor of their width.
        stroke: pixels added to each stroke, on either side, in the large drawing.
    """

    slant: float = 0.0
    width: float = 1.0
    stroke: int = 0


PLAIN = Style()


def family_of(name: str) -> str:
    """A family's name without words of weight and width: "Lato Semibold" and "Lato" are one family."""
    weights = set(_WEIGHTS.split())
    words = [word for word in re.split(r"[\s\-_,]+", name.replace("\\", "")) if word.lower() not in weights]
    return " ".join(words) or name


def font_files(folders: Iterable[str | Path] | None = None) -> list[FontFile]:
    """The faces of the system's fonts: as fontconfig lists them, otherwise by walking the usual folders."""
    if folders is None and shutil.which("fc-list"):
        command = ["fc-list", "--format", "%{file}\t%{index}\t%{family[0]}\n"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        rows = [line.split("\t") for line in listed]
        found = [FontFile(path, int(index), family_of(name)) for path, index, name in rows]
        faces = [face for face in found if face.index < 2**16]  # beyond lie the instances of variable fonts
    else:
        roots = [Path(folder).expanduser() for folder in (_FOLDERS if folders is None else folders)]
        paths = [path for root in roots if root.is_dir() for path in root.rglob("*")]
        faces = [FontFile(str(path), 0, "") for path in paths if path.is_file()]
    return sorted(
        (face for face in faces if face.path.lower().endswith((".ttf", ".otf", ".ttc", ".otc"))),
        key=lambda face: (face.path, face.index),
    )


class Face:
    """A font at the size at which its characters fill a square.

    Args:
        file: where it is.
        characters: what it must have; `fits_each` centres each character and lets the tallest fill the square, as for
            letters; otherwise all keep their place in the square of the font, as Chinese characters do.
        fits_each: see above.

    Raises:
        OSError, ValueError: if it cannot be read, or lacks too many of the characters.
    """

    def __init__(self, file: FontFile, characters: str, fits_each: bool) -> None:
        known = FT2Font(file.path).get_charmap()
        self.has = [ord(character) in known for character in characters]
        if sum(self.has) < (len(characters) if fits_each else 0.9 * len(characters)):
            raise ValueError(f"{file.path} lacks characters")
        self.characters, self.fits_each = characters, fits_each
        self.canvas, room = SIDE * _SCALE, (SIDE - 2 * _MARGIN) * _SCALE
        font = ImageFont.truetype(file.path, self.canvas, index=file.index, layout_engine=ImageFont.Layout.BASIC)
        self.family = file.family or family_of(font.getname()[0] or Path(file.path).stem)
        boxes = np.array([font.getbbox(c, anchor="ls") for c, has in zip(characters, self.has, strict=True) if has])
        width, top, bottom = (boxes[:, 2] - boxes[:, 0]), boxes[:, 1].min(), boxes[:, 3].max()
        if (width <= 0).any() or bottom <= top:
            raise ValueError(f"{file.path} has empty glyphs")
        span = width.max() if fits_each else boxes[:, 2].max() - boxes[:, 0].min()
        size = max(1, int(self.canvas * min(room / (bottom - top), room / span)))
        self.font = ImageFont.truetype(file.path, size, index=file.index, layout_engine=ImageFont.Layout.BASIC)
        scale = size / self.canvas
        self.baseline = (self.canvas - (bottom - top) * scale) / 2 - top * scale
        self.left = (self.canvas - (boxes[:, 2].max() + boxes[:, 0].min()) * scale) / 2

    def bits(self, style: Style = PLAIN, of: slice = slice(None)) -> np.ndarray:
        """Its characters, or some of them, 1 for ink, shape (L, SIDE, SIDE) in float32; NaN where it lacks one."""
        pairs = list(zip(self.characters, self.has, strict=True))[of]
        return np.stack([self._bits(c, style) if has else _ABSENT for c, has in pairs])

    def _bits(self, character: str, style: Style) -> np.ndarray:
        left = self.left
        if self.fits_each:
            box = self.font.getbbox(character, anchor="ls")
            left = (self.canvas - box[2] - box[0]) / 2
        image = Image.new("L", (self.canvas, self.canvas))
        draw = ImageDraw.Draw(image)
        draw.text((left, self.baseline), character, fill=255, font=self.font, anchor="ls", stroke_width=style.stroke)
        if style.slant or style.width != 1:
            middle = self.canvas / 2
            shear = style.slant / style.width
            matrix = (1 / style.width, shear, middle - middle / style.width - shear * middle, 0, 1, 0)
            image = image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
        grey = np.asarray(image.reduce(_SCALE), np.float32)
        return (grey >= 115).astype(np.float32)


_ABSENT = np.full((SIDE, SIDE), np.nan, np.float32)


@dataclass(frozen=True)
class Fonts:
    """Fonts of which none draws as another.

    Attributes:
        faces: the fonts.
        bits: their glyphs, shape (N, L, SIDE, SIDE).
        families: name of the family of each; families that draw alike have one name.
        held_out: which fonts are held out, shape (N,), bool.
        characters: the L characters.
    """

    faces: list[Face]
    bits: np.ndarray
    families: list[str]
    held_out: np.ndarray
    characters: str


def collect(
    characters: str, fits_each: bool = True, most: int = 6, files: Sequence[FontFile] | None = None, share: float = 0.25
) -> Fonts:
    """The fonts that have the characters, at most so many of a family, and a share of the families held out.

    The families are held out in the order of a hash of their names.
    """
    faces, glyphs, seen = [], [], set()
    for file in font_files() if files is None else files:
        try:
            face = Face(file, characters, fits_each)
            first = face.bits(of=slice(0, None, 16)).tobytes()
            if first in seen:
                continue
            seen.add(first)
            bits = face.bits()
        except (OSError, ValueError, RuntimeError):
            continue
        if np.nan_to_num(bits).mean((1, 2)).min() > 0.005 or not fits_each:
            faces.append(face)
            glyphs.append(bits)
    if not faces:
        return Fonts([], np.zeros((0, len(characters), SIDE, SIDE), np.float32), [], np.zeros(0, bool), characters)
    return _selected(faces, np.stack(glyphs), characters, most, share)


def _selected(faces: list[Face], bits: np.ndarray, characters: str, most: int, share: float) -> Fonts:
    flat = np.nan_to_num(bits, nan=0.0).reshape(len(bits), -1)
    middle = (flat.mean(0) >= 0.5).astype(np.float32) - flat.mean()
    likeness = ((flat - flat.mean(1, keepdims=True)) @ middle) / (
        flat.std(1) * np.linalg.norm(middle) * flat.shape[1] ** 0.5
    )
    distance = _distances(flat)
    kept: list[int] = []
    for i in np.flatnonzero(likeness > _UNLIKE):
        if not kept or distance[i, kept].min() > _SAME:
            kept.append(int(i))
    names = _joined([faces[i].family for i in kept], distance[np.ix_(kept, kept)])
    by_family: dict[str, list[int]] = defaultdict(list)
    for i, name in zip(kept, names, strict=True):
        by_family[name].append(i)
    order = sorted(by_family, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    out = set(order[: -(-int(share * 100) * len(order) // 100)])
    chosen = [(i, name) for name in order for i in _spread(by_family[name], most)]
    numbers = [i for i, _ in chosen]
    return Fonts(
        [faces[i] for i in numbers],
        bits[numbers],
        [name for _, name in chosen],
        np.array([name in out for _, name in chosen]),
        characters,
    )


def _distances(flat: np.ndarray) -> np.ndarray:
    """Pixels that differ between two fonts, as a share of the ink of both, shape (N, N)."""
    ink = flat.sum(1)
    return 1 - 2 * (flat @ flat.T) / (ink[:, None] + ink[None])


def _joined(names: list[str], distance: np.ndarray) -> list[str]:
    """Families of which some fonts draw alike get the first of their names in alphabetical order."""
    root = {name: name for name in names}

    def find(name: str) -> str:
        while root[name] != name:
            name = root[name]
        return name

    for i, j in np.argwhere(np.triu(distance < _RELATED, 1)):
        a, b = sorted((find(names[i]), find(names[j])))
        root[b] = a
    return [find(name) for name in names]


def _spread(items: list[int], most: int) -> list[int]:
    """At most so many of the items, evenly spread."""
    places = np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int))
    return [items[i] for i in places]
