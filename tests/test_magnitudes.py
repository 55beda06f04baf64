"""Numbers of any size: what float32 does not hold is named, with the transform that mends it, which mends it."""

import math

import numpy as np
import pytest
import torch

import vaekit as vk
from vaekit import cli
from vaekit.errors import DataError, TrainingError

Z = np.random.default_rng(0).normal(size=(300, 4))
SIZES = {
    "1e6": 1e6,
    "1e30": 1e30,
    "1e-30": 1e-30,
    "1e-50": 1e-50,
    "1e200": 1e200,
    "1e-200": 1e-200,
    "1e300": 1e300,
    "mixed": np.array([1, 1e-8, 1e8, 1e15]),
}
OFFSETS = {"seconds of one minute": (1.7e9 + 3, 17.0), "thousandths of a million": (1e6, 1e-3)}


def fit(x, transform=None):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, objective = vk.presets.vae((4,), latent_dim=2, hidden=(8,), likelihood="normal", transform=transform)
    vk.Trainer(max_epochs=2, progress=False).fit(model, objective, x)
    return model


def log_p(model, x):
    noise = torch.Generator().manual_seed(0)
    return vk.evaluation.log_marginal(model, x, num_samples=20, generator=noise).value


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_standardised_rows_have_the_density_of_their_own_units(size, tmp_path):
    """log p(s z) = log p(z) - sum log s, whatever the scale s."""
    plain, scaled = (fit(x, vk.transforms.Standardize(4).fit(x)) for x in (Z, Z * size))
    expected = log_p(plain, Z) - np.broadcast_to(np.log(size), 4).sum()
    torch.testing.assert_close(log_p(scaled, Z * size), expected, atol=2e-3, rtol=1e-6)
    vk.save(scaled, tmp_path / "run")
    assert torch.equal(log_p(vk.load(tmp_path / "run"), Z * size), log_p(scaled, Z * size))


@pytest.mark.parametrize(("offset", "spread"), OFFSETS.values(), ids=OFFSETS)
def test_an_offset_takes_nothing_from_the_density(offset, spread, tmp_path):
    x = offset + Z * spread
    model, plain = (fit(rows, vk.transforms.Standardize(4).fit(rows)) for rows in (x, x - offset))
    torch.testing.assert_close(log_p(model, x), log_p(plain, x - offset), atol=1e-3, rtol=0)
    vk.save(model, tmp_path / "run")
    assert torch.equal(log_p(vk.load(tmp_path / "run"), x), log_p(model, x))


MEND = r"Standardise them: VAE\(\.\.\., transform=vaekit\.transforms\.Standardize\(4\)\.fit\(x\)\)"
REFUSED = {
    "beyond": (
        Z * 1e200,
        DataError,
        rf"train has finite numbers beyond those of torch.float32 .* at \(0, 0\)\. {MEND}",
    ),
    "one of them": (
        np.where(np.arange(1200).reshape(300, 4) == 230, 1e39, Z),
        DataError,
        r"such as 1e\+39 at \(57, 2\)",
    ),
    "below": (
        Z * 1e-50,
        DataError,
        rf"4 columns whose values torch.float32 does not tell apart, the first at 0.*{MEND}",
    ),
    "far below": (Z * 1e-200, DataError, "4 columns whose values torch.float32 does not tell apart"),
    "an offset": (
        Z + np.array([0, 0, 1e9, 0]),
        DataError,
        r"1 columns .* the first at 2: they are 1e\+09 give or take",
    ),
    "whole numbers": (
        1_700_000_000 + (Z * 9).astype(np.int64),
        DataError,
        r"the first at 0: they are 1\.7e\+09 give or take",
    ),
    "large": (Z * 1e6, TrainingError, rf"numbers up to 2\.\d+e\+06 \(element \d of a row\).*{MEND}"),
    "very large": (Z * 1e30, TrainingError, MEND),
    "a large column": (Z * [1, 1, 1e15, 1], TrainingError, r"\(element 2 of a row\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_model_cannot_hold_is_named_with_the_way_out(name):
    x, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message) as caught:
        fit(x)
    assert "infinite" not in str(caught.value)
    assert "posterior overflowed" not in str(caught.value)


def test_rows_that_are_almost_alike_are_answered_as_each_alone():
    """A request may hold two rows that differ beyond the digits of float32; the fit has set the scale."""
    run = vk.runs.fit_rows(vk.data.Dataset(Z, kind="table"), {"max_epochs": 1, "hidden": (4,), "compile": "off"})
    rows = np.stack([Z[0], Z[0] + [1e-9, 0, 0, 0]])
    found = run.score(rows).values
    alone = np.concatenate([run.score(row[None]).values for row in rows])
    np.testing.assert_allclose(found[:, 0], alone[:, 0], rtol=1e-5)


def test_rows_that_float64_weights_hold_are_taken():
    with torch.random.fork_rng():
        model, _ = vk.presets.vae((4,), latent_dim=2, hidden=(8,), likelihood="normal")
    model.double()
    assert model.encode(Z * 1e-50).dtype == torch.float64


def test_a_constant_column_or_a_single_row_is_no_lost_column():
    with torch.random.fork_rng():
        model, _ = vk.presets.vae((4,), latent_dim=2, hidden=(8,), likelihood="normal")
    constant = Z.copy()
    constant[:, 1] = 0.1  # no number of float32
    constant[:, 2] = np.nextafter(0.1, Z[:, 0])  # constant to rounding
    assert model.encode(constant).shape == (300, 2)
    assert model.encode(np.full((1, 4), 0.1)).shape == (1, 2)


def test_the_command_line_takes_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, size in (("small", 1e-50), ("large", 1e200)):
        np.save(f"{name}.npy", Z * size)
        assert cli.run(["fit", f"{name}.npy", "-o", name, "max_epochs=20", "hidden=16", "--quiet"]) == 0
        assert cli.run(["score", name, "-o", f"{name}-scores.npy"]) == 0
        gaussian = -4 * (0.5 * math.log(2 * math.pi) + 0.5) - np.log(Z.std(0)).sum() - 4 * math.log(size)
        assert np.load(f"{name}-scores.npy")[:, 0].mean() == pytest.approx(gaussian, abs=0.5)
