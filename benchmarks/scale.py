"""(m) Past one process: training in a group, rows on disk, and a large table scored on Ray.

- Training: the MLP (784-512-20) and the convolutional preset, batch 128, eager float32, by one process with two threads
  and by two with one each; with the share of time in messages. On two cores more processes cannot be faster: what is
  measured is what dividing costs.
- Streaming: an epoch of parquet parts on disk beside the same rows in memory (target: 0.8 of the rows per second).
- Scoring: `vaekit score` of parts of 20 columns (hidden=64,64, K = 10) by one process and by two actors of Ray, with
  the peak memory of all their processes; then once more, killed at half and begun again.
- Recovery: from the death of a worker of `vaekit fit --workers 2` to the next epoch.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vaekit as vk
from benchmarks.common import Options, scratch
from benchmarks.report import Result, Row

FULL = {"rows": 12_800, "conv_rows": 2_560, "epochs": 3, "disk_rows": 400_000, "scored": 10_000_000, "part": 250_000}
QUICK = {"rows": 512, "conv_rows": 256, "epochs": 1, "disk_rows": 4_000, "scored": 4_000, "part": 1_000}
_WORKER = Path(__file__).parent / "workers" / "group_training.py"
_MARK = "VAEKIT_BENCHMARK"


def run(options: Options) -> Result:
    """Everything, one after the other."""
    sizes = options.size(FULL, QUICK)
    rows = [*_training(sizes), *_streaming(sizes)]
    with scratch() as folder:
        rows += _scoring(sizes, folder)
        rows += _recovery(folder)
    return Result("m", rows, sizes)


# --- Training --------------------------------------------------------------------------------------------------------


def _training(sizes: dict[str, int]) -> list[Row]:
    found = []
    for kind, num_rows in (("mlp", sizes["rows"]), ("conv", sizes["conv_rows"])):
        alone = None
        for workers in (1, 2):
            said = _group(workers, kind, str(num_rows), str(sizes["epochs"]))
            measures = {"share of messages": said["share"], "ms per step": said["step_ms"]}
            measures["messages per step"] = said["messages_per_step"]
            if alone is not None:
                measures["times one process"] = said["rows_per_second"] / alone
            alone = alone or said["rows_per_second"]
            name = f"{workers} process{'es' if workers > 1 else ''}"
            found.append(Row(f"training, {kind}", name, said["rows_per_second"], "rows/s", measures=measures))
    return found


def _group(workers: int, *arguments: str) -> dict[str, float]:
    """What process 0 of a group says; cores are divided among the processes."""
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    words = ["-m", "torch.distributed.run", "--nproc-per-node", str(workers)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join([str(Path.cwd())])}
    done = subprocess.run(
        [sys.executable, *words, str(_WORKER), *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the group failed: {done.stderr[-500:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


# --- Rows on disk ----------------------------------------------------------------------------------------------------


def _streaming(sizes: dict[str, int]) -> list[Row]:
    found, speed = [], {}
    with scratch() as folder:
        _write_parts(folder / "parts", sizes["disk_rows"], sizes["disk_rows"] // 8)
        for name, in_memory in (("in memory", True), ("on disk", False)):
            rows = vk.data.load(str(folder / "parts"), in_memory=in_memory)
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model, objective = vk.presets.vae((20,), latent_dim=8, hidden=(64, 64), likelihood="normal")
            trainer = vk.Trainer(max_epochs=3, batch_size=512, compile="off", progress=False)
            speed[name] = len(rows) / min(trainer.fit(model, objective, rows)["seconds"])
            measures = {"times memory": speed[name] / speed["in memory"]}
            found.append(Row("an epoch of 20 columns", name, speed[name], "rows/s", measures=measures))
    return found


def _write_parts(folder: Path, num_rows: int, size: int) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    folder.mkdir()
    mix = np.random.default_rng(0).normal(size=(6, 20))
    for number, start in enumerate(range(0, num_rows, size)):
        rng = np.random.default_rng(1 + number)
        count = min(size, num_rows - start)
        x = rng.normal(size=(count, 6)) @ mix + 0.5 * rng.normal(size=(count, 20))
        table = pa.table({f"c{i}": x[:, i] for i in range(20)})
        parquet.write_table(table, folder / f"{number:05d}.parquet")


# --- Scoring ---------------------------------------------------------------------------------------------------------


class _Watched:
    """A command with the peak memory of all its processes: the sum of what each has for itself, and of shared pages."""

    def __init__(self, words: list[str], folder: Path) -> None:
        self._mark, self.peak, self._done = uuid.uuid4().hex, 0, threading.Event()
        environment = {**os.environ, _MARK: self._mark, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vaekit", *words], cwd=folder, env=environment, stderr=subprocess.DEVNULL
        )
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        while not self._done.wait(1.0):
            self.peak = max(self.peak, sum(_memory(pid) for pid in self._own()))

    def _own(self) -> list[int]:
        mark, found = f"{_MARK}={self._mark}".encode(), []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (path / "environ").read_bytes():
                    found.append(int(path.name))
            except OSError:
                continue
        return found

    def wait(self) -> int:
        code = self.process.wait()
        self._done.set()
        self._watcher.join()
        return code

    def kill(self) -> None:
        """End all its processes at once."""
        for pid in self._own():
            if pid != os.getpid():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        self.wait()


def _memory(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0


def _scoring(sizes: dict[str, int], folder: Path) -> list[Row]:
    parts = folder / "parts"
    _write_parts(parts, sizes["scored"], sizes["part"])
    given = {"hidden": (64, 64), "latent_dim": 6, "max_epochs": 2, "compile": "off"}
    vk.runs.fit(str(parts / "00000.parquet"), folder / "run", given, progress=False)
    words = ["score", "run", "parts/*.parquet", "--num-samples", "10", "-o"]
    ray = ["--engine", "ray", "--workers", "2"]
    case, found = f"scoring {sizes['scored']:,} x 20, K = 10", []
    for name, more in (("one process", []), ("Ray, 2 workers", ray)):
        started = time.perf_counter()
        watched = _Watched([*words, name[:3], *more], folder)
        if watched.wait():
            raise RuntimeError(f"{name} failed")
        seconds = time.perf_counter() - started
        measures = {"seconds": seconds, "peak GiB": watched.peak / 2**30}
        found.append(Row(case, name, sizes["scored"] / seconds, "rows/s", measures=measures))
    half = -(-sizes["scored"] // sizes["part"]) // 2
    watched = _Watched([*words, "half", *ray], folder)
    while len(_answers(folder / "half")) < half and watched.process.poll() is None:
        time.sleep(0.1)
    watched.kill()
    before = {path.name: path.stat().st_mtime_ns for path in _answers(folder / "half")}
    started = time.perf_counter()
    if _Watched([*words, "half", *ray], folder).wait():
        raise RuntimeError("what was killed did not go on")
    again = sum(path.stat().st_mtime_ns != before.get(path.name) for path in _answers(folder / "half"))
    measures = {"parts that stood": len(before), "parts answered then": again}
    note = "killed (all processes) at half of the parts; seconds of the second start"
    found.append(Row(case, "Ray, again", time.perf_counter() - started, "s", measures=measures, note=note))
    return found


def _answers(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


# --- Recovery --------------------------------------------------------------------------------------------------------


def _recovery(folder: Path) -> list[Row]:
    words = ["fit", "parts/00000.parquet", "-o", "group", "--workers", "2", "max_epochs=2000", "patience=2000"]
    words += ["checkpoint_every=1", "compile=off", "hidden=64,64", "latent_dim=6", "preset=vae", "likelihood=normal"]
    watched = _Watched(words, folder)
    metrics = folder / "group" / "metrics.jsonl"
    _await(metrics, 3, watched)
    worker = next(pid for pid in watched._own() if pid != watched.process.pid and _rank(pid) == "1")
    os.kill(worker, signal.SIGKILL)
    started, seen = time.perf_counter(), len(_lines(metrics))
    _await(metrics, seen + 2, watched)
    seconds = time.perf_counter() - started
    watched.kill()
    return [Row("a worker of two is killed", "vaekit fit --workers 2", seconds, "s", note="until two further epochs")]


def _rank(pid: int) -> str:
    words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next((word[5:].decode() for word in words if word.startswith(b"RANK=")), "")


def _lines(path: Path) -> list[Any]:
    return path.read_text().splitlines() if path.exists() else []


def _await(path: Path, num: int, watched: _Watched) -> None:
    end = time.monotonic() + 300
    while len(_lines(path)) < num:
        if watched.process.poll() is not None or time.monotonic() > end:
            watched.kill()
            raise RuntimeError(f"training ended before epoch {num}")
        time.sleep(0.05)


if __name__ == "__main__":
    print(run(Options(quick="--quick" in sys.argv)))
