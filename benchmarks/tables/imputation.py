"""Hidden cells: how far fills are from them, and how often intervals cover them.

A share of the cells is hidden completely at random; each contestant learns from the table with its holes and fills
them. Error: root mean square over the hidden cells of a column, by the standard deviation of its observed cells; mean
over columns. Levels: the share of hidden cells that are filled with the right one.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

import vaekit as vk
from benchmarks.common import Options
from benchmarks.tables.sets import LEVELS, NUMERIC, Tables

SHARES, SEEDS = (0.1, 0.3, 0.5), (0, 1, 2)
LEVEL = 0.95
Found = dict[str, dict[str, Any]]


def jobs(tables: Tables, options: Options) -> Iterator[tuple[str, Callable[[], Found]]]:
    """Each set of numbers, and each of levels, as a job with a name."""
    for name in options.size(NUMERIC, NUMERIC[:1]):
        yield f"imputation-{name}", lambda name=name: of_numbers(tables, name, options)
    for name in options.size(LEVELS, LEVELS[1:]):
        yield f"levels-{name}", lambda name=name: of_levels(tables, name, options)


def hidden(shape: tuple[int, ...], share: float, seed: int) -> np.ndarray:
    """Which cells are hidden, bool; each row keeps one at least."""
    random = np.random.default_rng([seed, round(100 * share)])
    where: np.ndarray = random.random(shape) < share
    where[where.all(1), random.integers(shape[1])] = False
    return where


def error(filled: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    """Root mean squared error of the hidden cells by the sd of the observed ones, mean over columns."""
    columns = []
    for j in range(truth.shape[1]):
        own = where[:, j] & ~np.isnan(truth[:, j])
        scale = np.nanstd(truth[~where[:, j], j])
        if own.any() and scale > 0:
            columns.append(np.sqrt(np.mean((filled[own, j] - truth[own, j]) ** 2)) / scale)
    return float(np.mean(columns))


def of_numbers(tables: Tables, name: str, options: Options) -> Found:
    """Errors of all contestants by share and seed, coverage of our intervals, and seconds."""
    found: Found = {}
    for seed in SEEDS[: options.size(3, 1)]:
        for share in SHARES[: options.size(3, 1)]:
            truth = tables.numbers(name, seed, options.size(3_000, 120))
            where = hidden(truth.shape, share, seed)
            holed = np.where(where, np.nan, truth)
            for contestant, fill in FILLS.items():
                started = time.perf_counter()
                filled, more = fill(holed, seed, options)
                measures = {"error": error(filled, truth, where), "seconds": time.perf_counter() - started}
                if more is not None:
                    cells = where & ~np.isnan(truth)
                    covered = (more[0] <= truth) & (truth <= more[1])
                    measures |= {"covered": int(covered[cells].sum()), "cells": int(cells.sum())}
                found.setdefault(contestant, {})[f"{share:g}/{seed}"] = measures
    return found


Filled = tuple[np.ndarray, tuple[np.ndarray, np.ndarray] | None]


def _scaled(fill: Callable[[np.ndarray], np.ndarray], holed: np.ndarray) -> Filled:
    """By a method that wants columns of one scale; columns that it drops (all cells hidden) get the mean, 0."""
    mean, scale = np.nanmean(holed, axis=0), np.nanstd(holed, axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence
        filled = fill((holed - mean) / scale)
    return filled * scale + mean, None


def _mean(holed: np.ndarray, seed: int, options: Options) -> Filled:
    return _scaled(SimpleImputer(keep_empty_features=True).fit_transform, holed)


def _neighbours(holed: np.ndarray, seed: int, options: Options) -> Filled:
    return _scaled(KNNImputer(n_neighbors=10, keep_empty_features=True).fit_transform, holed)


def _iterative(holed: np.ndarray, seed: int, options: Options) -> Filled:
    return _scaled(IterativeImputer(random_state=seed, max_iter=10, keep_empty_features=True).fit_transform, holed)


def _normal(holed: np.ndarray, seed: int, options: Options) -> Filled:
    return _scaled(em_normal, holed)


def em_normal(x: np.ndarray, steps: int = 60, ridge: float = 1e-3) -> np.ndarray:
    """E[hidden | observed] under one normal distribution with a full covariance, fitted by EM to standardised rows.

    References:
        Little & Rubin, "Statistical analysis with missing data", 2019, section 11.2.
    """
    num_columns = x.shape[1]
    is_hole = np.isnan(x)
    patterns, which = np.unique(is_hole, axis=0, return_inverse=True)
    mean, covariance = np.zeros(num_columns), np.eye(num_columns)
    filled = np.where(is_hole, 0.0, x)
    for _ in range(steps):
        extra = np.zeros((num_columns, num_columns))
        for i, pattern in enumerate(patterns):
            rows = which.ravel() == i
            m, o = np.flatnonzero(pattern), np.flatnonzero(~pattern)
            if not len(m):
                continue
            gain = np.linalg.solve(covariance[np.ix_(o, o)], covariance[np.ix_(o, m)]).T
            filled[np.ix_(rows, m)] = mean[m] + (x[np.ix_(rows, o)] - mean[o]) @ gain.T
            extra[np.ix_(m, m)] += rows.sum() * (covariance[np.ix_(m, m)] - gain @ covariance[np.ix_(o, m)])
        mean = filled.mean(0)
        centred = filled - mean
        covariance = (centred.T @ centred + extra) / len(x) + ridge * np.eye(num_columns)
    return filled


def _ours(holed: np.ndarray, seed: int, options: Options) -> Filled:
    imputer = vk.estimators.VAEImputer(random_state=seed, **options.size({}, {"max_epochs": 1, "hidden": (8,)}))
    filled = np.asarray(imputer.fit(holed).transform(holed), dtype=np.float64)
    low, high = imputer.intervals(holed, level=LEVEL)
    return filled, (np.asarray(low), np.asarray(high))


FILLS = {"mean": _mean, "kNN": _neighbours, "iterative": _iterative, "EM normal": _normal, "vaekit": _ours}


def of_levels(tables: Tables, name: str, options: Options) -> Found:
    """The share of hidden levels that are filled with the right one; a tenth is hidden."""
    found: Found = {}
    for seed in SEEDS[: options.size(3, 1)]:
        truth = tables.levels(name)
        where = hidden(truth.shape, 0.1, seed) & truth.notna().to_numpy()
        holed = truth.mask(where, None)
        ours = {"max_epochs": 1, "hidden": (8,)} if options.quick else {}
        started = time.perf_counter()
        filled = vk.estimators.VAEImputer(random_state=seed, **ours).fit(holed).transform(holed)
        seconds = time.perf_counter() - started
        fills = {"most frequent": _most_frequent(holed), "10-NN": _voted(holed), "vaekit": pd.DataFrame(filled)}
        for contestant, cells in fills.items():
            right = cells.to_numpy(dtype=object)[where].astype(str) == truth.to_numpy(dtype=object)[where].astype(str)
            found.setdefault(contestant, {})[f"0.1/{seed}"] = {"right": float(right.mean()), "cells": int(where.sum())}
        found["vaekit"][f"0.1/{seed}"]["seconds"] = seconds
    return found


def _most_frequent(holed: pd.DataFrame) -> pd.DataFrame:
    return holed.apply(lambda column: column.fillna(column.mode().iloc[0]))


def _voted(holed: pd.DataFrame, num: int = 10) -> pd.DataFrame:
    """The most frequent level among the nearest rows that have the cell; distance: share of differing cells."""
    codes = np.stack([pd.factorize(holed[c])[0] for c in holed], axis=1)
    seen = codes >= 0
    filled = holed.to_numpy(dtype=object).copy()
    for i in range(len(codes)):
        holes = np.flatnonzero(~seen[i])
        if not len(holes):
            continue
        both = seen & seen[i]
        far = ((codes != codes[i]) & both).sum(1) / np.maximum(both.sum(1), 1)
        far[i] = np.inf
        order = np.argsort(far, kind="stable")
        for j in holes:
            votes = codes[order[seen[order, j]][:num], j]
            filled[i, j] = holed.iloc[:, j].dropna().iloc[0] if not len(votes) else _level(holed, codes, votes, j)
    return pd.DataFrame(filled, columns=holed.columns)


def _level(holed: pd.DataFrame, codes: np.ndarray, votes: np.ndarray, j: int) -> Any:
    winner = np.bincount(votes).argmax()
    return holed.iloc[int(np.flatnonzero(codes[:, j] == winner)[0]), j]
