"""What importance weights say: the log of their mean, its standard error and their effective number, in numpy."""

import math

import numpy as np

_FEWEST, _MOST_KEPT, _TAPER = 12, 512, 10  # draws: see vaekit.evaluation.weights, whose formulas these are


def summary(log_weights: np.ndarray) -> dict[str, np.ndarray]:
    """`log_p`, `stderr` and `ess` of each row, shape (B,) each, from log w of shape (K, B), float64, nats."""
    num = len(log_weights)
    with np.errstate(all="ignore"):
        largest = log_weights.max(0)
        relative = np.exp(log_weights - np.where(largest == -np.inf, 0.0, largest))
        total, squares = relative.sum(0), np.square(relative).sum(0)
        log_p = largest + np.log(total) - math.log(num)
        ess = total**2 / squares
        if num == 1:
            return {"log_p": log_p, "stderr": np.full_like(log_p, np.nan), "ess": ess}
        delta = np.sqrt(np.clip(num / ess - 1, 0, None) / (num - 1))
        if num < _FEWEST:
            return {"log_p": log_p, "stderr": delta, "ess": ess}
        variance, below = _spread(log_weights[:_MOST_KEPT], num)
        missed = np.clip(below / num - np.square(delta), 0, None) * min(1.0, _TAPER / num)
        both = _student(num) * np.maximum(np.sqrt(np.square(delta) + missed), _log_normal_error(variance, num))
        widest = max(2.8, 12 * math.pow(20 / num, 0.45))
        return {"log_p": log_p, "stderr": np.where(variance <= widest, both, delta), "ess": ess}


def _spread(log_weights: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Variance of the log-weights above the median, and relative variance of the weights below it, (B,) each."""
    ordered = np.sort(log_weights, 0)
    size, median = len(ordered), _quantile(ordered, 0.5)
    variance = 2 * np.square(np.clip(ordered - median, 0, None)).sum(0) / (size - 1)
    below = 2 * np.square(np.expm1(np.clip(ordered - median, None, 0))).sum(0) / (size - 1)
    of_tenth = np.square(np.clip(ordered - _quantile(ordered, 0.9), 0, None).mean(0) / 0.1 / 0.4735)
    return variance + np.clip(of_tenth - variance, 0, None) * math.sqrt(min(1.0, _TAPER / num)), below


def _quantile(ordered: np.ndarray, share: float) -> np.ndarray:
    place = share * (len(ordered) - 1)
    first = int(place)
    low, high = ordered[first], ordered[min(first + 1, len(ordered) - 1)]
    result: np.ndarray = low + (place - first) * (high - low)
    return result


def _log_normal_error(variance: np.ndarray, num: int) -> np.ndarray:
    v = np.clip(variance + 25 * np.square(variance / num), None, 100)
    s2 = np.log1p(np.expm1(v) / num)
    result: np.ndarray = np.sqrt(s2 + 0.8 * np.square(s2))
    return result


def _student(num: int) -> float:
    z, df = 1.959964, num - 1
    return 1 + (z**2 + 1) / (4 * df) + (5 * z**4 + 16 * z**2 + 3) / (96 * df**2)
