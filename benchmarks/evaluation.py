"""(c) Importance samples per second with K = 5,000: `evaluation.log_marginal`, a bare loop, and pythae's `get_nll`.

784-512-20 MLP, Bernoulli bits, the same weights for all, trained for a few epochs first so that q fits. Samples are
those that were decoded, whatever was asked for: pythae draws in batches of 100 and honours only multiples of it.
`gap` is the difference of the mean log p from the bare loop's, `bf16 gap` that of bf16 from float32, in nats.
"""

import statistics

import torch

import vaekit as vk
from benchmarks.common import MLP, Options, Start, bits, contestant, job_of, library, library_model
from benchmarks.race import Turn, race
from benchmarks.report import Result, Row, rows_of_race

BARS = {
    "vaekit compiled float32": {"pythae": 4.0, "gap": 0.5},
    "vaekit compiled bf16": {"pythae": 10.0, "bf16 gap": 0.05},
}
NUM_SAMPLES = 5_000


def fitted(options: Options) -> vk.VAE:
    """The model of all contestants after a short training."""
    num_rows, epochs = options.size((20_000, 3), (256, 1))
    x, _ = bits(num_rows, options.data_dir)
    model = library_model()
    trainer = vk.Trainer(max_epochs=epochs, compile="off", precision="float32", progress=False)
    trainer.fit(model, vk.objectives.ELBO(), x.float())
    return model


def run(options: Options) -> Result:
    """All contestants, in turns of one evaluation of a few rows."""
    (num_rows, num_samples), rounds = options.size((32, NUM_SAMPLES), (4, 200)), options.num_rounds(5)
    x, data = bits(num_rows, options.data_dir, "test")
    with job_of(x, fitted(options), task="evaluate", net=MLP, num_samples=num_samples) as job:
        starters: dict[str, Start] = {
            **contestant(options, "pythae", "pythae_peer", **job),
            **contestant(options, "bare", "bare", **job),
            **library(options, **job),
        }
        turns, missing = race(starters, rounds)
    rows = rows_of_race(
        f"log p, K = {num_samples}",
        turns,
        missing,
        per="samples",
        unit="us/sample",
        scale=1e6,
        references=("pythae", "bare"),
        bars=BARS,
        notes={"pythae": "get_nll, without gradients"},
    )
    add_gaps(rows, turns)
    settings = {"data": data, "num_rows": num_rows, "num_samples": num_samples, "rounds": rounds}
    return Result("c", rows, {**settings, "threads": torch.get_num_threads()})


def add_gaps(rows: list[Row], turns: dict[str, list[Turn]]) -> None:
    """Say how far the estimates are apart (they must compute the same), and the rate in the usual words."""
    means = {name: statistics.fmean(turn["log_p"] for turn in results) for name, results in turns.items()}
    for row in rows:
        name = row.contestant
        if name not in means or not row.value:
            continue
        row.measures["samples/s"] = 1e6 / row.value
        in_float32 = "vaekit eager float32" if name == "vaekit auto" else name.replace("bf16", "float32")
        if "bare" in means and name != "bare":
            row.measures["gap"] = means[name] - means["bare"]
        if in_float32 != name and in_float32 in means:
            row.measures["bf16 gap"] = means[name] - means[in_float32]
