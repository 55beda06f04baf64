"""Rows per second while training: the trainer beside a bare eager PyTorch loop with the same network.

784-512-20 MLP, Bernoulli bits, batch 128, float32, no compilation. The bare loop is what a good user would write and
no more: data indexed by a permutation, the fused Adam, cross-entropy on logits plus the closed-form KL, denormals
flushed. It keeps no history, checks nothing, and cannot be resumed. Target: a ratio of at least 0.95.
"""

import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import vaekit as vk
from benchmarks.common import LATENT, alternate, bare_networks, bits, library_model

BATCH, NUM_STEPS, NUM_RUNS, TARGET = 128, 400, 9, 0.95


def library_run(x: Tensor, seconds: list[float]) -> float:
    """One epoch of vaekit's trainer on fresh weights; rows per second."""
    trainer = vk.Trainer(max_epochs=1, batch_size=BATCH, learning_rate=1e-3, compile="off", progress=False)
    history = trainer.fit(library_model(), vk.objectives.ELBO(), x)
    seconds.append(history["seconds"][0])
    return len(x) / history["seconds"][0]


def bare_epoch(x: Tensor) -> float:
    """One epoch of a plain loop on fresh weights; rows per second."""
    encoder, decoder = bare_networks(library_model())
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3, fused=True)
    started = time.perf_counter()
    order = torch.randperm(len(x))
    for i in range(0, len(x), BATCH):
        batch = x[order[i : i + BATCH]]
        loc, log_variance = encoder(batch).split(LATENT, dim=1)
        z = loc + torch.exp(0.5 * log_variance) * torch.randn_like(loc)
        cross_entropy = F.binary_cross_entropy_with_logits(decoder(z), batch, reduction="sum")
        kl = -0.5 * torch.sum(1 + log_variance - loc.square() - log_variance.exp())
        loss = (cross_entropy + kl) / len(batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return len(x) / (time.perf_counter() - started)


def run(data_dir: str | Path | None = None) -> dict[str, Any]:
    """Alternate the two loops; rates in rows per second."""
    x, name = bits(BATCH * NUM_STEPS, data_dir)
    flat, seconds = x.flatten(1).contiguous(), []
    bare = partial(vk.engine.run_flushing_denormals, partial(bare_epoch, flat))
    result = alternate(partial(library_run, x, seconds), bare, NUM_RUNS)
    per_epoch = [round(value, 3) for value in seconds[1:]]
    more = {"data": name, "seconds_per_epoch": per_epoch, "steps_per_epoch": NUM_STEPS}
    return {**result, "unit": "rows/s", "target": TARGET, **more}
