"""Contestants that take turns, and what their times say: medians of ratios within rounds, with quartiles."""

import contextlib
import json
import re
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).parents[1]
Turn = dict[str, Any]


class Unavailable(Exception):
    """A contestant that cannot run here, and why."""


class Racer(Protocol):
    """Whoever can be asked to do its unit of work once more."""

    def turn(self, **arguments: Any) -> Turn:
        """One unit of work; at least the `seconds` that it took."""
        ...

    def close(self) -> None:
        """No more turns."""
        ...


class Contestant:
    """A process of its own that does one job, a unit at a time: `python -m benchmarks.workers.WORKER`.

    It reads the job (a line of JSON), prepares it, and then answers each further line by one unit of work and one line
    of JSON with its time. While it waits it computes nothing, so several can alternate.

    Args:
        name: how tables call it.
        worker: module in `benchmarks.workers`.
        job: the keyword `task` and its arguments.
        python: which Python runs it; the peers have one of their own.
        environment: the variables of the process; None inherits.
        timeout: seconds after which a turn that does not answer ends its process.
    """

    def __init__(
        self,
        name: str,
        worker: str,
        job: dict[str, Any],
        python: str | Path = sys.executable,
        environment: dict[str, str] | None = None,
        timeout: float = 1200.0,
    ) -> None:
        self.name, self.timeout = name, timeout
        self._errors: list[str] = []
        command = [str(python), "-m", f"benchmarks.workers.{worker}"]
        pipe = subprocess.PIPE
        try:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True
            )
        except OSError as error:
            raise Unavailable("not installed") from error
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()
        self._send(job)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:  # pipes must be emptied; only the end is of interest
            self._errors = [*self._errors[-20:], line]

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        except OSError as error:
            raise Unavailable(self._reason()) from error

    def turn(self, **arguments: Any) -> Turn:
        """Ask for one unit of work and wait for it."""
        self._send(arguments)
        assert self.process.stdout is not None
        killer = threading.Timer(self.timeout, self.process.kill)
        killer.start()
        try:
            line = self.process.stdout.readline()
        finally:
            killer.cancel()
        if not line:
            raise Unavailable(self._reason())
        return json.loads(line)

    def _reason(self) -> str:
        """The last line of the traceback, without paths of this machine; ends the process."""
        self.close()
        lines = [line.strip() for line in self._errors if line.strip()]
        last = lines[-1] if lines else f"ended with code {self.process.returncode}"
        return re.sub(r"(/[\w.+-]+){2,}", "...", last)[:160]

    def close(self) -> None:
        """End the process: it leaves its loop when its input ends."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(timeout=5)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


def race(
    starters: Mapping[str, Callable[[], Racer]], num_rounds: int, num_warmup: int = 1
) -> tuple[dict[str, list[Turn]], dict[str, str]]:
    """Let contestants take turns, forwards and backwards in alternate rounds (ABBA): a noisy machine slows all alike.

    Args:
        starters: what starts each contestant.
        num_rounds: measured turns of each.
        num_warmup: turns before that, which are not kept; compilation happens there.

    Returns:
        The turns of each contestant, and of those that cannot run here the reason.
    """
    racers: dict[str, Racer] = {}
    turns: dict[str, list[Turn]] = {}
    missing: dict[str, str] = {}
    try:
        for name, start in starters.items():
            try:
                racers[name] = start()
                for _ in range(num_warmup):
                    racers[name].turn()
                turns[name] = []
            except Unavailable as error:
                missing[name] = str(error)
        for i in range(num_rounds):
            for name in list(turns) if i % 2 == 0 else list(turns)[::-1]:
                turns[name].append(racers[name].turn())
    finally:
        for racer in racers.values():
            racer.close()
    return turns, missing


@dataclass(frozen=True)
class Ratio:
    """Median and quartiles of the ratios of several rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Ratio":
        """From one ratio per round."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        quartiles = statistics.quantiles(values, n=4, method="inclusive")
        return cls(statistics.median(values), quartiles[0], quartiles[2])

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def costs(turns: Sequence[Turn], per: str) -> list[float]:
    """Seconds per unit of work of each turn; `per` names the turn's count of units."""
    return [turn["seconds"] / turn[per] for turn in turns]


def times_faster(own: Sequence[float], other: Sequence[float]) -> Ratio:
    """How many times faster than `other`, round by round: cost of the other over own cost."""
    return Ratio.of([b / a for a, b in zip(own, other, strict=True)])
