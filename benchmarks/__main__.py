"""`python -m benchmarks [NAME ...] [--data-dir DIR]`: measure, print one table, write `records/NAME.json`."""

import argparse
import json
import pkgutil
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

import vaekit

HERE = Path(__file__).parent


def available() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules([str(HERE)]) if m.name not in ("__main__", "common"))


def write_record(name: str, result: dict[str, Any]) -> None:
    versions = {"vaekit": vaekit.__version__, "torch": torch.__version__}
    record = {"name": name, "threads": torch.get_num_threads(), "versions": versions, **result}
    (HERE / "records").mkdir(exist_ok=True)
    (HERE / "records" / f"{name}.json").write_text(
        json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed beside hand-written loops.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(available())} (default: all)")
    parser.add_argument("--data-dir", help="folder with MNIST (default: $VAEKIT_DATA, else synthetic bits)")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(available()))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(available())}")
    for name in options.names or available():
        result = import_module(f"benchmarks.{name}").run(options.data_dir)
        write_record(name, result)
        for key, value in result.items():
            print(f"{name:12}  {key:24}  {value}", flush=True)


if __name__ == "__main__":
    main()
