"""(l) A service beside 40 lines of FastAPI and torch: `vaekit serve` and `workers/bare_service.py`, taking turns.

Both answer log p(x) of a table of 10 columns by K = 100 draws and a 400-400 network, with one thread of torch each; the
bare program draws one noise for all rows, checks nothing and gives no errors. One client asks one row after another
(target: the 99% quantile of the latency at most 3 ms above the bare program's); 32 clients do (target: 1.5 times its
requests per second); one request has 10,000 rows (target: 0.8 times its rows per second). Then requests come at twice
the rate that 32 clients got, whatever becomes of them (targets: none is lost, and memory stays within 5%).

`python -m benchmarks.serve SECONDS` does that last part alone for as long as you like.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import vaekit as vk
from benchmarks.common import Options, scratch
from benchmarks.load import Told, at_a_rate, one_after_another, request
from benchmarks.race import costs, times_faster
from benchmarks.report import Result, Row

COLUMNS, THREADS, CLIENTS = 10, 1, 32
SECONDS, ROUNDS, OVERLOAD = 3.0, 3, 60.0
OURS, BARE = "vaekit serve", "FastAPI + torch"
_PATHS = {OURS: "/v1/models/run/score", BARE: "/score"}
_BARE_PROGRAM = Path(__file__).parent / "workers" / "bare_service.py"


class Running:
    """A service in a process of its own, from its start to its first open connection.

    Args:
        name: `OURS` or `BARE`.
        run: the folder of the run.
    """

    def __init__(self, name: str, run: Path) -> None:
        with socket.socket() as door:
            door.bind(("127.0.0.1", 0))
            self.port = door.getsockname()[1]
        words = {
            OURS: ["-m", "vaekit", "serve", str(run), "--port", str(self.port), "--threads", str(THREADS)],
            BARE: [str(_BARE_PROGRAM), str(run), str(self.port), str(THREADS)],
        }
        started = time.perf_counter()
        self.name = name
        self.process = subprocess.Popen([sys.executable, *words[name]], stderr=subprocess.DEVNULL)
        while not self._is_open():
            if self.process.poll() is not None or time.perf_counter() - started > 120:
                raise RuntimeError(f"{name} did not start")
            time.sleep(0.02)
        self.start_seconds = time.perf_counter() - started
        at_once = one_after_another(self.port, self.messages([[[0.0] * COLUMNS]]), 1, 0.5)  # what is slow but once
        assert at_once.lost == 0

    def _is_open(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def messages(self, rows: list[list[list[float]]]) -> list[bytes]:
        """A request for each list of rows."""
        return [request(_PATHS[self.name], json.dumps({"rows": some}).encode()) for some in rows]

    @property
    def mebibytes(self) -> float:
        """Resident memory."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

    @property
    def cpu_seconds(self) -> float:
        """Seconds of processors that it has taken, which other work on the machine hardly moves."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(60)


@contextmanager
def services(quick: bool, *names: str) -> Iterator[list[Running]]:
    """The services, around one run that is fitted for them."""
    with scratch() as folder:
        x = np.random.default_rng(0).normal(size=(2000, COLUMNS)) @ np.random.default_rng(1).normal(size=(COLUMNS,) * 2)
        np.save(folder / "x.npy", x)
        settings = {"max_epochs": 1 if quick else 30, "compile": "off"}
        vk.runs.fit(str(folder / "x.npy"), folder / "run", settings, progress=False)
        running: list[Running] = []
        try:
            for name in names:
                running.append(Running(name, folder / "run"))
            yield running
        finally:
            for one in running:
                one.end()


def _rows(num: int) -> list[list[float]]:
    x = np.random.default_rng(2).normal(size=(num, COLUMNS)) @ np.random.default_rng(1).normal(size=(COLUMNS,) * 2)
    found: list[list[float]] = x.tolist()
    return found


def run(options: Options) -> Result:
    """All four."""
    rounds, seconds = options.num_rounds(ROUNDS), options.size(SECONDS, 0.3)
    with services(options.quick, OURS, BARE) as running:
        start = [
            Row("start, until it answers", one.name, one.start_seconds, "s", measures={"MiB": one.mebibytes})
            for one in running
        ]
        lone = _turns(running, [[row] for row in _rows(256)], 1, seconds, rounds)
        many = _turns(running, [[row] for row in _rows(256)], CLIENTS, seconds, rounds)
        large = _turns(running, [_rows(options.size(10_000, 100))], 1, 0.01, rounds)
    rows = [*start, *_latency(lone), *_rates(f"{CLIENTS} clients", many, "requests/s", 1, 1.5)]
    rows += _rates("10,000 rows", large, "rows/s", options.size(10_000, 100), 0.8)
    capacity = statistics.median(told.rate for told in many[OURS])
    rows.append(overload(options.quick, capacity, options.size(OVERLOAD, 1.0)))
    return Result("l", rows, {"rounds": rounds, "seconds": seconds, "threads": THREADS, "cores": os.cpu_count()})


def _turns(
    running: list[Running], rows: list[list[list[float]]], clients: int, seconds: float, rounds: int
) -> dict[str, list[Told]]:
    """What clients saw of each service, which take turns."""
    found: dict[str, list[Told]] = {one.name: [] for one in running}
    for _ in range(rounds):
        for one in running:
            before = one.cpu_seconds
            told = one_after_another(one.port, one.messages(rows), clients, seconds)
            told.cpu_seconds = (one.cpu_seconds - before) / max(1, len(told.seconds))
            found[one.name].append(told)
    return found


def _latency(told: dict[str, list[Told]]) -> list[Row]:
    """The 99% quantile of each, and how far one lies above the other: the median over rounds."""
    above = [1e3 * (a.quantile(0.99) - b.quantile(0.99)) for a, b in zip(told[OURS], told[BARE], strict=True)]
    rows = []
    for name, turns in told.items():
        measures = {"p50 ms": 1e3 * statistics.median(turn.quantile(0.5) for turn in turns)}
        measures |= {"CPU ms": 1e3 * statistics.median(turn.cpu_seconds for turn in turns)}
        bars = {"ms above": 3.0} if name == OURS else {}
        measures |= {"ms above": statistics.median(above)} if name == OURS else {}
        p99 = 1e3 * statistics.median(turn.quantile(0.99) for turn in turns)
        rows.append(Row("one client, p99", name, p99, "ms", measures=measures, bars=bars))
    return rows


def _rates(case: str, told: dict[str, list[Told]], unit: str, per: int, bar: float) -> list[Row]:
    turns = {
        name: [{"seconds": turn.duration, "requests": len(turn.seconds)} for turn in some]
        for name, some in told.items()
    }
    own = {name: costs(some, "requests") for name, some in turns.items()}
    rows = []
    for name, values in own.items():
        ratios = {BARE: times_faster(values, own[BARE])} if name == OURS else {}
        measures = {"p99 ms": 1e3 * statistics.median(turn.quantile(0.99) for turn in told[name])}
        measures |= {"CPU ms": 1e3 * statistics.median(turn.cpu_seconds for turn in told[name])}
        value = per / statistics.median(values)
        rows.append(Row(case, name, value, unit, ratios, {BARE: bar} if ratios else {}, measures=measures))
    return rows


def overload(quick: bool, capacity: float, seconds: float) -> Row:
    """Twice as many requests as the service can answer; memory once it is warm, and at the end."""
    with services(quick, OURS) as (one,):
        messages = one.messages([[row] for row in _rows(256)])
        at_a_rate(one.port, messages, 2 * capacity, min(10.0, seconds / 2))
        before = one.mebibytes
        told = at_a_rate(one.port, messages, 2 * capacity, seconds)
        growth = 100 * (one.mebibytes / before - 1)
    measures = {"lost": float(told.lost), "answered/s": told.rate, "refused/s": told.statuses[429] / told.duration}
    measures |= {"other": float(sum(told.statuses.values()) - told.statuses[200] - told.statuses[429])}
    measures |= {"p99 ms": 1e3 * told.quantile(0.99), "MiB": before, "growth %": growth}
    bars = {"lost": 0.0, "other": 0.0, "growth %": 5.0}
    return Row(f"twice the capacity, {seconds:g} s", OURS, 2 * capacity, "requests/s", measures=measures, bars=bars)


if __name__ == "__main__":
    with services(False, OURS) as (_one,):
        _told = one_after_another(_one.port, _one.messages([[row] for row in _rows(256)]), CLIENTS, 5.0)
    print(overload(False, _told.rate, float(sys.argv[1])))
