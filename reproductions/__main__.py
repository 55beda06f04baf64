"""`python -m reproductions NAME [--data-dir DIR]`: measure, print the table, write the record.

Exits with 1 where a number misses its gate.
"""

import argparse
import dataclasses
import json
import pkgutil
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy
import torch

import vaekit
from reproductions.result import Result

HERE = Path(__file__).parent
RECORDS = HERE / "records"


def targets() -> dict[str, str]:
    """Name of each target (with hyphens) to its module."""
    modules = (module.name for module in pkgutil.iter_modules([str(HERE)]))
    return {
        name.replace("_", "-"): name
        for name in modules
        if name not in ("__main__", "budget_table", "few_labels", "result")
    }


def reproduce(name: str, data_dir: str | Path | None = None) -> Result:
    """Run one target and time it.

    Args:
        name: a key of `targets()`.
        data_dir: folder with named data sets; None looks where `vk.data.load` looks.
    """
    started = time.perf_counter()
    result = import_module(f"reproductions.{targets()[name]}").run(data_dir)
    return dataclasses.replace(result, seconds=result.seconds or time.perf_counter() - started)


def write_record(name: str, result: Result) -> Path:
    """Write `records/NAME.json`: the result and the versions that it depends on."""
    versions = {"vaekit": vaekit.__version__, "torch": torch.__version__, "numpy": numpy.__version__}
    record: dict[str, Any] = {"name": name, "versions": versions, **result.to_dict()}
    RECORDS.mkdir(exist_ok=True)
    path = RECORDS / f"{name}.json"
    path.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return path


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def table(name: str, result: Result) -> str:
    """Published and measured numbers, gates and the time, as plain text."""
    rows = [("quantity", "published", "measured", "gate", "")]
    for c in result.checks:
        gate = f"[{_number(c.low)}, {_number(c.high)}]"
        rows.append((c.quantity, _number(c.published), _number(c.measured), gate, "ok" if c.passed else "MISSED"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"{key}: {value}" for key, value in result.details.items()]
    return "\n".join([f"{name}: {'passed' if result.passed else 'MISSED'} in {result.seconds:.1f} s", *lines])


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m reproductions", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", choices=sorted(targets()), help="what to reproduce")
    parser.add_argument("--data-dir", help="folder with the named data sets (default: $VAEKIT_DATA)")
    options = parser.parse_args(arguments)
    try:
        result = reproduce(options.name, options.data_dir)
    except vaekit.errors.VaekitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_record(options.name, result)
    print(table(options.name, result))
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(main())
