"""(j) Scoring a table: 100,000 rows of 10 columns, K = 100, by a 400-400 network; which share of the roofline is left.

The roofline is the time of the decoder's matrix products alone, in float32, from and into memory that is there
already, in the block size that is fastest here (and in bf16 for rows that compute in bf16). "layers alone" is what
torch itself makes of the same network: products, biases and ReLU in blocks, with no distribution behind them. Value:
seconds; all take turns.
"""

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import vaekit as vk
from benchmarks.common import MODES, Options
from benchmarks.report import Result, Row

COLUMNS, SAMPLES, HIDDEN, LATENT = 10, 100, 400, 2
BLOCKS = (256, 512, 1024, 2048, 4096, 8192)
BAR = 0.8


def fitted(num_rows: int) -> tuple[vk.VAE, Tensor]:
    """A model after one epoch, so that q is no stranger to its rows, and the rows."""
    with vk.engine.seeded(0):
        x = torch.randn(num_rows, COLUMNS) @ torch.randn(COLUMNS, COLUMNS)
        data = vk.data.Dataset(x.double().numpy())
        settings = vk.recipes.settings({"hidden": (HIDDEN, HIDDEN), "max_epochs": 1, "compile": "off"})
        plan = vk.recipes.plan(settings, data, progress=False)
        plan.trainer.fit(plan.model, plan.objective, *vk.data.holdout(data))
    return plan.model, x


def products(dtype: torch.dtype, block: int) -> Callable[[int], None]:
    """The decoder's products of so many z, block by block."""
    sizes = (LATENT, HIDDEN, HIDDEN, COLUMNS)
    weights = [torch.randn(a, b, dtype=dtype) for a, b in itertools.pairwise(sizes)]
    layers = [torch.randn(block, size, dtype=dtype) for size in sizes]

    def work(num_z: int) -> None:
        for _ in range(num_z // block):
            for i, weight in enumerate(weights):
                torch.mm(layers[i], weight, out=layers[i + 1])

    return work


def layers(block: int) -> Callable[[int], None]:
    """The decoder's network of so many z, as torch computes it."""
    net = nn.Sequential(
        nn.Linear(LATENT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, COLUMNS)
    )
    z = torch.randn(block, LATENT)

    def work(num_z: int) -> None:
        with torch.inference_mode():
            for _ in range(num_z // block):
                net(z)

    return work


def scoring(model: vk.VAE, x: Tensor, mode: str) -> Callable[[int], None]:
    """log p of as many rows as take so many z."""
    compile, precision = MODES[mode]
    how: dict[str, Any] = {"compile": compile, "precision": precision, "num_samples": SAMPLES}

    def work(num_z: int) -> None:
        vk.evaluation.log_marginal(model, x[: num_z // SAMPLES], generator=torch.Generator().manual_seed(0), **how)

    return work


def _seconds(work: Callable[[int], None], num_z: int) -> float:
    started = time.perf_counter()
    work(num_z)
    return time.perf_counter() - started


def _best(make: Callable[[int], Callable[[int], None]]) -> Callable[[int], None]:
    """The block size that is fastest here, from a short try of each."""
    works = [make(block) for block in BLOCKS]
    return min(works, key=lambda work: min(_seconds(work, 4 * BLOCKS[-1]) for _ in range(3)))


def run(options: Options) -> Result:
    """The same number of z for all, in turns."""
    num_rows, rounds = options.size(100_000, 500), options.num_rounds(3)
    model, x = fitted(num_rows)
    works = {
        "products in float32": _best(lambda block: products(torch.float32, block)),
        "layers alone": _best(layers),
    }
    if options.with_bf16:
        works["products in bf16"] = _best(lambda block: products(torch.bfloat16, block))
    for mode, (compile, precision) in MODES.items():
        is_measured = (compile == "off" or not options.quick) and (precision == "float32" or options.with_bf16)
        if is_measured:
            works[mode] = scoring(model, x, mode)
            works[mode](SAMPLES * min(num_rows, 500))  # compilation
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            seconds[name].append(_seconds(work, SAMPLES * num_rows))
    rows = [_row(name, seconds, f"{num_rows} x {COLUMNS}, K = {SAMPLES}", options) for name in works]
    return Result("j", rows, {"rounds": rounds, "hidden": HIDDEN, "threads": torch.get_num_threads()})


def _row(name: str, seconds: dict[str, list[float]], case: str, options: Options) -> Row:
    """One contestant beside the products in the precision that it computes in."""
    in_bf16 = options.with_bf16 and ("bf16" in name or name == "vaekit auto")
    peak = min(seconds["products in bf16" if in_bf16 else "products in float32"])
    own = min(seconds[name])
    return Row(case, name, statistics.median(seconds[name]), "s", roofline=peak / own, note=f"asked: {BAR}")
