"""The worker's end of a race: one job, then one unit of work per line of input, each answered by one line of JSON."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO


def peak_rss_mib() -> float:
    """The largest resident memory that this process has had, in MiB (NaN where the system does not tell)."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent had when it started this process
        lines = status.read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 2**10
    try:
        import resource
    except ImportError:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


class Turns:
    """Waits for the word to go, keeps the time, and reports.

    Args:
        lines: where requests come from, one line of JSON (arguments) each.
        answers: where reports go.
    """

    def __init__(self, lines: TextIO, answers: TextIO) -> None:
        self._lines, self._answers = lines, answers
        self.arguments: dict[str, Any] = {}
        self._started = 0.0

    def wait(self) -> bool:
        """Block until the next request; False when there will be none. The clock starts when it returns."""
        line = self._lines.readline()
        if not line.strip():
            return False
        self.arguments = json.loads(line)
        self._started = time.perf_counter()
        return True

    def restart(self) -> None:
        """Start the clock again, after preparations that do not count."""
        self._started = time.perf_counter()

    def report(self, **result: Any) -> None:
        """Answer the request: what was done, and the seconds since it came unless `result` has its own."""
        seconds = time.perf_counter() - self._started
        answer = {"seconds": seconds, "peak_rss_mib": peak_rss_mib(), **result}
        self._answers.write(json.dumps(answer) + "\n")
        self._answers.flush()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while self.wait():
            yield self.arguments


def serve(**tasks: Callable[..., None]) -> None:
    """Run the task that the first line of stdin names, on its arguments; what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job = json.loads(sys.stdin.readline())
    tasks[job.pop("task")](Turns(sys.stdin, answers), **job)
