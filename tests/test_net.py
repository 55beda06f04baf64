"""Saved runs of every preset still answer as they did when they were saved, and help and lists still say the same.

`tests/net/ask.py` asks them; `make net OLD=PYTHON` compares two environments bit for bit. Processors round differently,
so that here numbers may differ by 1e-4, and by more where many steps of an optimiser lie between.
"""

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

NET = Path(__file__).parent / "net"
SPEC = spec_from_file_location("ask", NET / "ask.py")
ask = module_from_spec(SPEC)
SPEC.loader.exec_module(ask)

SAVED = json.loads((NET / "answers.json").read_text())
# A few seconds each for the diagnostics: two runs in the fast suite, the others in the slow one.
FAST = ("table", "vae")


def refined(name):
    """Whether a number is the end of an optimisation."""
    return "inference_gap" in name


@pytest.mark.parametrize("name", sorted(SAVED["runs"]))
def test_a_saved_run_answers_as_it_did(name, tmp_path):
    now = ask.answers_of(ask.RUNS / name, tmp_path, evaluate=False)
    before = SAVED["runs"][name] | {"evaluate": {}}
    assert ask.differences(before, now, 1e-4) == []


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in FAST else pytest.mark.slow) for n in SAVED["runs"]])
def test_a_saved_run_is_judged_as_it_was(name, tmp_path):
    now = ask.evaluation_of(ask.RUNS / name)
    before = SAVED["runs"][name]["evaluate"]
    exact = [{n: v for n, v in numbers.items() if not refined(n)} for numbers in (before, now)]
    optimised = [{n: v for n, v in numbers.items() if refined(n)} for numbers in (before, now)]
    assert ask.differences(*exact, 1e-4) == []
    assert ask.differences(*optimised, 1e-2) == []


def test_help_and_lists_say_what_they_said():
    assert ask.differences(SAVED["texts"], ask.texts()) == []


def test_a_difference_is_found():
    old = {"a": [1.0, None], "b": {"c": 2}, "d": "x"}
    assert ask.differences(old, {"a": [1.0, None], "b": {"c": 2}, "d": "x"}) == []
    assert ask.differences(old, {"a": [1.0 + 2e-16 * 4, None], "b": {"c": 2}, "d": "x"}) != []
    assert ask.differences(old, {"a": [1.00001, None], "b": {"c": 2}, "d": "x"}, 1e-4) == []
    assert len(ask.differences(old, {"a": [1.0, 3.0], "b": {}, "d": "y"})) == 3
