"""What it costs to start: the library's own import time, and the CPU time of `vaekit --help`.

Own import time is the sum over all modules that `import vaekit` loads and that `import torch` did not (target: 60 ms);
the same is shown for the names of a typical program, which are resolved on first use. `--help` must not load torch
(target: 0.3 s of CPU time). `vaekit score` of two rows and `vaekit info` are shown by what they take beyond `import
torch` (targets: 1.0 s and 0.6 s of CPU time). Medians of several processes.
"""

import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.common import Options, scratch
from benchmarks.report import Result, Row

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


def import_seconds(rounds: int) -> tuple[float, float]:
    """Seconds that `import vaekit` adds to `import torch`, and those of `import torch`; medians."""
    pairs = []
    for _ in range(rounds):
        torch = _import_times(["-c", "import torch"])
        both = _import_times(["-c", "import torch; import vaekit"])
        pairs.append((sum(own for name, own in both.items() if name not in torch), sum(torch.values())))
    added, alone = zip(*pairs, strict=True)
    return statistics.median(added) / 1e3, statistics.median(alone) / 1e3


def _cpu_seconds(*arguments: str) -> float:
    """CPU time of one process of Python, all its threads."""
    command = [sys.executable, *arguments]
    before = os.times()
    subprocess.run(command, capture_output=True, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def run(options: Options) -> Result:
    """Times of fresh processes."""
    rounds = options.num_rounds(NUM_RUNS)
    own = statistics.median(_beyond_torch("import vaekit") for _ in range(rounds))
    program = statistics.median(_beyond_torch(f"import vaekit; {PROGRAM}") for _ in range(rounds))
    rows = [
        Row("import beyond torch", "import vaekit", own, "ms", bars={"ms": 60.0}),
        Row("import beyond torch", "a typical program", program, "ms"),
    ]
    seconds = statistics.median(_cpu_seconds("-m", "vaekit", "--help") for _ in range(rounds))
    note = "loads torch" if "torch" in _import_times(["-m", "vaekit", "--help"]) else "does not load torch"
    rows.append(Row("CPU time", "vaekit --help", seconds, "s", bars={"s": 0.3}, note=note))
    return Result("", [*rows, *_commands(rounds)], {"rounds": rounds})


def _commands(rounds: int) -> list[Row]:
    """What commands on a small run take beyond `import torch`, which takes its turn beside them."""
    with scratch() as folder:
        table, run, out = (str(folder / name) for name in ("rows.csv", "run", "scores.csv"))
        lines = ["a,b,c", *(f"{i}.5,{i * i % 7}.25,{i % 5}.125" for i in range(40))]
        Path(table).write_text("\n".join(lines) + "\n")
        _cpu_seconds("-m", "vaekit", "fit", table, "-o", run, "max_epochs=1")
        Path(table).write_text("\n".join(lines[:3]) + "\n")
        commands = {"vaekit score RUN, 2 rows": ("score", run, table, "-o", out), "vaekit info RUN": ("info", run)}
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            torch = _cpu_seconds("-c", "import torch")
            for name, arguments in commands.items():
                seconds[name].append(_cpu_seconds("-m", "vaekit", *arguments) - torch)
    bars = dict(zip(commands, (1.0, 0.6), strict=True))
    return [
        Row("CPU time beyond torch", name, statistics.median(values), "s", bars={"s": bars[name]})
        for name, values in seconds.items()
    ]
