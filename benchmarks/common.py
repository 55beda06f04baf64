"""What the benchmarks share: the model, its bare twin, data, and alternating runs."""

import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import vaekit as vk

HIDDEN, LATENT = 512, 20


def bits(num_rows: int, data_dir: str | Path | None = None) -> tuple[Tensor, str]:
    """Rows of shape (N, 1, 28, 28) in float32 and what they are: thresholded MNIST, or random bits within its borders.

    Nothing is downloaded: MNIST is used where `data_dir` or $VAEKIT_DATA names its folder.
    """
    if data_dir or os.environ.get("VAEKIT_DATA"):
        grey = torch.from_numpy(vk.data.load("mnist:train", data_dir=data_dir).x[:num_rows])
        return (grey > 127).float(), "mnist"
    generator = torch.Generator().manual_seed(0)
    inner = torch.rand(num_rows, 1, 20, 20, generator=generator) < 0.2
    return nn.functional.pad(inner.float(), (4, 4, 4, 4)), "synthetic"


def library_model() -> vk.VAE:
    """784-512-20 and back with ReLU, a diagonal normal posterior and Bernoulli bits."""
    with vk.engine.seeded(0):
        return vk.VAE(
            encoder=vk.Conditional(vk.networks.MLP((1, 28, 28), (HIDDEN,)), vk.posteriors.DiagonalNormal(LATENT)),
            decoder=vk.Conditional(vk.networks.MLP(LATENT, (HIDDEN,)), vk.likelihoods.Bernoulli((1, 28, 28))),
            prior=vk.priors.StandardNormal(LATENT),
        )


def bare_networks(model: vk.VAE) -> tuple[nn.Sequential, nn.Sequential]:
    """The same two networks in plain PyTorch, with the weights of `model`."""
    encoder = nn.Sequential(nn.Linear(784, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * LATENT))
    decoder = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 784))
    for ours, bare in ((model.encoder, encoder), (model.decoder, decoder)):
        for target, source in zip(bare.parameters(), ours.parameters(), strict=True):
            target.data.copy_(source.data)
    return encoder, decoder


def alternate(first: Callable[[], float], second: Callable[[], float], num_runs: int) -> dict[str, Any]:
    """Time two functions in turn (ABBA), so that a machine that others use slows both alike.

    Args:
        first: returns its rate (higher is better).
        second: the rate that it is compared with.
        num_runs: measured pairs, after one pair of warm-up.

    Returns:
        The median rates, the median of the ratios first / second of the pairs, and their quartiles.
    """
    first(), second()
    pairs = []
    for i in range(num_runs):
        if i % 2:
            b, a = second(), first()
        else:
            a, b = first(), second()
        pairs.append((a, b))
    ratios = [a / b for a, b in pairs]
    quartiles = statistics.quantiles(ratios, n=4)
    return {
        "vaekit": round(statistics.median(a for a, _ in pairs)),
        "bare": round(statistics.median(b for _, b in pairs)),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_quartiles": [round(quartiles[0], 3), round(quartiles[2], 3)],
        "num_runs": num_runs,
    }
