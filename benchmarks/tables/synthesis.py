"""Made-up rows: how near their columns and pairs of columns are to real ones, and what can be learned from them.

Half of a table is learned from, the other half judges. Contestants make up as many rows as they saw. Learned: boosted
trees fitted to made-up rows predict a column of the real other half (AUROC of two levels, mean AUROC of more, R2 of
numbers), beside trees fitted to the real first half. Copied: the share of made-up rows that stand in the first half,
beside that of the real second half.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import r2_score, roc_auc_score

import vaekit as vk
from benchmarks import venv
from benchmarks.common import Options, scratch
from benchmarks.race import Unavailable
from benchmarks.tables.sets import SYNTHESIS, Tables, chosen

SEEDS, EPOCHS, MOST = (0, 1, 2), 300, 10_000
Found = dict[str, dict[str, Any]]


def jobs(tables: Tables, options: Options) -> Iterator[tuple[str, Callable[[], Found]]]:
    """Each set as a job with a name."""
    for name in list(SYNTHESIS)[: options.size(None, 1)]:
        yield f"synthesis-{name}", lambda name=name: of_set(tables, name, options)


def of_set(tables: Tables, name: str, options: Options) -> Found:
    """What all contestants' rows are worth, by seed."""
    frame, target = tables.frame(name), SYNTHESIS[name]
    frame = frame.iloc[chosen(len(frame), options.size(MOST, 300), 0)].reset_index(drop=True)
    found: Found = {}
    for seed in SEEDS[: options.size(3, 1)]:
        order = np.random.default_rng(seed).permutation(len(frame))
        real, other = (frame.iloc[np.sort(half)].reset_index(drop=True) for half in np.array_split(order, 2))
        makers: dict[str, Callable[[], pd.DataFrame]] = {
            "real rows": lambda r=real: r,
            "independent columns": lambda r=real, s=seed: independent(r, s),
            "vaekit": lambda r=real, s=seed: _ours(r, s, options),
        }
        if options.peers and not seed:
            makers |= {model: lambda r=real, m=model: _peer(r, m, options) for model in ("TVAE", "CTGAN")}
        for contestant, make in makers.items():
            started = time.perf_counter()
            try:
                rows = make()
                seconds = time.perf_counter() - started
                measures = {"seconds": seconds, **learned(rows, other, target), **copied(rows, real)}
                measures |= _judged(other, rows, options)
            except Unavailable as error:
                found.setdefault(contestant, {})["note"] = str(error)
                continue
            found.setdefault(contestant, {})[str(seed)] = measures
    return found


def independent(real: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Each column drawn by itself: the margins of the real rows and nothing else."""
    return pd.DataFrame({c: real[c].sample(frac=1, random_state=seed + i).to_numpy() for i, c in enumerate(real)})


def learned(rows: pd.DataFrame, other: pd.DataFrame, target: str) -> dict[str, float]:
    """What trees that were fitted to these rows predict of the target in the others."""
    rows, other = rows[rows[target].notna()], other[other[target].notna()]
    x, judged = _as_features(rows.drop(columns=target), other.drop(columns=target))
    if other[target].dtype.kind in "iuf":
        trees = HistGradientBoostingRegressor(random_state=0).fit(x, rows[target].astype(float))
        return {"learned": float(r2_score(other[target], trees.predict(judged)))}
    names = sorted(set(other[target].astype(str)))
    truth = other[target].astype(str).map(names.index).to_numpy()
    given = rows[target].astype(str)
    known = given.isin(names).to_numpy()
    if given[known].nunique() < 2:
        return {"learned": 0.5}
    trees = HistGradientBoostingClassifier(random_state=0).fit(x[known], given[known].map(names.index))
    p = np.zeros((len(judged), len(names)))
    p[:, trees.classes_] = trees.predict_proba(judged)
    each = [roc_auc_score(truth == k, p[:, k]) for k in range(len(names)) if 0 < (truth == k).sum() < len(truth)]
    return {"learned": float(np.mean(each))}


def _as_features(*frames: pd.DataFrame) -> tuple[np.ndarray, ...]:
    """Numbers, and codes of levels that are the same in all frames."""
    parts: list[list[np.ndarray]] = [[] for _ in frames]
    for column in frames[-1].columns:
        if frames[-1][column].dtype.kind in "biuf":
            cells = [pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=float) for frame in frames]
        else:
            names = pd.unique(pd.concat([frame[column].dropna().astype(str) for frame in frames]))
            place = {name: float(i) for i, name in enumerate(names)}
            cells = [frame[column].astype(str).map(place).to_numpy(dtype=float) for frame in frames]
        for part, own in zip(parts, cells, strict=True):
            part.append(own)
    return tuple(np.stack(part, axis=1) for part in parts)


def copied(rows: pd.DataFrame, real: pd.DataFrame) -> dict[str, float]:
    """The share of rows that are one of the real ones, cell by cell."""
    first, second = (set(_as_text(frame[list(real)])) for frame in (real, rows))
    return {"copied": sum(row in first for row in second) / max(len(second), 1)}


def _as_text(frame: pd.DataFrame) -> list[str]:
    numbers = frame.map(lambda cell: "" if pd.isna(cell) else f"{cell:.6g}" if isinstance(cell, float) else str(cell))
    return ["|".join(map(str, row)) for row in numbers.itertuples(index=False)]


def _ours(real: pd.DataFrame, seed: int, options: Options) -> pd.DataFrame:
    tiny: dict[str, Any] = {"max_epochs": 1, "hidden": (8,)} if options.quick else {}
    made = vk.estimators.VAESynthesizer(random_state=seed, **tiny).fit(real).sample(len(real))
    return pd.DataFrame(made)[list(real)]


def _is_discrete(column: pd.Series) -> bool:
    return column.dtype.kind not in "iuf"


def _peer(real: pd.DataFrame, model: str, options: Options) -> pd.DataFrame:
    """ctgan's synthesizers, which take no holes: a mean or a level of its own stands in them."""
    discrete = [c for c in real if _is_discrete(real[c])]
    full = real.apply(lambda column: column.fillna("nan") if _is_discrete(column) else column.fillna(column.mean()))
    with scratch() as folder:
        full.to_csv(folder / "real.csv", index=False)
        job = {"task": "synthesize", "data": str(folder / "real.csv"), "discrete": discrete, "model": model}
        job |= {"epochs": EPOCHS, "rows": len(real), "out": str(folder / "made.csv")}
        _turn(options, model, job)
        return pd.read_csv(folder / "made.csv").replace("nan", None)


def _judged(real: pd.DataFrame, rows: pd.DataFrame, options: Options) -> dict[str, float]:
    """sdmetrics' words on the rows; nothing without peers."""
    if not options.peers:
        return {}
    columns = {c: {"sdtype": "categorical" if _is_discrete(real[c]) else "numerical"} for c in real}
    with scratch() as folder:
        real.to_csv(folder / "real.csv", index=False)
        rows.to_csv(folder / "made.csv", index=False)
        job = {"task": "judge", "real": str(folder / "real.csv"), "synthetic": str(folder / "made.csv")}
        turn = _turn(options, "sdmetrics", {**job, "columns": columns})
    return {name: turn[name] for name in ("quality", "column shapes", "pair trends", "logistic detection")}


def _turn(options: Options, name: str, job: dict[str, Any]) -> dict[str, Any]:
    peer = options.start(name, "tables_peer", job, python=venv.python(), timeout=7200.0)
    try:
        turn: dict[str, Any] = peer.turn()
        return turn
    finally:
        peer.close()
