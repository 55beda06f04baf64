"""What tests of the service share: runs of several kinds, and the program as a process of its own."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import numpy as np

import vaekit as vk

TINY = {"max_epochs": 1, "hidden": "8", "compile": "off"}
CITIES = ("Aachen", "Bonn", "Celle")


def records(num, seed=0):
    """Rows of a table of three kinds of columns."""
    rng = np.random.default_rng(seed)
    ages, incomes = rng.integers(18, 90, num), rng.lognormal(3, 1, num)
    cities = rng.choice(CITIES, num)
    return [
        {"age": float(age), "income": float(income), "city": str(city)}
        for age, income, city in zip(ages, incomes, cities, strict=True)
    ]


def write_csv(path, rows):
    lines = [",".join(rows[0]), *(",".join("" if v is None else str(v) for v in row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def fit_people(folder):
    """The run people, of a table of words and numbers."""
    write_csv(folder / "people.csv", records(300))
    vk.runs.fit(str(folder / "people.csv"), folder / "people", TINY, progress=False)
    return folder


def fit_all(folder):
    """Runs people (a table of words and numbers), numbers (an array), images, and classes (a table with labels)."""
    fit_people(folder)
    rng = np.random.default_rng(1)
    np.save(folder / "numbers.npy", rng.normal(size=(200, 4)))
    vk.runs.fit(str(folder / "numbers.npy"), folder / "numbers", TINY, progress=False)
    vk.runs.fit("digits", folder / "images", TINY, progress=False)
    labelled = [{"a": float(x), "b": float(y), "kind": "up" if x > 0 else "down"} for x, y in rng.normal(size=(200, 2))]
    write_csv(folder / "classes.csv", labelled)
    settings = {**TINY, "preset": "conditional-vae"}
    vk.runs.fit(str(folder / "classes.csv"), folder / "classes", settings, label="kind", progress=False)
    return folder


class Service:
    """A process of `vaekit serve`, its base URL and what it has logged."""

    def __init__(self, *arguments, env=None):
        command = [sys.executable, "-m", "vaekit", "serve", *map(str, arguments), "--port", "0"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
        self.lines, self._new = [], queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        ready = self.wait("ready", 120)
        self.url = f"http://127.0.0.1:{ready['port']}"

    def _read(self):
        with self.process.stderr as stream:
            for line in stream:
                self.lines.append(line)
                self._new.put(line)
        self._new.put("")

    def wait(self, event, seconds=30):
        """The next line of the log about an event."""
        while True:
            line = self._new.get(timeout=seconds)
            assert line, f"the service ended: {self.lines}"
            said = json.loads(line) if line.startswith("{") else {}
            if said.get("event") == event:
                return said

    def send(self, number):
        self.process.send_signal(number)

    def end(self):
        """End the service as systemd does, and return its exit code."""
        if self.process.poll() is None:
            self.send(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def service(*arguments, env=None):
    found = Service(*arguments, env=env)
    try:
        yield found
    finally:
        try:
            found.end()
        finally:
            found.process.kill()
