"""(i) Anomalous rows of tables: whether log p(x) finds them, whether it is believed, and how long it takes.

A default run of each table learns from 70% of its ordinary rows, and scores the others and the anomalous ones: by draws
of q(z|x) alone (`iwae`, which `log_marginal` was before it searched for the z of far rows), and by `log_marginal`.
Shuttle: all but Rad.Flow; satellite: cotton crop, damp grey soil, vegetation stubble; ionosphere: bad. Columns of one
value are left out, as vaekit's own warning asks. Value: seconds for all scored rows.
"""

import gzip
import time
import warnings
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

import vaekit as vk
from benchmarks.common import Options
from benchmarks.report import Result, Row
from vaekit.evaluation.estimate import FAR

ORDINARY: dict[str, tuple[str, ...]] = {
    "shuttle": ("Rad.Flow",),
    "satellite": ("grey soil", "red soil", "very damp grey soil"),
    "ionosphere": ("good",),
}
SAMPLES, SEEDS = 100, (0, 1, 2)
MOST = 6_000  # rows of shuttle that are learned from, and that are scored of the ordinary ones


def run(options: Options) -> Result:
    """All tables, or made-up rows where they are not there; means over three seeds."""
    rows: list[Row] = []
    for name in ORDINARY:
        found = [scored(*divided(options, name, seed), options, seed) for seed in SEEDS[: options.size(3, 1)]]
        for contestant in found[0]:
            measures = {key: float(np.mean([f[contestant][key] for f in found])) for key in found[0][contestant]}
            rows.append(Row(name, contestant, measures.pop("seconds"), "s", measures=measures))
    return Result("i", rows, {"samples": SAMPLES, "seeds": len(SEEDS), "most": MOST})


def divided(options: Options, name: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ordinary rows to learn from, ordinary rows to score, anomalous rows."""
    random = np.random.default_rng(seed)
    folder = options.folder()
    path = None if folder is None else folder / "tables" / f"{name}.csv.gz"
    if path is None or not path.exists():
        x = random.normal(size=(400, 4))
        return x[:200], x[200:], 20 + x[:40]
    with gzip.open(path, "rt", encoding="utf-8") as file:
        cells = [line.replace('"', "").split(",") for line in file.read().splitlines()[1:]]
    x, labels = np.asarray([line[:-1] for line in cells], dtype=float), [line[-1] for line in cells]
    is_ordinary = np.isin(labels, ORDINARY[name])
    ordinary, anomalous = random.permutation(x[is_ordinary]), x[~is_ordinary]
    most = options.size(MOST, 200)
    cut = min(int(0.7 * len(ordinary)), most)
    varied = np.ptp(ordinary[:cut], axis=0) > 0
    return ordinary[:cut, varied], ordinary[cut : cut + most, varied], anomalous[:most, varied]


def scored(
    train: np.ndarray, ordinary: np.ndarray, anomalous: np.ndarray, options: Options, seed: int
) -> dict[str, dict[str, float]]:
    """What both ways say of the rows of one fitted model."""
    epochs = {"max_epochs": 1} if options.quick else {}
    plan = vk.recipes.plan(vk.recipes.settings({"seed": seed, **epochs}), vk.data.Dataset(train), progress=False)
    plan.trainer.fit(plan.model, plan.objective, *vk.data.holdout(vk.data.Dataset(train)))
    rows = np.concatenate([ordinary, anomalous])
    is_anomalous = np.arange(len(rows)) >= len(ordinary)
    ways: dict[str, Any] = {"draws of q alone": vk.evaluation.iwae, "log_marginal": vk.evaluation.log_marginal}
    far = np.zeros(len(rows), dtype=bool)
    result = {}
    for name, way in ways.items():
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", vk.errors.UnreliableEstimateWarning)
            found = way(plan.model, rows, num_samples=SAMPLES, generator=torch.Generator().manual_seed(seed))
        seconds = time.perf_counter() - started
        far |= found.reasons.get(FAR, torch.zeros(len(rows), dtype=torch.bool)).numpy()
        score, warned = -found.value.numpy(), found.unreliable.numpy()
        finite = np.where(np.isnan(score), np.inf, score).clip(-1e300, 1e300)
        result[name] = {
            "seconds": seconds,
            "AUROC": float(roc_auc_score(is_anomalous, finite)),
            "anomalous rows warned": float(warned[is_anomalous].mean()),
            "ordinary rows warned": float(warned[~is_anomalous].mean()),
            "anomalous rows searched for": float(far[is_anomalous].mean()),
            "ordinary rows searched for": float(far[~is_anomalous].mean()),
            "mean of anomalous rows": float(found.value.numpy()[is_anomalous].mean()),
            "mean of ordinary rows": float(found.value.numpy()[~is_anomalous].mean()),
        }
    return result
