"""The examples run, and learn something."""

import runpy
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parent.parent / "examples"


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
