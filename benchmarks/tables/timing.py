"""What a user waits for: a table fitted, and each of the four answers; 1,000,000 rows in bounded memory.

Value: seconds. Memory: the peak of a process that reads a parquet file of 1,000,000 x 20 numbers, trains for one epoch
and scores all rows, beside the size of the rows themselves.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import vaekit as vk
from benchmarks.common import Options, scratch
from benchmarks.tables.sets import Tables

Found = dict[str, dict[str, Any]]
ROOT = Path(__file__).parents[2]


def jobs(tables: Tables, options: Options) -> Iterator[tuple[str, Callable[[], Found]]]:
    """Two sets, a table of 3,500 x 30, and a large one."""
    for name, label in (("credit_data", "Status"), ("shuttle", "Class"))[: options.size(2, 1)]:
        yield f"time-{name}", lambda name=name, label=label: of_file(tables, name, label, options)
    yield "time-3500x30", lambda: of_detector(options)
    if not options.quick:
        yield "time-1000000x20", lambda: of_large(options)


def of_file(tables: Tables, name: str, label: str, options: Options) -> Found:
    """Seconds of each command's work on one run: fit, score, impute, sample, encode."""
    path, tiny = tables.folder / f"{name}.csv.gz", {"max_epochs": 1, "hidden": "8"} if options.quick else {}
    with scratch() as folder:
        steps: dict[str, Callable[[vk.runs.Run | None], Any]] = {
            "fit": lambda _: vk.runs.fit(str(path), folder / "run", {"compile": "off", **tiny}, label=label),
            "score": lambda run: run.score(run.rows()),
            "impute": lambda run: run.impute(run.rows()),
            "sample": lambda run: run.sample(10_000),
            "encode": lambda run: run.encode(run.rows()),
        }
        found, run = {}, None
        for step, work in steps.items():
            started = time.perf_counter()
            work(run)
            found[step] = time.perf_counter() - started
            run = run or vk.runs.open(folder / "run")
    return {"vaekit": {"0": {**found, "all": sum(found.values())}}}


def of_detector(options: Options) -> Found:
    """`VAEDetector.fit` of 3,500 x 30 numbers at its defaults."""
    random = np.random.default_rng(0)
    num_rows = options.size(3_500, 100)
    x = random.normal(size=(num_rows, 8)) @ random.normal(size=(8, 30)) + 0.3 * random.normal(size=(num_rows, 30))
    tiny: dict[str, Any] = {"max_epochs": 1, "hidden": (8,)} if options.quick else {}
    started = time.perf_counter()
    vk.estimators.VAEDetector(random_state=0, **tiny).fit(x)
    return {"vaekit": {"0": {"fit": time.perf_counter() - started}}}


_LARGE = """
import sys, time, resource
import vaekit as vk
started = time.perf_counter()
vk.runs.fit(sys.argv[1], sys.argv[2], {"max_epochs": 1, "compile": "off"}, progress=False)
fitted = time.perf_counter()
run = vk.runs.open(sys.argv[2])
run.score(run.rows(), num_samples=10)
print(fitted - started, time.perf_counter() - fitted, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)
"""


def of_large(options: Options) -> Found:
    """Seconds of an epoch and of a score, and the peak of memory, of a process of its own."""
    import pyarrow as pa
    from pyarrow import parquet

    random = np.random.default_rng(0)
    x = random.normal(size=(1_000_000, 20))
    with scratch() as folder:
        parquet.write_table(pa.table({f"x{i}": x[:, i] for i in range(20)}), folder / "x.parquet")
        arguments = [sys.executable, "-c", _LARGE, str(folder / "x.parquet"), str(folder / "run")]
        done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True)
    fit, score, peak = map(float, done.stdout.split()[-3:])
    return {"vaekit": {"0": {"fit": fit, "score": score, "peak MiB": peak, "rows MiB": x.nbytes / 2**20}}}
