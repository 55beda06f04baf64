"""Rare levels: 2,000 rows of independent columns, and how often made-up rows have each level."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

import vaekit as vk
from benchmarks import venv
from benchmarks.common import Options, scratch
from benchmarks.race import Unavailable

LEVELS = {"a": 0.59, "b": 0.31, "c": 0.065, "d": 0.035}
SEEDS = (0, 1, 2)
Found = dict[str, dict[str, Any]]


def jobs(options: Options) -> Iterator[tuple[str, Callable[[], Found]]]:
    """One job."""
    yield "rare-levels", lambda: of_all(options)


def rows(num_rows: int, seed: int) -> pd.DataFrame:
    """Levels at .59, .31, .065 and .035, a binary at 90 to 10, a Poisson of mean 3, a normal."""
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "level": random.choice(list(LEVELS), num_rows, p=list(LEVELS.values())),
            "binary": random.choice(["yes", "no"], num_rows, p=[0.9, 0.1]),
            "count": random.poisson(3.0, num_rows),
            "number": random.normal(size=num_rows).round(6),
        }
    )


def of_all(options: Options) -> Found:
    """The largest difference of a level's frequency to the real rows', and the count's variance by theirs."""
    found: Found = {}
    for seed in SEEDS[: options.size(3, 1)]:
        real = rows(options.size(2_000, 200), seed)
        makers: dict[str, Callable[[], pd.DataFrame]] = {"vaekit": lambda r=real, s=seed: _ours(r, s, options)}
        if options.peers and not seed:
            makers["TVAE"] = lambda r=real: _tvae(r, options)
        for contestant, make in makers.items():
            started = time.perf_counter()
            try:
                made = make()
            except Unavailable as error:
                found.setdefault(contestant, {})["note"] = str(error)
                continue
            found.setdefault(contestant, {})[str(seed)] = {
                **{f"level {name}": float((made["level"] == name).mean()) for name in LEVELS},
                "binary no": float((made["binary"] == "no").mean()),
                "off by": largest_difference(made, real),
                "variance of the count": float(made["count"].astype(float).var() / real["count"].var()),
                "seconds": time.perf_counter() - started,
            }
    return found


def largest_difference(made: pd.DataFrame, real: pd.DataFrame) -> float:
    """Of the frequencies of all levels."""
    differences = [
        abs((made[column] == name).mean() - (real[column] == name).mean())
        for column in ("level", "binary")
        for name in real[column].unique()
    ]
    return float(max(differences))


def _ours(real: pd.DataFrame, seed: int, options: Options) -> pd.DataFrame:
    tiny: dict[str, Any] = {"max_epochs": 1, "hidden": (8,)} if options.quick else {}
    return pd.DataFrame(vk.estimators.VAESynthesizer(random_state=seed, **tiny).fit(real).sample(10 * len(real)))


def _tvae(real: pd.DataFrame, options: Options) -> pd.DataFrame:
    with scratch() as folder:
        real.to_csv(folder / "real.csv", index=False)
        job = {"task": "synthesize", "data": str(folder / "real.csv"), "discrete": ["level", "binary"], "epochs": 300}
        job |= {"model": "TVAE", "rows": 10 * len(real), "out": str(folder / "made.csv")}
        peer = options.start("TVAE", "tables_peer", job, python=venv.python(), timeout=7200.0)
        try:
            peer.turn()
        finally:
            peer.close()
        return pd.read_csv(folder / "made.csv")
