"""The processes that Ray has started for a command of a test, and what they are to be asked for."""

import os
import subprocess
import sys
import time

MARK = "VAEKIT_TEST"


def started(folder, *arguments, **variables):
    """`vaekit` as a process of its own, whose Ray is known by a mark."""
    command = [sys.executable, "-m", "vaekit", *map(str, arguments)]
    environment = {**os.environ, MARK: "1", "OMP_NUM_THREADS": "1", **variables}
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def worker(process, *marks):
    """The pid of a process of Ray's whose title has these words, once it has begun to work."""
    for _ in range(3000):
        found = workers(*marks)
        if found:
            return found[0]
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    raise AssertionError("no actor came")


def workers(*marks):
    """The pids of all of them that are there now."""
    found = []
    for name in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                words = file.read()
            with open(f"/proc/{name}/environ", "rb") as file:
                is_ours = f"{MARK}=1".encode() in file.read()
        except OSError:
            continue
        if is_ours and words.startswith(b"ray::") and all(mark in words for mark in marks):
            found.append(int(name))
    return found


def until(condition, process, seconds=500.0):
    """Wait for something that a process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)
