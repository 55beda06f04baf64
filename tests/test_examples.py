"""The examples run, and learn something."""

import json
import runpy
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

import vaekit as vk

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
sys.path.insert(0, str(ROOT))  # the folder beside the library is no installed package

from examples.fonts import __main__ as fonts_program  # noqa: E402
from examples.fonts import glyphs, measure, model  # noqa: E402


def load(name):
    return runpy.run_path(str(EXAMPLES / name))["main"]


def test_every_example_is_tested():
    tested = {"custom_network.py", "bare_loop.py", "model_from_elsewhere.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested


def test_custom_network():
    """64 pixels of 17 levels: a uniform guess has log p = -64 log 17 = -181."""
    assert load("custom_network.py")(max_epochs=4) > -160


def test_bare_loop():
    """The truth is a normal of covariance W W^T + 0.04 I; a flexible model passes it a little on its training rows."""
    generator = torch.Generator().manual_seed(0)
    z, w = torch.randn(1000, 2, generator=generator), torch.randn(2, 10, generator=generator)
    x = z @ w + 0.2 * torch.randn(1000, 10, generator=generator)
    truth = torch.distributions.MultivariateNormal(torch.zeros(10), w.T @ w + 0.04 * torch.eye(10))
    best = float(truth.log_prob(x).mean())
    assert best - 1 < load("bare_loop.py")(num_steps=1200) < best + 0.3


@pytest.mark.filterwarnings("ignore::vaekit.errors.UnreliableEstimateWarning")
def test_model_from_elsewhere():
    """Its own program's loss is minus the ELBO: 64 pixels by a uniform guess have 44.4 nats."""
    losses, bound, estimate = load("model_from_elsewhere.py")(num_steps=600)
    error = (float(losses.var()) / len(losses) + bound.mean_stderr**2) ** 0.5
    assert abs(float(losses.mean()) + bound.mean) < 4 * error < 0.1
    assert -25 < bound.mean < estimate.mean < -17


# --- A style from few glyphs -----------------------------------------------------------------------------------------

BUNDLED = Path(matplotlib.get_data_path(), "fonts/ttf")  # of matplotlib: on every machine
RECORDS = sorted((EXAMPLES / "records").glob("fonts-*.json"))


@pytest.fixture(scope="module")
def bundled():
    """The few fonts that come with matplotlib, half of their families held out."""
    fonts = glyphs.collect(glyphs.LATIN, files=glyphs.font_files([BUNDLED]), share=0.5)
    if len(fonts.faces) < 6 or not 0 < fonts.held_out.sum() < len(fonts.faces):
        pytest.skip(f"needs six fonts of two families; matplotlib brings {len(fonts.faces)}")
    return fonts


def test_no_family_is_on_both_sides(bundled):
    trained, out = (
        {f for f, h in zip(bundled.families, bundled.held_out, strict=True) if h == side} for side in (0, 1)
    )
    assert trained
    assert out
    assert not trained & out
    assert bundled.bits.shape[1:] == (52, glyphs.SIDE, glyphs.SIDE)
    assert set(np.unique(bundled.bits)) == {0, 1}
    assert len(np.unique(bundled.bits.reshape(len(bundled.bits), -1), axis=0)) == len(bundled.bits)


def test_words_of_weight_and_width_are_no_part_of_a_family():
    assert glyphs.family_of("Noto Sans Condensed ExtraLight") == glyphs.family_of("Noto Sans") == "Noto Sans"
    assert glyphs.family_of("Black") == "Black"
    names = ["A", "B", "B", "C"]
    distance = np.ones((4, 4))
    distance[0, 2] = distance[2, 0] = 0.01
    assert glyphs._joined(names, distance) == ["A", "A", "A", "C"]


def test_a_slanted_copy_leans_and_a_bold_one_has_more_ink(bundled):
    face = bundled.faces[0]
    plain, bold = face.bits(), face.bits(glyphs.Style(stroke=2))
    assert bold.sum() > 1.1 * plain.sum()
    slanted = face.bits(glyphs.Style(slant=0.4))[glyphs.LATIN.index("l")]
    upright = plain[glyphs.LATIN.index("l")]

    def lean(bits):
        rows, columns = np.nonzero(bits)
        return np.polyfit(rows, columns, 1)[0]

    assert lean(slanted) < lean(upright) - 0.25


def test_chinese_characters_are_of_all_three_codes():
    characters = glyphs.chinese()
    assert len(set(characters)) == len(characters) == 100
    for code in ("big5", "gb2312", "shift_jis"):
        characters.encode(code)


def test_standard_errors_over_fonts_and_families():
    """Families of one font: both agree. Families of equal fonts: as many values as families."""
    values = torch.tensor([1.0, 2.0, 4.0, 9.0])
    of_fonts, of_families = measure.stderr_over(values, list("abcd"))
    assert of_fonts == of_families == pytest.approx(float(values.std() / 2))
    _, of_families = measure.stderr_over(values.repeat_interleave(3), list("aaabbbcccddd"))
    assert of_families == pytest.approx(float(values.std() / 2))


def test_fonts_train_measure_and_draw(bundled, tmp_path):
    record = fonts_program.run(
        "latin", 0.02, 0, str(tmp_path / "sheet.png"), bundled, fewest=6, hidden=32, copies=1, num_targets=1, at_most=3
    )
    json.dumps(record)
    assert record["num_training_rows"] == 2 * (record["num_fonts"] - record["num_held_out_fonts"])
    assert set(record["log_p"]) == {"0", "1", "5"}
    for step, (a, b) in {"0 to 1": "01", "1 to 5": "15"}.items():
        expected = record["log_p"][b]["value"] - record["log_p"][a]["value"]
        assert record["rise"][step]["value"] == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert "nearest training font" in fonts_program.table(record)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 31 * glyphs.SIDE


def test_log_p_of_a_glyph_given_others_is_a_difference_of_two_bounds(bundled):
    """Without a glyph given it is log p of the glyph alone; with an untrained q of N(0, I) none tells another."""
    with vk.engine.seeded(0):
        vae = model.autoencoder(52, glyphs.SIDE, 16).eval()
    rows = torch.from_numpy(bundled.bits[:3])
    orders = measure.order(52, 3, 0)
    assert torch.equal(orders.sort(1).values, torch.arange(52).expand(3, -1))
    few = measure.given(rows, orders[:, :2])
    assert torch.equal((~few.isnan()).any(-1).any(-1).sum(1), torch.full((3,), 2))
    values, doubtful = measure.log_p(vae, rows, orders, 1, 0)
    assert set(values) == set(doubtful) == {0, 1, 5}
    alone = measure.given(rows, orders[:, 5:6])
    expected = vk.evaluation.log_marginal(vae, alone, num_samples=2000, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(values[0], expected.value, rtol=0.01, atol=0.5)


def test_too_few_fonts_exit_with_the_packages_that_are_wanted(bundled, tmp_path):
    with pytest.raises(SystemExit, match=r"needs 100\. On Debian: apt-get install fonts-adf"):
        fonts_program.run("latin", 1.0, 0, str(tmp_path / "sheet.png"), bundled)


@pytest.mark.parametrize("words", [["--minutes", "0"], ["-o", "no/such/folder/sheet.png"], ["--script", "runes"]])
def test_words_that_make_no_sense_exit_before_anything_is_trained(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        fonts_program.main(words)
    assert stopped.value.code == 2
    assert "usage: python -m examples.fonts" in capsys.readouterr().err


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_records_of_fonts_hold_what_the_page_says(path):
    """The mean follows the style: each given glyph lowers its error, far below that of the nearest training font."""
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["num_held_out_families"] >= record["num_families"] / 5
    assert record["num_fonts"] >= fonts_program.FEWEST[record["script"]]
    assert record["train_cpu_seconds"] < 2 * 15 * 60
    errors = [record["squared_error"][m]["mean"]["value"] for m in "015"]
    assert errors[0] > errors[1] > errors[2]
    for m in "15":
        gain = record["squared_error"][m]["gain"]
        assert gain["value"] > 2 * max(gain["stderr"], gain["stderr_over_families"])
