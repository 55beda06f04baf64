"""Transforms: inverses, Jacobians against autograd, dequantisation as a bound, binarisation as a mass."""

import math
import warnings

import numpy as np
import pytest
import torch
from components import TRANSFORMS, rows
from scipy import stats
from torch.distributions import Normal

from vaekit.errors import ConfigError, DataError, SupportError
from vaekit.transforms import Binarize, Compose, Dequantize, Logit, Scale, Standardize
from vaekit.transforms.binarize import content_noise

F64 = torch.float64

BIJECTIONS = [(name, factory) for name, factory in rows(TRANSFORMS) if name not in ("Binarize", "Dequantize")]
BIJECTIONS.append(("Compose", lambda: Compose([Standardize(3).fit(torch.randn(9, 3)), Scale(-50.0, 60.0), Logit()])))


@pytest.mark.parametrize(("name", "factory"), BIJECTIONS)
def test_inverse_and_jacobian(name, factory):
    transform = factory().double()
    x = torch.rand(5, 3, dtype=F64)
    y, log_det = transform.with_log_det(x)
    assert y.dtype == log_det.dtype == F64
    assert log_det.shape == (5,)
    torch.testing.assert_close(transform.inverse(y), x, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(transform.inverse(y.expand(2, 5, 3))[1], x, rtol=1e-10, atol=1e-10)
    for row in range(5):
        jacobian = torch.autograd.functional.jacobian(lambda r: transform(r[None])[0], x[row])
        torch.testing.assert_close(log_det[row], torch.linalg.slogdet(jacobian)[1], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(transform.log_abs_det_jacobian(x, y), log_det)
    other = factory().double()
    other.load_state_dict(transform.state_dict())
    assert torch.equal(other(x), y)


def test_events_of_several_dimensions_and_bytes():
    images = torch.randint(0, 256, (4, 2, 3, 3), dtype=torch.uint8)
    y, log_det = Compose([Scale(0, 255), Logit()]).with_log_det(images)
    assert y.shape == images.shape
    assert y.dtype == torch.float32
    one = Compose([Scale(0, 255), Logit()]).with_log_det(images.flatten(1))[1]
    torch.testing.assert_close(log_det, one)


@pytest.mark.parametrize(("transform", "width"), [(Scale(0, 255), 255), (Dequantize(256), 256)])
def test_integers_have_the_log_det_of_equal_floats(transform, width):
    images = torch.randint(0, 256, (4, 2, 3), dtype=torch.uint8)
    for x in (images, images.float()):
        torch.testing.assert_close(transform.with_log_det(x)[1], torch.full((4,), -6 * math.log(width)))


def test_the_log_det_leaves_out_what_is_missing():
    x = torch.tensor([[0.2, torch.nan, 0.7], [torch.nan] * 3])
    for transform, expected in ((Logit(), Logit().with_log_det(x[:1, ::2])[1]), (Scale(0, 2), -2 * math.log(2))):
        log_det = transform.with_log_det(x)[1]
        torch.testing.assert_close(log_det, torch.tensor([float(expected), 0.0]))


def test_a_density_behind_the_logit_integrates_to_the_mass_of_the_reachable_interval():
    x = ((torch.arange(20_000, dtype=F64) + 0.5) / 20_000).unsqueeze(1)
    y, log_det = Logit(0.05).with_log_det(x)
    density = stats.norm.logpdf(y.squeeze(1).numpy()) + log_det.numpy()
    end = math.log(0.95 / 0.05)
    np.testing.assert_allclose(np.exp(density).mean(), stats.norm.cdf(end) - stats.norm.cdf(-end), rtol=1e-6)


# --- Standardize -----------------------------------------------------------------------------------------------------


def test_standardize_gives_mean_zero_and_deviation_one_over_the_observed():
    x = torch.randn(200, 3, dtype=F64) * torch.tensor([1.0, 50.0, 1e-3], dtype=F64) + 7
    x[::3, 1] = torch.nan
    transform = Standardize(3).double().fit(x)
    y, log_det = transform.with_log_det(x)
    torch.testing.assert_close(y.nanmean(0), torch.zeros(3, dtype=F64), rtol=0, atol=1e-10)
    for column in range(3):
        values = y[:, column][~y[:, column].isnan()]
        np.testing.assert_allclose(values.std(correction=0).item(), 1.0, rtol=1e-10)
    scales = transform.scale.log()
    torch.testing.assert_close(log_det[1], -scales.sum())
    torch.testing.assert_close(log_det[0], -(scales[0] + scales[2]))  # no Jacobian for what was not observed


def test_constant_columns_warn_and_stay():
    x = torch.cat([torch.randn(20, 1), torch.full((20, 1), 3.0)], 1)
    with pytest.warns(UserWarning, match=r"1 columns never change \(the first: \[1\]\)"):
        transform = Standardize(2).fit(x)
    assert transform(x)[:, 1].tolist() == [0.0] * 20
    assert transform.scale[1] == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Standardize(1).fit(torch.randn(20, 1) * 1e-6 + 1)


def test_a_column_without_values_is_refused():
    with pytest.raises(DataError, match="1 columns have no observed value"):
        Standardize(2).fit(torch.tensor([[1.0, torch.nan], [2.0, torch.nan]]))


# --- Dequantize ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("levels", [2, 16, 256])
def test_the_floor_recovers_the_integers(dtype, levels):
    x = torch.arange(levels).repeat(500).to(dtype).unsqueeze(1)
    transform = Dequantize(levels)
    y, log_det = transform.with_log_det(x)
    assert bool(((y >= 0) & (y < 1)).all())
    assert torch.equal(transform.inverse(y).to(dtype), x)
    torch.testing.assert_close(log_det, torch.full_like(log_det, -math.log(levels)))
    noise = (y * levels - x.to(y.dtype)).flatten()
    assert stats.kstest(noise.double().numpy()[:2000], "uniform").pvalue > 1e-3


def test_a_density_of_dequantised_data_bounds_the_mass_from_below():
    # Jensen: E_u[log p(y) - log L] <= log of the integral of p over the cell, here known for a Normal.
    x = torch.arange(8, dtype=F64).repeat_interleave(4000).unsqueeze(1)
    y, log_det = Dequantize(8).with_log_det(x)
    density = Normal(torch.tensor(0.4, dtype=F64), torch.tensor(0.1, dtype=F64))
    bound = (density.log_prob(y).squeeze(1) + log_det).reshape(8, 4000)
    edges = torch.arange(9, dtype=F64) / 8
    log_mass = density.cdf(edges).diff().log()
    stderr = bound.std(1) / math.sqrt(4000)
    assert bool((bound.mean(1) < log_mass + 4 * stderr).all())
    # in closed form: the mean of the log-density over the cell
    cell = edges[:-1].unsqueeze(1) + (torch.arange(1000, dtype=F64) + 0.5) / 8000
    expected = density.log_prob(cell).mean(1) - math.log(8)
    assert bool(((bound.mean(1) - expected).abs() < 4 * stderr + 1e-6).all())


# --- Binarize --------------------------------------------------------------------------------------------------------


def test_fresh_bits_have_the_frequency_of_the_grey_value_and_differ_from_call_to_call():
    x = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0]).expand(20_000, 5)
    bits = Binarize()(x)
    assert set(bits.unique().tolist()) == {0.0, 1.0}
    stderr = (x[0] * (1 - x[0]) / len(x)).sqrt()
    assert bool(((bits.mean(0) - x[0]).abs() <= 4 * stderr).all())
    assert not torch.equal(bits, Binarize()(x))


def test_fixed_bits_depend_on_the_row_and_the_seed_alone():
    x = torch.rand(200, 1, 6, 6)
    transform = Binarize("fixed", seed=3)
    state = torch.get_rng_state()
    bits = transform(x)
    assert torch.equal(torch.get_rng_state(), state)
    order = torch.randperm(200)
    assert torch.equal(transform(x[order]), bits[order])
    assert torch.equal(transform(x[7:8]), bits[7:8])
    assert not torch.equal(Binarize("fixed", seed=4)(x), bits)
    torch.testing.assert_close(transform(x.double()).float(), bits)


def test_fixed_noise_is_uniform_and_differs_between_pixels_and_rows():
    x = (torch.rand(400, 30) * 255).round() / 255
    x[:, 20:] = 0.0  # pixels that never change still get noise of their own
    noise = content_noise(x, 0)
    assert noise.shape == x.shape
    assert bool(((noise >= 0) & (noise < 1)).all())
    assert stats.kstest(noise.flatten().numpy(), "uniform").pvalue > 1e-3
    assert len(noise.flatten().unique()) > 0.99 * noise.numel()
    for values in (noise, noise.T):  # neighbours in either direction are not correlated
        correlation = np.corrcoef(values[:-1].flatten(), values[1:].flatten())[0, 1]
        assert abs(correlation) < 4 / math.sqrt(values.numel())
    across_seeds = np.corrcoef(noise.flatten(), content_noise(x, 1).flatten())[0, 1]
    assert abs(across_seeds) < 4 / math.sqrt(noise.numel())


def test_rows_that_differ_in_one_pixel_get_unrelated_noise():
    x = torch.zeros(64, 64)
    x[torch.arange(64), torch.arange(64)] = 1 / 255
    noise = content_noise(x, 0)
    correlations = np.corrcoef(noise.numpy())[np.triu_indices(64, 1)]
    assert np.abs(correlations).max() < 6 / math.sqrt(64)


def test_fixed_bits_have_the_frequency_of_the_grey_value():
    x = torch.rand(2000, 20)
    bits = Binarize("fixed")(x)
    for low in (0.0, 0.25, 0.5, 0.75):
        inside = (x >= low) & (x < low + 0.25)
        gap = (bits[inside] - x[inside]).mean().abs()
        assert float(gap) < 4 * 0.5 / math.sqrt(int(inside.sum()))


def test_threshold():
    x = torch.tensor([[0.0, 0.3, 0.3001, 1.0]])
    assert Binarize("threshold", threshold=0.3)(x).tolist() == [[0.0, 0.0, 1.0, 1.0]]


def test_what_comes_before_a_binarisation_has_no_jacobian():
    x = torch.randint(0, 256, (3, 4)).float()
    chain = Compose([Scale(0, 255), Binarize("threshold")])
    bits, log_det = chain.with_log_det(x)
    assert log_det.tolist() == [0.0] * 3
    assert set(bits.unique().tolist()) <= {0.0, 1.0}
    assert chain.discretizes
    after = Compose([Scale(0, 255), Binarize("threshold"), Scale(0, 2)])
    torch.testing.assert_close(after.with_log_det(x)[1], torch.full((3,), -4 * math.log(2)))
    assert not Compose([Scale(), Logit()]).discretizes
    assert Compose([Dequantize(), Logit()]).dequantizes


def test_values_outside_the_unit_interval_are_refused():
    for transform in (Binarize(), Logit()):
        for bad in (2.0, -0.1):
            with pytest.raises(SupportError, match=r"expects values in \[0, 1\].*Put Scale before it"):
                transform.check(torch.tensor([[0.5, bad]]))
        transform.check(torch.tensor([[0.0, 1.0]]))
    with pytest.raises(SupportError):
        Binarize().check(torch.tensor([[0.5, torch.nan]]))
    with pytest.raises(SupportError, match="Put Scale before it"):
        Compose([Scale(0, 100), Binarize()]).check(torch.tensor([[0, 101]]))
    for bad in (-1.0, 4.0, 0.5):
        with pytest.raises(SupportError, match=r"expects the integers 0\.\.3"):
            Dequantize(4).check(torch.tensor([[1.0, bad]]))


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="low < high"):
        Scale(1, 1)
    with pytest.raises(ConfigError, match="eps in"):
        Logit(0.5)
    with pytest.raises(ConfigError, match="at least 2 levels"):
        Dequantize(1)
    with pytest.raises(ConfigError, match="fresh, fixed, threshold; got 'sometimes'"):
        Binarize("sometimes")


def test_scaling_bytes_loses_nothing():
    x = torch.arange(256, dtype=torch.uint8).unsqueeze(1)
    assert torch.equal(Scale().inverse(Scale()(x)).round().to(torch.uint8), x)
