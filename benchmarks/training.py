"""(a) An MLP's training step: vaekit, a bare eager loop, and pythae's trainer, in turns.

784-512-20 and back, Bernoulli bits, batch 128, Adam with learning rate 1e-3, the same first weights. A turn is one
epoch of a long run, so nothing is started or compiled in a measured turn; value: ms per step. pythae's turn is its
trainer's own epoch; `elbo` is the mean ELBO of the last epoch, as each reports it: the work is the same.

Roofline: floating-point operations of the step's matrix products over its time, as a fraction of the machine's product
of two 2048 x 2048 matrices in the same precision, measured in the same rounds.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.common import MLP, MODES, Options, Start, bits, contestant, job_of, library, library_model, step_flops
from benchmarks.race import costs, race
from benchmarks.report import Result, Row, rows_of_race

BATCH = 128
BARS = {"vaekit compiled bf16": {"pythae": 2.3, "bare": 1.25}, "vaekit eager float32": {"bare": 0.95}}
NOTES = {"pythae": "its trainer's epoch", "bare": "eager float32, fused Adam, denormals flushed"}
PEAKS = {"float32": "peak float32", "bf16": "peak bfloat16"}


def run(options: Options) -> Result:
    """All contestants, in turns."""
    num_steps, rounds = options.size(200, 2), options.num_rounds(6)
    x, data = bits(BATCH * num_steps, options.data_dir)
    with job_of(x, library_model(), task="train", net=MLP, batch=BATCH) as job:
        rows = race_steps(options, f"MLP 784-512-20, batch {BATCH}", job, rounds, BARS)
    for row in rows:
        if row.value is not None:
            row.measures["s/epoch of 60,000"] = row.value / 1e3 * math.ceil(60_000 / BATCH)
    return Result("a", rows, {"data": data, "batch": BATCH, "steps_per_turn": num_steps, "rounds": rounds})


def race_steps(
    options: Options,
    case: str,
    job: dict[str, Any],
    rounds: int,
    bars: dict[str, dict[str, float]],
    modes: Sequence[str] = tuple(MODES),
    peer: bool = True,
) -> list[Row]:
    """Let pythae, the bare loop, vaekit in its modes and the machine's matrix products take turns.

    Args:
        options: how to run.
        case: name of the rows.
        job: of all contestants.
        rounds: measured turns of each.
        bars: by contestant.
        modes: those of vaekit.
        peer: whether pythae has this network.
    """
    starters: dict[str, Start] = {
        **(contestant(options, "pythae", "pythae_peer", **job) if peer else {}),
        **contestant(options, "bare", "bare", **job),
        **library(options, modes, **job),
        **_peaks(options),
    }
    turns, missing = race(starters, rounds)
    work = {name: turns.pop(name) for name in PEAKS.values() if name in turns}
    rows = rows_of_race(
        case,
        turns,
        missing,
        per="steps",
        unit="ms/step",
        scale=1e3,
        references=("pythae", "bare"),
        bars=bars,
        notes=NOTES,
        show=("elbo",),
    )
    flops = step_flops(job["net"], job["batch"])
    add_rooflines(rows, {k: statistics.median(costs(v, "work")) for k, v in work.items()}, flops)
    return rows


def _peaks(options: Options) -> dict[str, Start]:
    """The machine's matrix products take their turns like everybody else; not at sizes that say nothing."""
    job = {"task": "matmul", "shape": (2048, 2048, 2048), "seconds": 0.5}
    starters: dict[str, Start] = {}
    if not options.quick:
        starters |= contestant(options, "peak float32", "peak", **job, dtype="float32")
        if options.with_bf16:
            starters |= contestant(options, "peak bfloat16", "peak", **job, dtype="bfloat16")
    return starters


def add_rooflines(rows: list[Row], peaks: dict[str, float], flops: float) -> None:
    """Fill in which fraction of the peak of its own precision each contestant's step reaches.

    Args:
        rows: with values in ms per step.
        peaks: seconds per floating-point operation, by the values of `PEAKS`.
        flops: of one step.
    """
    for row in rows:
        peak = peaks.get(PEAKS["bf16" if row.contestant.endswith("bf16") else "float32"])
        if row.value is not None and peak is not None and row.contestant != "vaekit auto":  # who chooses for itself
            row.roofline = flops * peak / (row.value / 1e3)
