"""What it costs to start: the library's own import time, and the CPU time of `vaekit --help`.

Own import time is the sum over all modules that `import vaekit` loads and that `import torch` did not (target: 60 ms);
the same is shown for the names of a typical program, which are resolved on first use. `--help` must not load torch
(target: 0.3 s of CPU time). Medians of several processes.
"""

import importlib.util
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

NUM_RUNS = 5
PROGRAM = "vaekit.VAE, vaekit.Trainer, vaekit.save, vaekit.objectives, vaekit.evaluation"


def _import_times(arguments: list[str]) -> dict[str, float]:
    """Own time of each module that a fresh interpreter imports, in ms."""
    command = [sys.executable, "-X", "importtime", *arguments]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    rows = (line.removeprefix("import time:").split("|") for line in output.splitlines() if "|" in line)
    return {name.strip(): int(own) / 1000 for own, _, name in rows if own.strip().isdigit()}


def _beyond_torch(code: str) -> float:
    """Milliseconds of the modules that `code` imports and torch does not, each counted by its own time."""
    before = _import_times(["-c", "import torch"])
    after = _import_times(["-c", f"import torch; {code}"])
    return sum(own for name, own in after.items() if name not in before)


def _help_seconds() -> float:
    """CPU time of one call of `vaekit --help`, all its threads."""
    command = [sys.executable, "-m", "vaekit", "--help"]
    before = os.times()
    subprocess.run(command, capture_output=True, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def run(data_dir: str | Path | None = None) -> dict[str, Any]:
    """Times of fresh processes."""
    own = statistics.median(_beyond_torch("import vaekit") for _ in range(NUM_RUNS))
    program = statistics.median(_beyond_torch(f"import vaekit; {PROGRAM}") for _ in range(NUM_RUNS))
    result = {"import_ms": round(own, 2), "import_ms_target": 60, "import_ms_of_a_program": round(program, 1)}
    if importlib.util.find_spec("vaekit.__main__"):
        seconds = statistics.median(_help_seconds() for _ in range(NUM_RUNS))
        loads_torch = "torch" in _import_times(["-m", "vaekit", "--help"])
        result |= {"help_cpu_s": round(seconds, 3), "help_cpu_s_target": 0.3, "help_loads_torch": loads_torch}
    return result
