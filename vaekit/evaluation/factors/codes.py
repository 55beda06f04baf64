"""What the scores of disentanglement share: checked codes and factors, mutual information, and the bootstrap."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from vaekit.errors import ConfigError, DataError, ShapeError
from vaekit.evaluation.rows import as_rows
from vaekit.models.rows import as_tensor
from vaekit.traits import Data

MIN_ROWS = 20


class Table(NamedTuple):
    """Codes with the factors behind them."""

    codes: np.ndarray
    """Shape (N, D), float64; 0 throughout for a code that is one number up to the rounding of its dtype."""
    labels: np.ndarray
    """Shape (N, F): the values of each factor, numbered from 0 in their order."""
    num_values: list[int]
    """How many values each factor takes."""


def as_labels(factors: Data, num_rows: int) -> np.ndarray:
    """Integer factors as an array (num_rows, F).

    Raises:
        ShapeError: if they are no table of so many rows.
        DataError: if they are not integers.
    """
    table = as_tensor(factors).detach().cpu().numpy()
    if table.ndim != 2 or table.shape[1] == 0 or len(table) != num_rows:
        hint = " A single factor is factors[:, None]." if table.ndim == 1 else ""
        raise ShapeError(f"expected factors of shape ({num_rows}, F), a row per code; got {table.shape}.{hint}")
    if table.dtype.kind == "f" and not bool((table == np.floor(table)).all()):  # NaN fails the comparison too
        raise DataError("factors are integers, the values of discrete factors; got fractions or NaN. Bin or drop them.")
    return table


def as_table(codes: Data, factors: Data, *, min_factors: int = 1) -> Table:
    """Codes (N, *Z), flattened, and integer factors (N, F), checked.

    Raises:
        ShapeError: if there are not as many rows of both, or factors are no table.
        DataError: if codes are not finite, factors not integers, a factor has one value only, or rows or factors are
            too few.
    """
    rows = as_rows(codes, where="codes", min_rows=MIN_ROWS)
    table = as_labels(factors, len(rows))
    if table.shape[1] < min_factors:
        raise DataError(f"this score tells factors apart and needs at least {min_factors}; got {table.shape[1]}.")
    rows = np.where(np.ptp(rows, axis=0) > rounding(codes) * np.abs(rows).max(axis=0), rows, 0.0)
    pairs = [np.unique(column, return_inverse=True) for column in table.T]
    num_values = [len(values) for values, _ in pairs]
    if min(num_values) < 2:
        raise DataError(f"factor {num_values.index(1)} has one value only: nothing can depend on it. Leave it out.")
    return Table(rows, np.stack([labels for _, labels in pairs], axis=1), num_values)


def rounding(codes: Data) -> float:
    """By how much of their size codes may differ that stand for one number: by the last bits of a network's floats.

    Those are float32 at best, whatever dtype the codes have been brought to since; integers are exact.
    """
    dtype = as_tensor(codes).dtype
    return 8 * max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps) if dtype.is_floating_point else 0.0


def unit(codes: np.ndarray) -> np.ndarray:
    """Codes (N, D) from 0 to 1, or 0 where a code does not vary: squares, and trees' float32, need a size at hand."""
    width = np.ptp(codes, axis=0)
    result: np.ndarray = (codes - codes.min(axis=0)) / np.where(width > 0, width, np.inf)
    return result


def standardized(codes: np.ndarray) -> np.ndarray:
    """Codes over their standard deviations, from their minima, shape (N, D); 0 where a code does not vary."""
    scaled = unit(codes)
    std = scaled.std(axis=0)
    result: np.ndarray = scaled / np.where(std > 0, std, np.inf)
    return result


def binned(codes: np.ndarray, num_bins: int) -> np.ndarray:
    """The equal-width bin of each code between its own extremes, shape (N, D); all 0 where a code does not vary."""
    if num_bins < 2:
        raise ConfigError(f"num_bins is at least 2; got {num_bins}")
    result: np.ndarray = np.minimum((unit(codes) * num_bins).astype(np.int64), num_bins - 1)
    return result


def mutual_information(
    bins: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    r"""I(code; factor) in nats for each pair, and H(factor), from counts.

    \[ I = \frac1N \sum_{ij} n_{ij} \log \frac{n_{ij} N}{n_i n_j}, \]
    whose quotients are exactly 1, and I exactly 0, for a code in one bin, for a factor of one value, and for counts
    that factorise. Differences of entropies would leave 1e-16 there, by which a score may then divide.

    Args:
        bins: bins of the codes, integers, shape (N, D).
        labels: values of the factors, integers, shape (N, F).
        weights: how often each row counts, shape (N,); None counts each once.

    Returns:
        Shapes (D, F) and (F,).
    """
    (num_rows, num_codes), num_bins = bins.shape, int(bins.max()) + 1
    weights = np.ones(num_rows) if weights is None else weights
    each, total = np.repeat(weights, num_codes), weights.sum()
    information, entropies = np.empty((num_codes, labels.shape[1])), np.empty(labels.shape[1])
    for f, label in enumerate(labels.T):
        num_values = int(label.max()) + 1
        cell = (np.arange(num_codes) * num_bins + bins) * num_values + label[:, None]
        counts = np.bincount(cell.ravel(), weights=each, minlength=num_codes * num_bins * num_values)
        n = counts.reshape(num_codes, num_bins, num_values)
        expected = n.sum(2, keepdims=True) * n.sum(1, keepdims=True)
        quotients = np.where(n > 0, n * total / np.where(n > 0, expected, 1), 1)
        information[:, f] = np.maximum((n * np.log(quotients)).sum((1, 2)) / total, 0)
        shares = n[0].sum(0) / total
        entropies[f] = -(shares * np.log(np.where(shares > 0, shares, 1))).sum()
    return information, entropies


def gap_to_second(scores: np.ndarray) -> np.ndarray:
    """How far the best code of each factor is ahead of the next one: (D, F) to (F,). A single code has no rival."""
    ranked = np.sort(np.concatenate([scores, np.zeros((1, scores.shape[1]))]), axis=0)
    result: np.ndarray = ranked[-1] - ranked[-2]
    return result


def bootstrap_stderr(
    statistic: Callable[[np.ndarray], float], num_rows: int, num_bootstrap: int, rng: np.random.Generator
) -> float:
    """The standard deviation of a statistic of row weights over resamples of the rows, but for those where it is NaN.

    Raises:
        ConfigError: if there are fewer than 2 resamples.
    """
    if num_bootstrap < 2:
        raise ConfigError(f"num_bootstrap is at least 2; got {num_bootstrap}")
    draws = (np.bincount(rng.integers(num_rows, size=num_rows), minlength=num_rows) for _ in range(num_bootstrap))
    values = np.array([statistic(weights.astype(float)) for weights in draws])
    values = values[~np.isnan(values)]
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def binomial_stderr(share: float, num_trials: int) -> float:
    """The standard error of a share of independent trials."""
    return math.sqrt(share * (1 - share) / num_trials)
