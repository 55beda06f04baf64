"""The page: every set, losses included; "above" is a paired difference of more than two standard errors."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.report import Row

Records = Mapping[str, Mapping[str, Any]]
Measures = Mapping[str, Mapping[str, float]]  # by share and seed, or by seed
US = "vaekit"


def values(found: Measures, name: str) -> dict[str, float]:
    """One measure by case, where it was taken."""
    return {case: m[name] for case, m in found.items() if isinstance(m, Mapping) and name in m}


def mean(found: Measures, name: str) -> float:
    """Over all cases; NaN without any."""
    taken = list(values(found, name).values())
    return float(np.mean(taken)) if taken else math.nan


def _mean_of(found: Sequence[float]) -> float:
    """Over the sets that have the measure; NaN without any."""
    known = [value for value in found if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def verdict(ours: Measures, theirs: Measures, name: str, lower_is_better: bool = False) -> str:
    """Better, worse or equal, by the paired differences over the cases that both have.

    With one case in common there is no standard error, and the word is "?" unless they are the same.
    """
    first, second = values(ours, name), values(theirs, name)
    differences = np.array([first[case] - second[case] for case in first if case in second])
    if lower_is_better:
        differences = -differences
    if len(differences) < 2:
        own = np.array(list(first.values()))  # theirs is one seed: beside the spread of ours
        if not len(differences) or len(own) < 2:
            return "?"
        differences = (own - next(iter(second.values()))) * (-1 if lower_is_better else 1)
    stderr = differences.std(ddof=1) / math.sqrt(len(differences))
    if abs(differences.mean()) <= 2 * stderr:
        return "equal"
    return "better" if differences.mean() > 0 else "worse"


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [list(head), rule, *lines])


def number(value: float, digits: int = 3) -> str:
    """Rounded, without the 0 in front of the point; a dash where there is none."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def of_kind(records: Records, prefix: str) -> dict[str, Mapping[str, Measures]]:
    """Contestants by set, of all records of a job's kind."""
    start = f"{prefix}-"
    return {name.removeprefix(start): r["contestants"] for name, r in records.items() if name.startswith(start)}


def compared(
    records: Records, prefix: str, name: str, others: Sequence[str], *, digits: int = 3, lower: bool = False
) -> str:
    """A table of one measure: sets by contestants, the mean of all sets, and our verdict beside each."""
    sets = of_kind(records, prefix)
    if not sets:
        return "Not measured yet."
    lines = []
    for of_set, found in sets.items():
        cells = [number(mean(found.get(other, {}), name), digits) for other in others]
        words = [
            f"{verdict(found[US], found[other], name, lower)} ({other})"
            for other in others
            if other in found and values(found[other], name)
        ]
        lines.append([of_set, *cells, number(mean(found[US], name), digits), ", ".join(words)])
    means = [_mean_of([mean(found.get(other, {}), name) for found in sets.values()]) for other in (*others, US)]
    lines.append(["mean", *(number(m, digits) for m in means), ""])
    return table(["set", *others, US, "vaekit is"], lines)


def coverage(records: Records) -> str:
    """How many hidden cells the 95% intervals cover, by set and pooled."""
    lines, all_covered, all_cells = [], 0.0, 0.0
    for of_set, found in of_kind(records, "imputation").items():
        covered = sum(values(found[US], "covered").values())
        cells = sum(values(found[US], "cells").values())
        all_covered, all_cells = all_covered + covered, all_cells + cells
        lines.append([of_set, number(covered / cells), f"{cells:,.0f}"])
    if not lines:
        return "Not measured yet."
    return table(
        ["set", "covered", "cells"], [*lines, ["pooled", number(all_covered / all_cells), f"{all_cells:,.0f}"]]
    )


def p_values(records: Records) -> str:
    """Shares of ordinary rows with p <= a beside a, in standard errors (of both the rows and the calibration rows)."""
    lines = []
    for of_set, found in of_kind(records, "detection").items():
        cells = [of_set]
        for rate in (0.01, 0.05, 0.1):
            shares = values(found["p-values"], f"p <= {rate:g}")
            errors = [
                math.sqrt(rate * (1 - rate) * (1 / m["rows"] + 1 / m["calibrated on"]))
                for m in found["p-values"].values()
            ]
            off = max(abs(share - rate) / error for share, error in zip(shares.values(), errors, strict=True))
            cells.append(f"{np.mean(list(shares.values())):.3f} ({off:.1f})")
        lines.append(cells)
    head = ["set", *(f"p <= {rate:g}: share (largest error in se)" for rate in (0.01, 0.05, 0.1))]
    return table(head, lines) if lines else "Not measured yet."


def seconds(records: Records) -> str:
    """What a user waits for."""
    lines = [
        [name, step, number(value, 1), _machine(records[f"time-{name}"])]
        for name, found in of_kind(records, "time").items()
        for step, value in found[US]["0"].items()
    ]
    return table(["table", "step", "seconds (or MiB)", "machine"], lines) if lines else "Not measured yet."


def _machine(record: Mapping[str, Any]) -> str:
    """Processor, its widest units, and how many processes wanted its cores in the minute before the end."""
    about = record["machine"]
    return f"{about['cpu']}, {next(reversed(about['units']), 'plain')}, load {about['load']:.1f} of {about['cores']}"


def rare_levels(records: Records) -> str:
    """Frequencies of rare levels, and the variance of the count."""
    found = records.get("rare-levels", {}).get("contestants", {})
    names = ["level a", "level b", "level c", "level d", "binary no", "off by", "variance of the count"]
    lines = [[who, *(number(mean(m, name)) for name in names)] for who, m in found.items()]
    return table(["contestant", *names], lines) if lines else "Not measured yet."


def written(records: Records) -> str:
    """The page."""
    synthetic = {"independent columns": None, "TVAE": None, "CTGAN": None}
    sections = {
        "Rare levels": (
            "2,000 rows of independent columns: levels at .590, .310, .065 and .035, a binary at .100, a Poisson. "
            '"off by" is the largest difference of a frequency to the rows that were learned from; the variance is a '
            "ratio to theirs.\n\n" + rare_levels(records)
        ),
        "Hidden cells": (
            "Root mean square error by the standard deviation of the column, mean over columns, over 10, 30 and 50% of "
            "hidden cells and three seeds; at most 3,000 rows. Lower is better.\n\n"
            + compared(records, "imputation", "error", ["mean", "kNN", "iterative", "EM normal"], lower=True)
            + "\n\n95% intervals:\n\n"
            + coverage(records)
            + "\n\nLevels, a tenth hidden, the share that is right:\n\n"
            + compared(records, "levels", "right", ["most frequent", "10-NN"])
        ),
        "Anomalous rows": (
            "Area under the ROC curve of 30% of the rows; 70% were learned from, anomalous ones among them, labels "
            "unseen.\n\n"
            + compared(records, "detection", "AUROC", ["isolation forest", "ECOD", "kNN", "pyod VAE"])
            + "\n\np-values of ordinary rows, of a detector fitted to ordinary rows:\n\n"
            + p_values(records)
        ),
        "Made-up rows": "\n\n".join(
            f"{title}:\n\n" + compared(records, "synthesis", name, ["real rows", *synthetic], lower=name == "copied")
            for title, name in {
                "sdmetrics' quality score": "quality",
                "Shapes of columns": "column shapes",
                "Trends of pairs": "pair trends",
                "Logistic detection (1: not told apart)": "logistic detection",
                "Learned from these rows (AUROC, of numbers R2)": "learned",
                "Share of copied rows": "copied",
            }.items()
        ),
        "Time": "Seconds without compilation.\n\n" + seconds(records),
    }
    lead = (
        "# One fitted model, four answers\n\n"
        "`make bench NAME=tables` measures and writes this page. vaekit at its defaults, three seeds; baselines of the "
        'same seeds; peers at their defaults, one seed, 300 epochs. "better" and "worse" are paired differences of '
        "more than two standard errors.\n"
    )
    return lead + "".join(f"\n## {title}\n\n{text}\n" for title, text in sections.items())


def rows(records: Records) -> list[Row]:
    """The means of each kind of job, for the one table of all benchmarks."""
    found: list[Row] = []
    for prefix, name, unit in (("imputation", "error", "sd"), ("detection", "AUROC", ""), ("synthesis", "quality", "")):
        sets = of_kind(records, prefix)
        contestants = dict.fromkeys(who for of_set in sets.values() for who in of_set if who != "p-values")
        for who in contestants:
            value = _mean_of([mean(of_set.get(who, {}), name) for of_set in sets.values()])
            found.append(Row(f"{prefix}, mean of {len(sets)} sets", who, None if math.isnan(value) else value, unit))
    return found or [Row("tables", US, None, "", note="nothing is measured yet")]
