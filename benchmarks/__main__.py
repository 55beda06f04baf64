"""`python -m benchmarks [NAME ...] [--quick] [--rounds R] [--no-peers] [--data-dir DIR]`: measure, print one table.

Also write the records, `records/KIND/NAME.json`, unless sizes are those of `--quick`.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from importlib import import_module

from benchmarks import venv
from benchmarks.common import Options
from benchmarks.race import Unavailable
from benchmarks.report import Result, machine, table, to_record, write_record

NAMES = (
    *("machine", "training", "conv", "evaluation", "wall", "small", "scaling", "memory", "startup", "anomalies"),
    *("scoring", "serve", "scale", "network", "tables"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code, 1 where a benchmark could not be run at all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed beside peers and bare loops.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(NAMES)} (default: all)")
    parser.add_argument("--data-dir", help="folder with MNIST and tables (default: $VAEKIT_DATA, else synthetic)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether everything runs, not how fast")
    parser.add_argument("--rounds", type=int, help="measured turns of each contestant (default: as each states)")
    parser.add_argument("--no-peers", action="store_true", help="without pythae, ctgan and pyod; installs nothing")
    chosen = parser.parse_args(arguments)
    unknown = sorted(set(chosen.names) - set(NAMES))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    options = Options(chosen.data_dir, chosen.quick, not chosen.no_peers, chosen.rounds)
    if options.peers and not venv.ensure():
        print("not every peer could be installed; their rows will say so", file=sys.stderr)
    results: dict[str, Result] = {}
    failed = False
    for name in chosen.names or NAMES:
        started = time.perf_counter()
        print(f"{name} ...", file=sys.stderr, end=" ", flush=True)
        try:
            results[name] = import_module(f"benchmarks.{name}").run(options)
        except Unavailable as error:
            failed = True
            print(f"failed: {error}", file=sys.stderr)
            continue
        print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        if not options.quick:
            write_record(name, to_record(name, results[name]))
    facts = machine()
    where = f"{facts['cpu']}, {', '.join(facts['units'])}, {facts['cores']} cores, {facts['threads']} threads"
    print(f"{where}, torch {facts['versions']['torch']}, load {facts['load']}")
    print(table(results))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
