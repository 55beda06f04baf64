"""What all tests share: a seeded stream that each test gets afresh and gives back."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # `components` is shared; importlib mode adds no path of its own

torch.set_num_threads(1)
torch.set_warn_always(True)  # torch warns once per process: which test fails must not depend on their order


@pytest.fixture
def coarse(monkeypatch):
    """Few dots per inch, labels where they fall and margins as they are: drawing is most of the time of a picture.

    What pictures look like is checked without it.
    """
    from vaekit.plots import style

    own = style.Figure.savefig
    monkeypatch.setattr(style, "DPI", 40)
    monkeypatch.setattr(style, "figure", lambda width, height: style.Figure(figsize=(width, height), dpi=40))
    monkeypatch.setattr(style.Figure, "savefig", lambda *to, **how: own(*to, **how | {"bbox_inches": None}))


@pytest.fixture
def quick_gap(monkeypatch):
    """Few steps towards the best q of a row: most of the time of `evaluate` and of reports, whose other parts count."""
    from vaekit.evaluation.health.inference_gap import inference_gap

    monkeypatch.setitem(inference_gap.__kwdefaults__, "num_steps", 20)


@pytest.fixture(autouse=True)
def _own_stream():
    """Every test starts torch's stream at the same place, whatever ran before it."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(20_260_101)
        yield
