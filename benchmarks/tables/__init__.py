"""(k) One fitted model and its four answers, beside the tools that give one each; writes `benchmarks/tables.md`.

Jobs are short of an hour each, and their records stand in `records/KIND/tables`: a job that has one is not done again,
so the whole can be stopped and goes on where it was. What a job finds does not depend on the kind of machine, seconds
aside: only the jobs of time are done on each. Delete a record to measure anew. `VAEKIT_TABLES=time` does the jobs with
that in their names alone.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import Options
from benchmarks.report import RECORDS, Result, Row, machine, rounded
from benchmarks.tables import detection, imputation, page, rare, synthesis, timing
from benchmarks.tables.sets import Tables

PAGE = Path(__file__).parents[1] / "tables.md"
Found = dict[str, dict[str, Any]]


def jobs(tables: Tables, options: Options) -> Iterator[tuple[str, Callable[[], Found]]]:
    """All jobs by name, the quickest first."""
    yield from rare.jobs(options)
    yield from timing.jobs(tables, options)
    yield from imputation.jobs(tables, options)
    yield from detection.jobs(tables, options)
    yield from synthesis.jobs(tables, options)


def run(options: Options) -> Result:
    """Do the jobs that have no record, and write the page of all records."""
    folder = options.folder()
    if folder is None or not (folder / "tables" / "tables.json").exists():
        return Result("k", [Row("tables", "vaekit", None, "", note="the tables are not there: --data-dir")], {})
    kind = next(iter(machine()["units"][::-1]), "plain")
    place = RECORDS / kind / "tables"
    only = os.environ.get("VAEKIT_TABLES")
    known = stored(place)
    for name, work in jobs(Tables(folder / "tables"), options):
        path = place / f"{name}.json"
        is_done = path.exists() or (name in known and not name.startswith("time"))
        if (is_done and not options.quick) or (only and only not in name):
            continue
        started = time.perf_counter()
        found = work()
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        if options.quick:
            continue
        place.mkdir(parents=True, exist_ok=True)
        record = rounded({"name": name, "machine": machine(), "contestants": found})
        path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    records = stored(place)
    if not options.quick:
        PAGE.write_text(page.written(records), encoding="utf-8")
    return Result("k", page.rows(records), {"jobs": len(records)})


def stored(place: Path) -> dict[str, Any]:
    """The record of each job: that of this kind of machine where there is one, or one of another."""
    others = sorted(RECORDS.glob("*/tables/*.json"))
    paths = {path.stem: path for path in [*others, *sorted(place.glob("*.json"))]}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in sorted(paths.items())}
