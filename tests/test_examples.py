"""The examples run, and learn something."""

import runpy
from pathlib import Path

import torch

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name):
    return runpy.run_path(str(EXAMPLES / name))["main"]


def test_every_example_is_tested():
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"custom_network.py", "bare_loop.py"}


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
