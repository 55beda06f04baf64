"""(e) Small models on tables: pyod's VAE and ctgan's TVAE against vaekit at equal network, batch and number of rows.

pyod: satellite (36 columns) and shuttle (9 columns), hidden layers of 128, 64, 32 with dropout 0.2, z = 2, batch 32,
Adam with weight decay 1e-5; both standardise the columns themselves. vaekit's likelihood is Normal with scale 1, whose
log p is pyod's squared error (summed, not averaged) plus a constant. ctgan: 95 numbers per row, 128-128 networks,
z = 128, batch 500; vaekit describes all 95 by Normals with a scale per column, where ctgan has nine Normals and ten
softmax blocks. Value: us per row; a turn is a few epochs.
"""

import gzip
from typing import Any

import numpy as np

from benchmarks.common import Options, Start, contestant, job_of, library
from benchmarks.race import race
from benchmarks.report import Result, Row, rows_of_race

PYOD_NET = {"kind": "mlp", "hidden": [128, 64, 32], "latent": 2, "dropout": 0.2}
TVAE_NET = {"kind": "mlp", "hidden": [128, 128], "latent": 128}
MODES = ("vaekit eager float32", "vaekit compiled float32", "vaekit auto")


def run(options: Options) -> Result:
    """Three races."""
    rounds = options.num_rounds(4)
    rows: list[Row] = []
    for name, every, most in (("satellite", 4, 10**6), ("shuttle", 1, 29_000)):
        x, source = table(options, name, options.size(most, 96))
        extra = {"likelihood": "normal-1", "weight_decay": 1e-5}
        case = f"{source} {x.shape[1]} columns, batch 32"
        rows += _race(options, case, "pyod", x, PYOD_NET, 32, rounds, options.size(every, 1), extra)
    x = encoded_rows(options.size(10_000, 1000))
    extra = {"likelihood": "normal", "weight_decay": 1e-5}
    rows += _race(
        options, "95 numbers per row, batch 500", "ctgan", x, TVAE_NET, 500, rounds, options.size(5, 1), extra
    )
    return Result("e", rows, {"rounds": rounds, "pyod": PYOD_NET, "ctgan": TVAE_NET})


def _race(
    options: Options,
    case: str,
    peer: str,
    x: np.ndarray,
    net: dict[str, Any],
    batch: int,
    rounds: int,
    every: int,
    extra: dict[str, Any],
) -> list[Row]:
    with job_of(x, task="train", batch=batch) as job:
        bare_net = {**net, "width": x.shape[1]}
        starters: dict[str, Start] = {
            **contestant(options, peer, f"{peer}_peer", **job, net=net, every=every),
            **contestant(options, "bare", "bare", **job, net=bare_net, squared=True),
            **library(options, MODES, **job, **extra, net=net, every=every),
        }
        turns, missing = race(starters, rounds, num_warmup=options.size(2, 1))  # `auto` decides in them
    bars = {name: {peer: 3.0} for name in MODES}
    rows = rows_of_race(
        case, turns, missing, per="rows", unit="us/row", scale=1e6, references=(peer, "bare"), bars=bars
    )
    for row in rows:
        if row.value:
            row.measures = {"ms/step": row.value * batch / 1e3}
    return rows


def table(options: Options, name: str, most: int) -> tuple[np.ndarray, str]:
    """The first `most` rows of a table of numbers without its label (the last column), and what it is."""
    folder = options.folder()
    path = None if folder is None else folder / "tables" / f"{name}.csv.gz"
    if path is None or not path.exists():
        width = {"satellite": 36, "shuttle": 9}[name]
        return np.random.default_rng(0).normal(size=(min(most, 2000), width)).astype(np.float32), "synthetic"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        cells = [line.split(",")[:-1] for line in file.read().splitlines()[1 : most + 1]]
    return np.asarray(cells, dtype=np.float32), name


def encoded_rows(num_rows: int) -> np.ndarray:
    """Rows as ctgan encodes them: nine times a value in [-1, 1] and the mode among nine, and one of five categories."""
    random = np.random.default_rng(0)
    blocks = []
    for _ in range(9):
        blocks += [random.uniform(-1, 1, (num_rows, 1)), np.eye(9)[random.integers(9, size=num_rows)]]
    blocks.append(np.eye(5)[random.integers(5, size=num_rows)])
    return np.concatenate(blocks, axis=1).astype(np.float32)
