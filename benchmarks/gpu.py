"""One GPU in eight minutes: `python -m benchmarks.gpu [-o FILE] [--seconds S] [--quick]`.

`tests/test_cuda.py`, then training (an MLP, convolutions) and log p with K = 5,000: vaekit eager and compiled, beside a
bare loop on the same device, eager and compiled. What does not fit into the time is left out and says so in its row.

Needs torch, numpy, scikit-learn, safetensors, typer and rich; the record names the other wheels that are missing. The
record goes to FILE, by default to `records/cuda/gpu.json`; without a GPU it says so and goes to FILE or is printed.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import CONV, MLP, MODES, Options, Start, bits, contestant, job_of, library, library_model
from benchmarks.evaluation import add_gaps
from benchmarks.race import ROOT, Contestant, Turn, Unavailable, race
from benchmarks.report import Result, Row, rows_of_race, table, to_record, write_record

SECONDS = 480.0
TESTS = "tests/test_cuda.py"
_FOR_TESTS, _FOR_ROUNDS = 180.0, 20.0
_NAME = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class Budget:
    """Seconds that all of it may take, from now on."""

    seconds: float
    started: float

    def left(self, kept: float = 0.0) -> float:
        """Seconds that may be spent now, if `kept` are kept for later.

        Raises:
            Unavailable: if there are none.
        """
        left = self.started + self.seconds - kept - time.monotonic()
        if left <= 0:
            raise Unavailable("no time left")
        return left


class Punctual:
    """A contestant whose turns end with the budget; its first turn, the warm-up, leaves time for the rounds."""

    def __init__(self, name: str, worker: str, job: dict[str, Any], budget: Budget, start: Any) -> None:
        self.budget, self.kept = budget, _FOR_ROUNDS
        budget.left(self.kept)
        self.inner = start(name, worker, job)

    def turn(self, **arguments: Any) -> Turn:
        """One unit of work, or `Unavailable` where the time is over."""
        self.inner.timeout, self.kept = self.budget.left(self.kept), 0.0
        return self.inner.turn(**arguments)

    def close(self) -> None:
        """No more turns."""
        self.inner.close()


def missing_wheels() -> list[str]:
    """Packages that vaekit or its tests ask for and that are not installed here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [_NAME.match(line)[0] for line in (*project["dependencies"], "pytest")]  # type: ignore[index]
    return [name for name in wanted if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def tests(budget: Budget) -> Row:
    """How many tests of `TESTS` pass and fail; the note says which, or why there are none."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", TESTS]
    try:
        seconds = min(_FOR_TESTS, budget.left())
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds)
    except (Unavailable, subprocess.TimeoutExpired):
        return Row(TESTS, "pytest", None, "passed", note="no time left")
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    last = re.sub(r"(/[\w.+-]+){2,}", "...", lines[-1]) if lines else "no output"
    passed = re.search(r"(\d+) passed", last)
    if not _is_installed("pytest"):
        return Row(TESTS, "pytest", None, "passed", note=last)
    bad = [line.split(" - ")[0] for line in lines if line.startswith(("FAILED", "ERROR"))]
    failed = max(len(bad), int(done.returncode != 0))
    row = Row(TESTS, "pytest", float(passed[1]) if passed else 0.0, "passed", note="; ".join([*bad, last]))
    return replace(row, measures={"failed": float(failed)}, bars={"failed": 0.0})


def training(options: Options, budget: Budget, net: dict[str, Any], case: str) -> list[Row]:
    """A step of each contestant in turns of an epoch."""
    x, _ = bits(128 * options.size(200 if net is MLP else 40, 2), options.data_dir)
    with job_of(x, task="train", net=net, batch=128, device=options.device) as job:
        starters = _contestants(options, budget, job, compiled={"compile": True})
        return _raced(options, starters, case, per="steps", unit="ms/step", scale=1e3, show=("elbo",))[0]


def evaluation(options: Options, budget: Budget) -> list[Row]:
    """log p of some rows; the weights are those of a new model, which all contestants share."""
    num_samples = options.size(5_000, 200)
    x, _ = bits(options.size(256, 4), options.data_dir, "test")
    settings = {"net": MLP, "num_samples": num_samples, "device": options.device}
    with job_of(x, library_model(), task="evaluate", **settings) as job:
        starters = _contestants(options, budget, job)
        case = f"log p, K = {num_samples}"
        rows, turns = _raced(options, starters, case, per="samples", unit="us/sample", scale=1e6)
    add_gaps(rows, turns)
    return rows


def _contestants(
    options: Options, budget: Budget, job: dict[str, Any], compiled: dict[str, Any] | None = None
) -> dict[str, Start]:
    """The bare loop, compiled too where `compiled` tells how, and vaekit in each mode that is set by hand."""
    options = replace(options, start=partial(Punctual, budget=budget, start=options.start))
    modes = [name for name in MODES if name != "vaekit auto"]
    starters = contestant(options, "bare", "bare", **job)
    if compiled is not None and not options.quick:
        starters |= contestant(options, "bare compiled", "bare", **job, **compiled)
    return {**starters, **library(options, modes, **job)}


def _raced(
    options: Options, starters: dict[str, Start], case: str, **how: Any
) -> tuple[list[Row], dict[str, list[Turn]]]:
    try:
        turns, missing = race(starters, options.num_rounds(5))
    except Unavailable as error:  # within the rounds
        turns, missing = {}, dict.fromkeys(starters, str(error))
    return rows_of_race(case, turns, missing, references=("bare",), **how), turns


def run(options: Options, budget: Budget) -> Result:
    """The tests, then everything that is measured."""
    rows = [tests(budget)]
    rows += training(options, budget, MLP, "MLP 784-512-20, batch 128")
    rows += evaluation(options, budget)
    rows += training(options, budget, CONV, "convolutions 28 x 28, batch 128")
    return Result("h", rows, {"device": options.device, "seconds": budget.seconds})


def record_of(result: Result, quick: bool) -> dict[str, Any]:
    """The record, with the GPU (or that there is none) and the missing wheels beside the rest of the machine."""
    record = to_record("gpu", result, quick)
    gpu: dict[str, Any] = {"gpu": None}
    if torch.cuda.is_available():
        about = torch.cuda.get_device_properties(0)
        gpu = {"gpu": about.name, "gpu_memory_gib": round(about.total_memory / 2**30), "cuda": torch.version.cuda}
        record["machine"]["units"] = [*record["machine"]["units"], "cuda"]  # the folder of the record
    record["machine"] |= {**gpu, "missing_wheels": missing_wheels()}
    return record


def main(arguments: Sequence[str] | None = None, start: Any = Contestant) -> int:
    """The command; 1 where a test fails, 0 otherwise, also without a GPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="What one GPU does, as a record.")
    parser.add_argument("-o", "--output", type=Path, help="file of the record (default: records/cuda/gpu.json)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that all of it may take (default: 480)")
    parser.add_argument("--device", help="measure there instead of on the GPU")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether everything runs, not how fast")
    chosen = parser.parse_args(arguments)
    if not _is_installed("platformdirs"):  # which knows the system's place for caches
        os.environ.setdefault("VAEKIT_CACHE", str(Path(tempfile.gettempdir(), "vaekit")))
    device = chosen.device or ("cuda" if torch.cuda.is_available() else None)
    result = Result("h", [Row(TESTS, "pytest", None, "passed", note="there is no GPU here")], {"device": None})
    if device is not None:
        options = Options(quick=chosen.quick, peers=False, start=start, device=device)
        result = run(options, Budget(chosen.seconds, time.monotonic()))
    record = record_of(result, chosen.quick)
    missing = record["machine"]["missing_wheels"]
    print(f"GPU: {record['machine']['gpu'] or 'none here'}; missing wheels: {', '.join(missing) or 'none'}")
    print(table({"gpu": result}))
    if chosen.output is not None:
        chosen.output.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    elif device == "cuda" and not chosen.quick:
        write_record("gpu", record)
    else:
        print(json.dumps(record, indent=2, sort_keys=True))
    return int(not all(result.rows[0].verdicts().values()))


if __name__ == "__main__":
    sys.exit(main())
