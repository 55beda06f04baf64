"""What this machine can do: matrix products in float32 and bf16, and memory traffic.

A square product of 2,048 shows the peak; the others have the shapes of the MLP's step (batch 128): forward, gradient of
the input, gradient of the weights. Value: GFLOP/s, and GB/s (read plus written) for copies of 256 MiB, which no cache
holds. Other benchmarks measure the peak again in their own rounds.
"""

import statistics

from benchmarks.common import Options, Start, contestant
from benchmarks.race import costs, race
from benchmarks.report import Result, Row

SHAPES = {
    "2048 x 2048 x 2048": (2048, 2048, 2048),
    "128 x 784 x 512 (forward)": (128, 784, 512),
    "128 x 512 x 784 (backward)": (128, 512, 784),
    "784 x 128 x 512 (weights)": (784, 128, 512),
}


def run(options: Options) -> Result:
    """Everything in turns, so that a busy machine shows in all."""
    rounds, seconds = options.num_rounds(5), options.size(0.3, 0.01)
    dtypes = ("float32", "bfloat16") if options.with_bf16 else ("float32",)
    starters: dict[str, Start] = {}
    names: dict[str, tuple[str, str]] = {}
    for words, shape in list(SHAPES.items())[: options.size(len(SHAPES), 2)]:
        for dtype in dtypes:
            name = f"{dtype} {words}"
            names[name] = (f"matrix product {words}", dtype)
            shape = options.size(shape, (64, 64, 64))
            job = {"task": "matmul", "shape": shape, "dtype": dtype, "seconds": seconds}
            starters |= contestant(options, name, "peak", **job)
    starters |= contestant(options, "copy", "peak", task="copy", mib=options.size(256, 1), seconds=seconds)
    turns, missing = race(starters, rounds)
    rows = []
    for name, results in turns.items():
        rate = 1e-9 / statistics.median(costs(results, "work"))
        case, dtype = names.get(name, ("copy in memory", "float32"))
        rows.append(Row(case, f"torch {dtype}", rate, "GB/s" if name == "copy" else "GFLOP/s"))
    rows += [Row(name, "torch", None, "", note=reason) for name, reason in missing.items()]
    return Result("", rows, {"rounds": rounds, "seconds_per_turn": seconds})
