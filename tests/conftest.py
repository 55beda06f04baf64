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
    """Few dots per inch: drawing is most of the time of a picture."""
    from vaekit.plots import style

    monkeypatch.setattr(style, "DPI", 40)


@pytest.fixture(autouse=True)
def _own_stream():
    """Every test starts torch's stream at the same place, whatever ran before it."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(20_260_101)
        yield
