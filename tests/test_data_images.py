"""Folders of images: round trips against Pillow, and every kind of damage."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from vaekit.data import Reading, load
from vaekit.errors import DataError, ReadingWarning

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (5, 3, 4, 6), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def test_grey_images_have_one_channel_and_come_sorted(tmp_path):
    grey = BYTES[:, 0]
    for i, name in ((2, "c.png"), (0, "a.bmp"), (1, "b.tiff"), (3, "d.PNG")):
        save(tmp_path / name, grey[i])
    data = load(tmp_path)
    np.testing.assert_array_equal(data.x, grey[:4, None])
    assert (data.kind, data.value_range, data.labels, data.x.dtype) == ("image", (0, 255), None, np.uint8)
    assert (data.name, data.source) == (tmp_path.name, str(tmp_path))
    assert data.x.flags.writeable


def test_one_image_in_colour_makes_three_channels(tmp_path):
    colour = np.ascontiguousarray(BYTES.transpose(0, 2, 3, 1))
    save(tmp_path / "a.png", colour[0])
    save(tmp_path / "b.png", BYTES[1, 0])
    alpha = np.concatenate([colour[2], np.full((4, 6, 1), 7, np.uint8)], axis=-1)
    save(tmp_path / "c.png", alpha)
    Image.fromarray(colour[3]).quantize(256).save(tmp_path / "d.png")  # 24 pixels: the palette holds each colour
    data = load(tmp_path, reading=Reading(alpha="drop"))
    assert data.x.shape == (4, 3, 4, 6)
    np.testing.assert_array_equal(data.x[0], BYTES[0])
    np.testing.assert_array_equal(data.x[1], np.repeat(BYTES[1, :1], 3, axis=0))
    np.testing.assert_array_equal(data.x[2], BYTES[2])
    np.testing.assert_array_equal(data.x[3], BYTES[3])


def test_black_and_white_and_grey_with_alpha_are_grey(tmp_path):
    Image.fromarray(BYTES[0, 0] > 127).save(tmp_path / "a.png")
    save(tmp_path / "b.png", np.stack([BYTES[1, 0], BYTES[2, 0]], axis=-1))
    data = load(tmp_path, reading=Reading(alpha="drop"))
    np.testing.assert_array_equal(data.x[0, 0], (BYTES[0, 0] > 127) * 255)
    np.testing.assert_array_equal(data.x[1, 0], BYTES[1, 0])


def test_subfolders_that_all_hold_images_are_labels(tmp_path):
    for i, name in enumerate(("dog/1.png", "cat/deep/1.png", "cat/2.png", "dog/0.png")):
        save(tmp_path / name, BYTES[i, 0])
    data = load(tmp_path)
    assert data.labels.tolist() == ["cat", "cat", "dog", "dog"]
    np.testing.assert_array_equal(data.x[:, 0], BYTES[[2, 1, 3, 0], 0])
    (tmp_path / "empty").mkdir()
    assert load(tmp_path).labels is None
    (tmp_path / "empty").rmdir()
    save(tmp_path / "top.png", BYTES[4, 0])
    assert load(tmp_path).labels is None


def test_images_of_different_sizes(tmp_path):
    save(tmp_path / "a.png", np.full((4, 6), 10, np.uint8))
    save(tmp_path / "b.png", np.full((5, 7), 20, np.uint8))
    with pytest.raises(DataError, match=r"b\.png has 5 x 7 .*a\.png has 4 x 6\. Resize them: size=\(4, 6\)"):
        load(tmp_path)
    data = load(tmp_path, size=(4, 6))
    assert data.x.shape == (2, 1, 4, 6)
    assert set(data.x[0].flat) == {10}
    assert set(data.x[1].flat) == {20}
    assert load(tmp_path, size=3).event_shape == (1, 3, 3)
    for size in ((4,), (0, 4), (4.5, 4), "4", (1, 2, 3), 10**6):
        with pytest.raises(DataError, match="size must be a height and a width"):
            load(tmp_path, size=size)


def test_images_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    for name in ("a.png", "b.png"):
        save(tmp_path / name, BYTES[0, 0], exif=exif)
    np.testing.assert_array_equal(load(tmp_path).x[0, 0], np.rot90(BYTES[0, 0], -1))


def test_other_files_are_skipped_with_one_warning(tmp_path):
    for i in range(2):
        save(tmp_path / f"{i}.png", BYTES[i, 0])
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.png").write_bytes(b"x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load(tmp_path)) == 2
    for name in ("notes.txt", "vector.eps", "paper.pdf"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.warns(UserWarning, match=r"Skipped 3 file\(s\) in .* that are not images") as caught:
        assert len(load(tmp_path)) == 2
    assert [warning.filename for warning in caught] == [__file__]


def test_folders_without_images_or_with_one(tmp_path):
    with pytest.raises(DataError, match=r"holds no images that Pillow reads \(0 other"):
        load(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"holds no images that Pillow reads \(1 other"):
        load(tmp_path)
    (tmp_path / "a.txt").unlink()
    save(tmp_path / "a.png", BYTES[0, 0])
    np.testing.assert_array_equal(load(tmp_path).x, BYTES[:1, :1])


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tiff", "bmp", "webp"])
def test_a_truncated_image_is_named(tmp_path, suffix):
    noise = RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    save(tmp_path / f"a.{suffix}", noise)
    save(tmp_path / f"b.{suffix}", noise)
    assert load(tmp_path).x.shape == (2, 3, 64, 64)
    whole = (tmp_path / f"b.{suffix}").read_bytes()
    for keep in (0, 10, len(whole) // 2):
        (tmp_path / f"b.{suffix}").write_bytes(whole[:keep])
        with pytest.raises(DataError, match=rf"b\.{suffix}"):
            load(tmp_path)


def test_a_file_that_is_no_image_whatever_its_name(tmp_path):
    save(tmp_path / "a.png", BYTES[0, 0])
    (tmp_path / "b.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 4\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match=r"b\.png is not a readable image \(cannot identify"):
        load(tmp_path)


@pytest.mark.parametrize("limit", [15, 5])  # beyond the limit Pillow warns, beyond twice the limit it raises
def test_an_image_beyond_pillows_limit_is_a_bomb(tmp_path, monkeypatch, limit):
    for name in ("a.png", "b.png"):
        save(tmp_path / name, BYTES[0, 0])  # 24 pixels
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(DataError, match=r"a\.png looks like a decompression bomb"):
        load(tmp_path)


def test_images_of_sixteen_bits_are_refused(tmp_path):
    for name in ("a.png", "b.png"):
        save(tmp_path / name, np.full((4, 4), 40000, np.uint16))
    with pytest.raises(DataError, match=r"more than 8 bits per channel \(mode I;16\).*\.npy"):
        load(tmp_path)


# --- Transparency ----------------------------------------------------------------------------------------------------

DISC = np.add.outer((np.arange(8) - 3.5) ** 2, (np.arange(8) - 3.5) ** 2) < 8
ALPHA = np.where(DISC, 255, 0).astype(np.uint8)
HALF = np.where(DISC, 255, 51).astype(np.uint8)  # a fifth
COLOURS = RNG.integers(0, 256, (8, 8, 3)).astype(np.uint8)


def transparent_image(mode: str) -> tuple[Image.Image, np.ndarray]:
    """An image whose pixels outside the disc are transparent, and its colours, (H, W) or (H, W, 3)."""
    if mode == "P":
        image = Image.fromarray(np.where(DISC, 1, 0).astype(np.uint8), "P")
        image.putpalette([9, 8, 7, 200, 40, 30])
        return image, np.where(DISC[..., None], np.uint8([200, 40, 30]), np.uint8([9, 8, 7]))
    if mode == "RGB":
        colours = np.where(DISC[..., None], np.uint8([200, 40, 30]), np.uint8([1, 2, 3]))
        return Image.fromarray(colours), colours
    if mode == "L":
        grey = np.where(DISC, 200, 7).astype(np.uint8)
        return Image.fromarray(grey), grey
    colours = COLOURS if mode == "RGBA" else COLOURS[..., 0]
    return Image.fromarray(np.dstack([colours, ALPHA])), colours


TRANSPARENT = {"RGBA": None, "LA": None, "P": 0, "RGB": (1, 2, 3), "L": 7}  # to what transparency each has


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("mode", TRANSPARENT)
def test_what_hides_under_transparency_is_no_picture(tmp_path, mode, in_memory):
    image, colours = transparent_image(mode)
    for i in range(3):
        hidden = {} if TRANSPARENT[mode] is None else {"transparency": TRANSPARENT[mode]}
        image.save(tmp_path / f"{i}.png", **hidden)
    colours = colours[..., None] if colours.ndim == 2 else colours
    with pytest.warns(ReadingWarning, match=r"3 image\(s\) in .* \(the first: 0.png\).* over white \(--alpha"):
        data = load(tmp_path, in_memory=in_memory)
    inside = DISC[..., None]
    expected = {"white": np.where(inside, colours, 255), "black": np.where(inside, colours, 0), "drop": colours}
    expected["keep"] = np.concatenate([colours, ALPHA[..., None]], axis=-1)
    np.testing.assert_array_equal(data.x[0], expected["white"].transpose(2, 0, 1))
    assert data.reading.hints == {"alpha": "white"}
    load(tmp_path, in_memory=in_memory, reading=data.reading)  # known already: no notice
    for alpha, pixels in expected.items():
        data = load(tmp_path, in_memory=in_memory, reading=Reading(alpha=alpha))
        assert data.event_shape == (pixels.shape[-1], 8, 8)
        np.testing.assert_array_equal(data.x[1], pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("suffix", ["gif", "png", "tiff", "webp"])
def test_frames_behind_the_first_are_not_dropped_in_silence(tmp_path, suffix, in_memory):
    one, other = (Image.fromarray(RNG.integers(0, 256, (8, 8, 3)).astype(np.uint8)) for _ in range(2))
    kept = {"lossless": True} if suffix == "webp" else {}
    one.save(tmp_path / f"0.{suffix}", **kept)
    one.save(tmp_path / f"1.{suffix}", save_all=True, append_images=[other], **kept)
    with pytest.warns(ReadingWarning, match=rf"1 file\(s\) in .* several frames or pages \(the first: 1\.{suffix}\)"):
        data = load(tmp_path, in_memory=in_memory)
    np.testing.assert_array_equal(data.x[0], data.x[1])


def test_half_transparent_pixels_are_mixed(tmp_path):
    save(tmp_path / "a.png", np.dstack([COLOURS, HALF]))
    for alpha, ground in (("white", 255), ("black", 0)):
        share = HALF[..., None] / 255
        expected = share * COLOURS + (1 - share) * ground
        x = load(tmp_path, reading=Reading(alpha=alpha)).x[0]
        assert np.abs(x - expected.transpose(2, 0, 1)).max() <= 1


@pytest.mark.parametrize("in_memory", [True, False])
def test_an_alpha_that_is_kept_beside_images_without_one(tmp_path, in_memory):
    save(tmp_path / "a.png", COLOURS[..., 0])
    save(tmp_path / "b.png", np.dstack([COLOURS[..., 0], ALPHA]))
    data = load(tmp_path, in_memory=in_memory, reading=Reading(alpha="keep"))
    np.testing.assert_array_equal(data.x[0], [COLOURS[..., 0], np.full((8, 8), 255)])
    np.testing.assert_array_equal(data.x[1], [COLOURS[..., 0], ALPHA])
    save(tmp_path / "c.png", COLOURS)
    data = load(tmp_path, in_memory=in_memory, reading=Reading(alpha="keep"))
    np.testing.assert_array_equal(data.x[1], [*[COLOURS[..., 0]] * 3, ALPHA])
    np.testing.assert_array_equal(data.x[2], [*COLOURS.transpose(2, 0, 1), np.full((8, 8), 255)])


def test_an_opaque_alpha_needs_no_notice(tmp_path):
    save(tmp_path / "a.png", np.dstack([COLOURS, np.full((8, 8), 255, np.uint8)]))
    data = load(tmp_path)
    np.testing.assert_array_equal(data.x[0], COLOURS.transpose(2, 0, 1))
    assert data.reading == Reading()


# --- More than eight bits --------------------------------------------------------------------------------------------


def png_of_sixteen_bits(path: Path, pixels: np.ndarray) -> None:
    """A PNG of (H, W, C) numbers of 16 bits: Pillow cannot write those of several channels."""
    height, width, channels = pixels.shape

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def tiff_of_sixteen_bits(path: Path, pixels: np.ndarray) -> None:
    """An uncompressed TIFF of (H, W, 3) numbers of 16 bits."""
    height, width, channels = pixels.shape
    content = pixels.astype("<u2").tobytes()
    bits = 8 + len(content)
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, channels, bits), (259, 3, 1, 1), (262, 3, 1, 2)]
    tags += [(273, 4, 1, 8), (277, 3, 1, channels), (278, 4, 1, height), (279, 4, 1, len(content))]
    folder = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + struct.pack("<I", 0)
    start = struct.pack("<I", bits + 2 * channels)
    path.write_bytes(b"II*\0" + start + content + struct.pack(f"<{channels}H", *[16] * channels) + folder)


def ppm_of_sixteen_bits(path: Path, pixels: np.ndarray) -> None:
    """A PPM of (H, W, 3) numbers of up to 1000."""
    height, width, _ = pixels.shape
    path.write_bytes(f"P6 {width} {height} 1000\n".encode() + pixels.astype(">u2").tobytes())


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(
    ("name", "channels", "write"),
    [
        ("grey.png", 1, png_of_sixteen_bits),
        ("grey-alpha.png", 2, png_of_sixteen_bits),
        ("colour.png", 3, png_of_sixteen_bits),
        ("colour-alpha.png", 4, png_of_sixteen_bits),
        ("colour.tif", 3, tiff_of_sixteen_bits),
        ("colour.ppm", 3, ppm_of_sixteen_bits),
    ],
)
def test_colours_of_sixteen_bits_are_not_cut_to_eight(tmp_path, name, channels, write, in_memory):
    for i in range(2):
        write(tmp_path / f"{i}{name}", RNG.integers(0, 1000, (8, 8, channels)).astype(np.uint16))
    with pytest.raises(DataError, match=rf"0{name} has more than 8 bits per channel .* store all images in one \.npy"):
        load(tmp_path, in_memory=in_memory)


@pytest.mark.skipif(not features.check("jpg_2000"), reason="this Pillow reads no JPEG 2000")
def test_a_depth_that_only_a_decoder_sees(tmp_path):
    path, marker = tmp_path / "a.jp2", b"\xff\x4f\xff\x51"
    save(path, RNG.integers(0, 256, (16, 16, 3)).astype(np.uint8))
    assert load(tmp_path).event_shape == (3, 16, 16)
    content = bytearray(path.read_bytes())
    content[content.index(marker) + 42] = 11  # 12 bits
    path.write_bytes(content)
    with pytest.raises(DataError, match="more than 8 bits per channel"):
        load(tmp_path)
