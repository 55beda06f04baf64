"""(g) Peak memory: the largest resident set of a process that trains on MNIST, and of one that evaluates K = 5,000.

784-512-20, all 60,000 rows as bits, batch 128, one epoch; then log p of 1,000 images with 5,000 draws each. Every
contestant reads the same uint8 file in a process of its own; vaekit keeps it so, the others make float32 of it as their
loops need. The others evaluate 64 images only: pythae takes one at a time and the bare loop 64, so that their time
grows with more of them and their memory does not. Value: MiB, the interpreter and torch counted.
"""

from typing import Any

import torch

from benchmarks.common import MLP, Options, Start, bits, contestant, library_model, save_rows, save_weights, scratch
from benchmarks.race import Ratio, race
from benchmarks.report import Result, Row

LIMIT_MIB = 2048.0
NUM_SAMPLES = 5_000


def run(options: Options) -> Result:
    """Each contestant once, in a fresh process."""
    num_train, num_test, num_peer, draws = options.size((60_000, 1_000, 64, NUM_SAMPLES), (256, 8, 2, 200))
    x, data = bits(num_train, options.data_dir)
    test, _ = bits(num_test, options.data_dir, "test")
    with scratch() as folder:
        weights = save_weights(folder / "weights.npz", library_model())
        rows = save_rows(folder / "x.npy", x)
        train = {"task": "train", "net": MLP, "batch": 128, "data": rows, "weights": weights}
        files = {"data": save_rows(folder / "test.npy", test), "weights": weights}
        evaluate = {"task": "evaluate", "net": MLP, "num_samples": draws, **files}
        few = {**evaluate, "data": save_rows(folder / "few.npy", test[:num_peer])}
        result = _rows(
            "training on MNIST, one epoch",
            {
                **contestant(options, "pythae", "pythae_peer", **train),
                **contestant(options, "bare", "bare", **train),
                **contestant(options, "vaekit eager float32", "library", **train, dtype="uint8"),
            },
            {"vaekit eager float32": {"pythae": 1.0}},
        )
        result += _rows(
            f"log p of {num_test} images, K = {draws}",
            {
                **contestant(options, "pythae", "pythae_peer", **few),
                **contestant(options, "bare", "bare", **few),
                **contestant(options, "vaekit eager float32", "library", **evaluate),
            },
            {"vaekit eager float32": {"pythae": 1.0, "MiB": LIMIT_MIB}},
        )
    settings = {"data": data, "num_train": num_train, "num_test": num_test, "num_samples": draws}
    return Result("g", result, {**settings, "threads": torch.get_num_threads()})


def _rows(case: str, starters: dict[str, Start], bars: dict[str, Any]) -> list[Row]:
    turns, missing = race(starters, num_rounds=1, num_warmup=0)
    peaks = {name: results[-1]["peak_rss_mib"] for name, results in turns.items()}
    rows = []
    for name, peak in peaks.items():
        smaller = {other: Ratio.of([peaks[other] / peak]) for other in ("pythae", "bare") if other in peaks}
        smaller.pop(name, None)
        rows.append(Row(case, name, peak, "MiB", smaller, bars.get(name, {})))
    return rows + [Row(case, name, None, "MiB", note=reason) for name, reason in missing.items()]
