"""Schedules: their values, as 0-d tensors, without recompilation."""

import pytest
import torch

from vaekit.errors import ConfigError
from vaekit.schedules import Constant, Cyclical, Linear


def values(schedule, *steps):
    results = [schedule(torch.tensor(step)) for step in steps]
    assert all(isinstance(r, torch.Tensor) and r.shape == () and r.is_floating_point() for r in results)
    return [pytest.approx(float(r)) for r in results]


def test_constant():
    assert values(Constant(0.3), 0, 7, 10_000) == [0.3, 0.3, 0.3]


def test_linear_rises_falls_and_stays():
    assert values(Linear(0.0, 1.0, 10), 0, 1, 5, 10, 11, 10**9) == [0, 0.1, 0.5, 1, 1, 1]
    assert values(Linear(4.0, 1.0, 2), 0, 1, 2, 3) == [4, 2.5, 1, 1]
    assert values(Linear(0.0, 1.0, 1), 0, 1) == [0, 1]


def test_cyclical_repeats_its_ramp_and_ends_at_the_top():
    schedule = Cyclical(0.0, 1.0, num_steps=40, num_cycles=4, ratio=0.5)
    ramp = [0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1]
    assert values(schedule, *range(40)) == ramp * 4
    assert values(schedule, 40, 41, 1000) == [1, 1, 1]
    assert values(Cyclical(1.0, 3.0, 8, num_cycles=2, ratio=1.0), *range(9)) == [1, 1.5, 2, 2.5] * 2 + [3]


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="num_steps is at least 1; got 0"):
        Linear(0, 1, 0)
    with pytest.raises(ConfigError, match="num_cycles is at least 1"):
        Cyclical(0, 1, 10, num_cycles=0)
    for ratio in (0.0, 1.5):
        with pytest.raises(ConfigError, match="ratio lies in"):
            Cyclical(0, 1, 10, ratio=ratio)
