"""(f) How vaekit's cost grows: log-log slopes of a training step and of evaluation in N, D, z, K and batch.

One factor at a time around 784-512-20, batch 128, K = 1,000; eager float32. A slope of 1 is proportional to the
factor, 0 is free; no slope may exceed 1 by more than noise, and those of D, z and batch stay below it where other
layers or fixed costs dominate. Value: the slope of the least-squares line through (log factor, log seconds), each time
the median of several rounds.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.common import MLP, Options
from benchmarks.report import Result, Row

STEP = {"side": 28, "latent": 20, "batch": 128, "num_rows": 128 * 16}
EVALUATION = {"side": 28, "latent": 20, "num_rows": 16, "num_samples": 1000}
FACTORS: dict[str, dict[str, Sequence[int]]] = {
    "training": {"D": (14, 28, 56), "z": (10, 40, 160), "batch": (64, 256, 1024), "N": (2048, 4096, 8192)},
    "evaluation": {"D": (14, 28, 56), "z": (10, 40, 160), "K": (500, 1000, 2000), "N": (8, 16, 32)},
}
QUICK: dict[str, dict[str, Sequence[int]]] = {
    "training": {"D": (7, 14), "z": (5, 10), "batch": (16, 32), "N": (256, 512)},
    "evaluation": {"D": (7, 14), "z": (5, 10), "K": (20, 40), "N": (2, 4)},
}
ARGUMENT = {"D": "side", "z": "latent", "batch": "batch", "N": "num_rows", "K": "num_samples"}
MOST = 1.1


def slope(factors: Sequence[float], seconds: Sequence[float]) -> float:
    """Of the least-squares line through the logarithms."""
    return statistics.linear_regression([math.log(f) for f in factors], [math.log(s) for s in seconds]).slope


def run(options: Options) -> Result:
    """One process measures every size, one after the other, round by round."""
    rounds = options.num_rounds(3)
    step, evaluation = options.size((STEP, EVALUATION), ({**STEP, "num_rows": 256}, {**EVALUATION, "num_samples": 40}))
    rows = []
    racer = options.start("vaekit", "library_cost", {"task": "cost"})
    try:
        for what, base in (("training", step), ("evaluation", evaluation)):
            for factor, values in options.size(FACTORS, QUICK)[what].items():
                sizes = [dict(base, what=what, **{ARGUMENT[factor]: value}) for value in values]
                if factor == "batch":  # as many steps at each size
                    sizes = [{**size, "num_rows": 4 * size["batch"]} for size in sizes]
                amounts = [value**2 for value in values] if factor == "D" else values  # pixels, not sides
                rows.append(_row(racer, f"{what}: seconds over {factor}", amounts, sizes, rounds))
    finally:
        racer.close()
    return Result("f", rows, {"net": MLP, "training": step, "evaluation": evaluation, "rounds": rounds})


def _row(racer: Any, case: str, amounts: Sequence[int], sizes: list[dict[str, Any]], rounds: int) -> Row:
    seconds: list[list[float]] = [[] for _ in sizes]
    for i in range(-1, rounds):  # the first round warms up
        for own, size in zip(seconds, sizes, strict=True):
            turn = racer.turn(**size)
            if i >= 0:
                own.append(turn["seconds"])
    medians = [statistics.median(own) for own in seconds]
    measures = {f"ms at {amount}": 1e3 * median for amount, median in zip(amounts, medians, strict=True)}
    own_slope = slope(amounts, medians)
    return Row(case, "vaekit eager float32", own_slope, "slope", bars={"slope": MOST}, measures=measures)
