"""Anomalous rows: 70% of a table, labels unseen, to learn from; the area under the ROC curve of the other 30%.

p-values are judged apart: a detector is fitted to ordinary rows alone, and the share of other ordinary rows with
p <= a should be a.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

import vaekit as vk
from benchmarks.common import Options, contestant, job_of
from benchmarks.race import Unavailable
from benchmarks.tables.sets import LABELLED, Tables, as_codes, stratified
from vaekit.report.baselines import ecod, forest, neighbours

SEEDS, RATES = (0, 1, 2), (0.01, 0.05, 0.1)
MOST = 6_000
Found = dict[str, dict[str, Any]]


def jobs(tables: Tables, options: Options) -> Iterator[tuple[str, Callable[[], Found]]]:
    """Each labelled set as a job with a name."""
    for which in list(LABELLED)[: options.size(None, 1)]:
        name = which.replace(", ", "-").replace(" ", "_")
        yield f"detection-{name}", lambda which=which: of_set(tables, which, options)


def of_set(tables: Tables, which: str, options: Options) -> Found:
    """AUROC and seconds of all contestants by seed, and how valid our p-values are."""
    frame, is_anomalous = tables.labelled(which)
    found: Found = {}
    for seed in SEEDS[: options.size(3, 1)]:
        train, test = stratified(is_anomalous, options.size(MOST, 150), seed)
        x, y = as_codes(frame.iloc[np.concatenate([train, test])]), is_anomalous[test]
        learned, scored = x[: len(train)], x[len(train) :]
        varied = np.ptp(learned, axis=0) > 0
        mean, scale = learned[:, varied].mean(0), learned[:, varied].std(0)
        learned, scored = ((part[:, varied] - mean) / scale for part in (learned, scored))
        scores: dict[str, Callable[[], np.ndarray]] = {
            "isolation forest": lambda a=learned, b=scored, s=seed: forest(a, b, s),
            "ECOD": lambda a=learned, b=scored: ecod(a, b),
            "kNN": lambda a=learned, b=scored: neighbours(a, b),
            "pyod VAE": lambda a=learned, b=scored: _peer(a, b, options),
            "vaekit": lambda r=train, t=test, s=seed: _ours(frame.iloc[r], frame.iloc[t], s, options),
        }
        for name, score in scores.items():
            if name.startswith("pyod") and (seed or not options.peers):
                continue
            started = time.perf_counter()
            try:
                values = score()
            except Unavailable as error:
                found.setdefault(name, {})["note"] = str(error)
                continue
            seconds = time.perf_counter() - started
            auroc = float(roc_auc_score(y, np.nan_to_num(values, posinf=1e300, neginf=-1e300)))
            found.setdefault(name, {})[str(seed)] = {"AUROC": auroc, "seconds": seconds}
        found.setdefault("p-values", {})[str(seed)] = _validity(frame, is_anomalous, seed, options)
    return found


def _peer(learned: np.ndarray, scored: np.ndarray, options: Options) -> np.ndarray:
    """pyod's VAE at its defaults."""
    with job_of(np.concatenate([learned, scored]).astype(np.float32), task="detect", num_train=len(learned)) as job:
        (start,) = contestant(options, "pyod VAE", "tables_peer", **job, out=job["data"] + ".scores.npy").values()
        peer = start()
        try:
            peer.turn()
        finally:
            peer.close()
        result: np.ndarray = np.load(job["data"] + ".scores.npy")
        return result


def _tiny(options: Options) -> dict[str, Any]:
    return {"max_epochs": 1, "hidden": (8,)} if options.quick else {}


def _ours(learned: Any, scored: Any, seed: int, options: Options) -> np.ndarray:
    detector = vk.estimators.VAEDetector(random_state=seed, **_tiny(options)).fit(learned)
    return -np.asarray(detector.decision_function(scored))


def _validity(frame: Any, is_anomalous: np.ndarray, seed: int, options: Options) -> dict[str, Any]:
    """Shares of ordinary rows with p <= a, of a detector that was fitted to other ordinary rows."""
    random = np.random.default_rng([seed, 1])
    rows = random.permutation(np.flatnonzero(~is_anomalous))[: options.size(MOST, 150)]
    cut = round(0.7 * len(rows))
    detector = vk.estimators.VAEDetector(random_state=seed, **_tiny(options)).fit(frame.iloc[rows[:cut]])
    p = np.asarray(detector.p_values(frame.iloc[rows[cut:]]))
    shares = {f"p <= {rate:g}": float((p <= rate).mean()) for rate in RATES}
    return {**shares, "rows": len(p), "calibrated on": len(detector.calibration_)}
