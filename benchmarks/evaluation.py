"""Importance samples per second: `evaluation.log_marginal` beside a bare loop of the same computation.

64 images, K = 5,000 draws each, 784-512-20 MLP, Bernoulli bits, float32, no compilation. The bare loop takes as
many draws per decoder pass (4,096) and keeps the log weights of one pass only. The library also checks the data, gives
each block of draws a seed of its own, and accumulates in float64 what the standard errors need.
"""

import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import vaekit as vk
from benchmarks.common import LATENT, alternate, bare_networks, bits, library_model

NUM_POINTS, NUM_SAMPLES, DRAWS, NUM_RUNS = 64, 5_000, 64, 7


def library_run(model: vk.VAE, x: Tensor) -> float:
    """Samples per second of `log_marginal`."""
    started = time.perf_counter()
    vk.evaluation.log_marginal(model, x, num_samples=NUM_SAMPLES, compile="off")
    return len(x) * NUM_SAMPLES / (time.perf_counter() - started)


@torch.no_grad()
def bare_log_marginal(encoder: torch.nn.Module, decoder: torch.nn.Module, x: Tensor) -> Tensor:
    """log p(x) by importance sampling as one would write it by hand, shape (N,)."""
    loc, log_variance = encoder(x).split(LATENT, dim=1)
    scale, total = torch.exp(0.5 * log_variance), torch.full((len(x),), -math.inf)
    for start in range(0, NUM_SAMPLES, DRAWS):
        noise = torch.randn(min(DRAWS, NUM_SAMPLES - start), *loc.shape)
        z = loc + scale * noise
        target = x.expand(len(z), *x.shape)
        log_likelihood = -F.binary_cross_entropy_with_logits(decoder(z), target, reduction="none").sum(-1)
        # log p(z) - log q(z|x): the constants of the two normals cancel.
        log_ratio = 0.5 * (noise.square() - z.square() + log_variance).sum(-1)
        total = torch.logaddexp(total, torch.logsumexp(log_likelihood + log_ratio, 0))
    return total - math.log(NUM_SAMPLES)


def bare_run(encoder: torch.nn.Module, decoder: torch.nn.Module, x: Tensor) -> float:
    """Samples per second of the bare loop."""
    started = time.perf_counter()
    bare_log_marginal(encoder, decoder, x)
    return len(x) * NUM_SAMPLES / (time.perf_counter() - started)


def run(data_dir: str | Path | None = None) -> dict[str, Any]:
    """Alternate the two; rates in samples per second. The two estimates must agree."""
    x, name = bits(NUM_POINTS, data_dir)
    model, flat = library_model(), x.flatten(1)
    encoder, decoder = bare_networks(model)
    ours = vk.evaluation.log_marginal(model, x, num_samples=NUM_SAMPLES, compile="off")
    gap = abs(ours.mean - float(bare_log_marginal(encoder, decoder, flat).double().mean()))
    if gap > 0.5:
        raise RuntimeError(f"the two estimates differ by {gap:.3f} nats, so they do not compute the same")
    result = alternate(partial(library_run, model, x), partial(bare_run, encoder, decoder, flat), NUM_RUNS)
    return {**result, "unit": "samples/s", "data": name, "gap_nats": round(gap, 4)}
