"""Rows per second of an exported model beside torch, on one thread: `python -m benchmarks.export [RUN DATA]`.

Without arguments a model of digits is fitted first. Each question is asked three times of both, in turn, and the
fastest counts; the start-up of the runner is that of a new process up to its first answer.
"""

import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from vaekit import cli, runs
from vaekit.errors import UnreliableEstimateWarning
from vaekit.export import export

_START = "import sys; sys.path.insert(0, sys.argv[1]); import numpy as np; from runner import Model; m = Model({!r}); "
_ASK = "m.encode(np.zeros((1, *m.about['event_shape'])))"
NUM_ROWS, NUM_SAMPLES, REPEATS = 1000, 100, 3


def seconds(ask: Callable[[], object]) -> float:
    start = time.perf_counter()
    ask()
    return time.perf_counter() - start


def main(run_folder: str | None = None, source: str = "digits:train") -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UnreliableEstimateWarning)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if run_folder is None:
            run_folder = str(folder / "run")
            cli.run(["fit", "digits", "-o", run_folder, "--preset", "vae", "max_epochs=5", "--quiet"])
        run = runs.open(run_folder)
        spent = seconds(lambda: export(run, folder / "out"))
        sys.path.insert(0, str(folder / "out"))
        from runner import Model

        model, rows = Model(folder / "out", threads=1), run.rows(source)
        data = run.rows(source).take(np.arange(min(NUM_ROWS, len(rows))))
        x, z = np.asarray(data[:]), run.model.encode(data).numpy()
        asked = {
            "score": (
                lambda: model.score(x, num_samples=NUM_SAMPLES),
                lambda: run.score(data, num_samples=NUM_SAMPLES),
            ),
            "encode": (lambda: model.encode(x), lambda: run.model.encode(data)),
            "decode": (lambda: model.decode(z), lambda: run.model.decode(torch.from_numpy(z))),
            "sample": (lambda: model.sample(len(x)), lambda: run.sample(len(x))),
        }
        print(f"export {spent:.1f} s; {len(x)} rows, K = {NUM_SAMPLES}, one thread\n")
        print("| question | runner, rows/s | vaekit with torch, rows/s | ratio |\n|---|---|---|---|")
        for name, (own, torchs) in asked.items():
            own(), torchs()
            pairs = [(seconds(own), seconds(torchs)) for _ in range(REPEATS)]
            fast, slow = (min(column) for column in zip(*pairs, strict=True))
            print(f"| {name} | {len(x) / fast:,.0f} | {len(x) / slow:,.0f} | {slow / fast:.2f} |")
        place_out = str(folder / "out")
        command = [sys.executable, "-c", _START.format(place_out) + _ASK, place_out]
        start = min(seconds(lambda: subprocess.run(command, check=True)) for _ in range(REPEATS))
        print(f"\nstart-up of the runner up to its first answer: {start:.2f} s")


if __name__ == "__main__":
    main(*sys.argv[1:3])
