"""The table of equal budgets: records and values per image to rows, gates and a page."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reproductions.result import Check, Result

REFERENCE = "vae"
_FAR = 1e6  # a lead in standard errors has no upper gate


@dataclass(frozen=True)
class Run:
    """One preset with one seed."""

    record: dict[str, Any]
    log_p: np.ndarray
    """Per test image, shape (N,)."""


Runs = dict[str, dict[int, Run]]
"""Preset to seed to run."""


def read(folder: Path) -> Runs:
    """All runs that are recorded in a folder."""
    runs: Runs = {}
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        values = np.load(path.with_suffix(".npy")).astype(np.float64)
        runs.setdefault(record["preset"], {})[record["seed"]] = Run(record, values)
    return runs


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """The mean over images and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


@dataclass(frozen=True)
class Difference:
    """A preset minus another, in nats of log p(x), over the seeds that both have."""

    mean: float
    stderr: float
    """Over images, of the differences image by image averaged over seeds: the trained models are held fixed."""
    per_seed: dict[int, float]


def difference(runs: Runs, name: str, reference: str = REFERENCE) -> Difference | None:
    """The lead of one preset over another; None where no seed is common."""
    first, second = runs.get(name, {}), runs.get(reference, {})
    gaps = {seed: first[seed].log_p - second[seed].log_p for seed in sorted(first.keys() & second.keys())}
    if not gaps:
        return None
    mean, stderr = mean_and_error(np.mean(list(gaps.values()), axis=0))
    return Difference(mean, stderr, {seed: float(gap.mean()) for seed, gap in gaps.items()})


def result(runs: Runs, longer: Sequence[Runs] = ()) -> Result:
    """The gates, of what has been measured: by the budget itself, and by longer runs of some presets."""
    checks, details = [], {"num_runs": sum(len(seeds) for seeds in runs.values())}
    vamp, iwae = difference(runs, "vamp"), difference(runs, "iwae")
    if vamp is not None:
        lead = vamp.mean / vamp.stderr
        checks.append(Check("VampPrior ahead of the standard prior, paired standard errors", None, lead, 3.0, _FAR))
        details["vamp_minus_vae_by_seed"] = {str(seed): round(gap, 3) for seed, gap in vamp.per_seed.items()}
    if iwae is not None:
        checks.append(Check("log p(x) of IWAE k = 5 minus k = 1, nats", 1.22, iwae.mean, 0.8, 3.5))
        details["iwae_minus_vae_by_seed"] = {str(seed): round(gap, 3) for seed, gap in iwae.per_seed.items()}
    for part in (runs, *longer):
        flow = difference(part, "vae-iaf")
        if flow is None:
            continue
        updates = next(iter(part["vae-iaf"].values())).record["num_updates"]
        details[f"iaf_minus_vae_after_{updates}"] = {"mean": round(flow.mean, 3), "stderr": round(flow.stderr, 3)}
        if part is not runs:
            quantity = f"log p(x) of IAF minus diagonal posterior after {updates:,} updates, nats"
            checks.append(Check(quantity, None, flow.mean, 0.0, 5.0))
    seconds = sum(run.record["seconds_of_training"] for seeds in runs.values() for run in seeds.values())
    return Result(tuple(checks), details, seconds)


_HEADER = (
    *("preset", "z", "seeds", "log p(x)", "±", "minus `vae`", "± paired", "by seed"),
    *("ELBO", "KL", "ESS", "s / epoch", "parameters"),
)


def _cells(runs: Runs, name: str) -> tuple[str, ...]:
    seeds = [runs[name][seed] for seed in sorted(runs[name])]
    records = [run.record for run in seeds]
    mean, stderr = mean_and_error(np.mean([run.log_p for run in seeds], axis=0))
    gap = None if name == REFERENCE else difference(runs, name)

    def average(value: Any) -> float:
        return float(np.mean([value(record) for record in records]))

    return (
        f"`{name}`",
        " x ".join(map(str, records[0]["latent_shape"])),
        ", ".join(str(record["seed"]) for record in records),
        f"{mean:.2f}",
        f"{stderr:.2f}",
        "" if gap is None else f"{gap.mean:+.2f}",
        "" if gap is None else f"{gap.stderr:.2f}",
        "" if gap is None else ", ".join(f"{value:+.2f}" for value in gap.per_seed.values()),
        f"{average(lambda r: r['elbo']['mean']):.2f}",
        f"{average(lambda r: r['kl']):.1f}",
        f"{average(lambda r: r['log_p']['ess_median']):.0f}",
        f"{average(lambda r: r['seconds_per_epoch']):.1f}",
        f"{records[0]['num_parameters']:,}",
    )


def table(runs: Runs) -> str:
    """Rows by falling log p(x), as markdown."""
    names = sorted(runs, key=lambda name: -float(np.mean([run.log_p.mean() for run in runs[name].values()])))
    lines = [_HEADER, tuple("---" if i in (0, 1, 2, 7) else "---:" for i in range(len(_HEADER)))]
    lines += [_cells(runs, name) for name in names]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _section(runs: Runs) -> str:
    record = next(iter(next(iter(runs.values())).values())).record
    budget, threads = record["budget"], sorted({r.record["threads"] for s in runs.values() for r in s.values()})
    return (
        f"## {budget['epochs']} epochs ({int(record['num_updates']):,} updates)\n\n"
        f"{record['num_train']:,} training images with fresh bits, hidden layers of "
        f"{', '.join(map(str, budget['hidden']))} units, Adam {budget['learning_rate']:g}, batches of "
        f"{budget['batch_size']}; log p(x) by {budget['num_samples']:,} importance samples on {record['num_test']:,} "
        f"test images with fixed bits; {' or '.join(map(str, threads))} thread(s). Written from the records of "
        f"{sum(map(len, runs.values()))} runs.\n\n{table(runs)}\n"
    )


_INTRODUCTION = """# Presets at an equal budget

Written by `python -m reproductions.equal_budget --table` from the [records](records/equal-budget); the protocol and the
commands stand at the top of [equal_budget.py](equal_budget.py). Nats per image, of MNIST bits.

- *log p(x)* is a lower bound in expectation. Its ± is the standard error over test images; nearly all of it is common
  to all rows, which is why rows are compared by the next column.
- *minus `vae`* is the mean of differences image by image, its ± the standard error of that mean over images, with the
  trained models held fixed; *by seed* shows how far another seed moves it.
- *ESS* is the median effective sample size of the importance weights: where it is a few, log p(x) is too low.
- The time of an epoch is the median over epochs, while other processes may have run on the same machine.
- Presets that weigh the KL or add penalties (`beta-vae`, `beta-tc-vae`, `factor-vae`, `dip-vae`, `info-vae`,
  `disentangled-beta-vae`) do not aim at log p(x): what they lose in it is the price of what they are made for.
"""


def page(parts: list[Runs]) -> str:
    """The whole page: a section for each length of training."""
    sections = [_section(runs) for runs in parts] or ["Nothing is recorded yet.\n"]
    return "\n".join([_INTRODUCTION, *sections])
