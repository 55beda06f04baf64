"""What a benchmark returns, the one table, and the records."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

import vaekit as vk
from benchmarks.race import Ratio, Turn, costs, times_faster

RECORDS = Path(__file__).parent / "records"


@dataclass
class Row:
    """One contestant's line.

    Args:
        case: what was done.
        contestant: who did it.
        value: the median; None where it could not be measured.
        unit: of the value.
        faster_than: how many times faster (or smaller) than each reference.
        bars: the least such ratio that is asked for, by reference; for a measure or the unit, the greatest value.
        roofline: fraction of the machine's measured peak that it reached.
        measures: other numbers, by name; differences in nats count by their size.
        note: what else is to be known.
    """

    case: str
    contestant: str
    value: float | None
    unit: str
    faster_than: dict[str, Ratio] = field(default_factory=dict)
    bars: dict[str, float] = field(default_factory=dict)
    roofline: float | None = None
    note: str = ""
    measures: dict[str, float] = field(default_factory=dict)

    def verdicts(self) -> dict[str, bool]:
        """Whether each bar is reached, as far as it could be measured."""
        reached = {k: self.faster_than[k].median >= bar for k, bar in self.bars.items() if k in self.faster_than}
        measured = self.measures if self.value is None else {self.unit: self.value, **self.measures}
        return reached | {k: abs(measured[k]) <= bar for k, bar in self.bars.items() if k in measured}


@dataclass
class Result:
    """All rows of one benchmark; `part` is its letter, `settings` the sizes it ran at."""

    part: str
    rows: list[Row]
    settings: dict[str, Any]


def rows_of_race(
    case: str,
    turns: dict[str, list[Turn]],
    missing: dict[str, str],
    *,
    per: str,
    unit: str,
    scale: float = 1.0,
    references: Sequence[str] = (),
    bars: dict[str, dict[str, float]] | None = None,
    notes: dict[str, str] | None = None,
    show: Sequence[str] = (),
) -> list[Row]:
    """One row per contestant: the median cost of a unit of work, and the ratios to the references.

    Args:
        case: what was done.
        turns: from `race`.
        missing: from `race`.
        per: the count of units in a turn.
        unit: of the printed value.
        scale: units of the printed value per second.
        references: contestants that the others are compared with.
        bars: by contestant, see `Row`.
        notes: by contestant.
        show: what else of the last turn belongs into the row.
    """
    notes, bars = notes or {}, bars or {}
    own = {name: costs(results, per) for name, results in turns.items()}
    rows = []
    for name, values in own.items():
        ratios = {other: times_faster(values, own[other]) for other in references if other in own and other != name}
        value = scale * statistics.median(values)
        measures = {key: turns[name][-1][key] for key in show if key in turns[name][-1]}
        note = notes.get(name, "")
        rows.append(Row(case, name, value, unit, ratios, bars.get(name, {}), note=note, measures=measures))
    return rows + [Row(case, name, None, unit, note=reason) for name, reason in missing.items()]


def machine() -> dict[str, Any]:
    """What the numbers depend on: processor, threads, load, versions; nothing that names the machine.

    The load is the mean number of processes that wanted a core during the last minute: above the number of cores, the
    machine was busy with other work too, and only the ratios mean something.
    """
    model, flags = platform.processor() or platform.machine(), ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        model, flags = told.get("model name", model), told.get("flags", "")
    units = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags.split()]
    versions = {"vaekit": vk.__version__, "torch": torch.__version__, "python": platform.python_version()}
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    facts = {"cpu": model, "cores": os.cpu_count(), "units": units, "threads": torch.get_num_threads()}
    return {**facts, "load": load, "versions": versions}


def to_record(name: str, result: Result, quick: bool = False) -> dict[str, Any]:
    """Everything in plain numbers, rounded to four digits."""
    rows = [{k: v for k, v in asdict(row).items() if v not in (None, "", {})} for row in result.rows]
    record = {"name": name, "part": result.part, "quick": quick, "machine": machine(), "settings": result.settings}
    return rounded({**record, "rows": rows})


def rounded(value: Any) -> Any:
    """Each number of a document to four digits."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list | tuple) else value


def write_record(name: str, record: dict[str, Any], folder: Path = RECORDS) -> Path:
    """Write `KIND/NAME.json`, where the kind of machine is its widest vector or matrix unit: records are no rivals."""
    folder = folder / next(iter(record["machine"]["units"][::-1]), "plain")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return path


def table(results: dict[str, Result]) -> str:
    """All rows of all benchmarks as plain text, in the order of their letters."""
    lines = [("", "case", "contestant", "median", "unit", "times faster than [quartiles]", "roofline", "bar", "note")]
    for result in sorted(results.values(), key=lambda r: r.part):
        for row in result.rows:
            ratios = ", ".join(f"{name} {ratio}" for name, ratio in row.faster_than.items())
            reached = row.verdicts()
            bars = ", ".join(f"{k} {bar:g} {_word(reached.get(k))}" for k, bar in row.bars.items())
            value = "-" if row.value is None else f"{row.value:.4g}"
            roofline = "" if row.roofline is None else f"{row.roofline:.2f}"
            more = ", ".join([*([row.note] if row.note else []), *(f"{k} {v:.4g}" for k, v in row.measures.items())])
            lines.append((result.part, row.case, row.contestant, value, row.unit, ratios, roofline, bars, more))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _word(reached: bool | None) -> str:
    return "?" if reached is None else "ok" if reached else "SHORT"
