"""Random but fixed divisions of a data set."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from vaekit.data.dataset import Dataset
from vaekit.errors import DataError

D = TypeVar("D", bound=Dataset)


def split(n: int, fractions: Sequence[float], seed: int = 0) -> tuple[np.ndarray, ...]:
    """Divide the rows 0 ... n - 1 at random into parts of given sizes.

    The rows are permuted by `np.random.default_rng(seed)` and cut at floor(n c_k), c_k the cumulative fractions; a
    cut is moved where a part would otherwise be empty. The same arguments always give the same parts.

    Args:
        n: Number of rows N.
        fractions: Size of each part; positive, with sum 1.
        seed: Seed of the permutation.

    Returns:
        One array of row indices for each fraction: disjoint, none empty, together all rows.

    Raises:
        DataError: The fractions are not positive or do not sum to 1, or there are fewer rows than parts.

    Example:
        >>> [len(part) for part in split(10, (0.7, 0.2, 0.1))]
        [7, 2, 1]
    """
    sizes = np.asarray(fractions, dtype=float)
    if sizes.ndim != 1 or sizes.size == 0 or not (sizes > 0).all() or abs(sizes.sum() - 1) > 1e-9:
        raise DataError(f"fractions must be positive and sum to 1; got {tuple(fractions)}, for instance (0.9, 0.1).")
    if n < len(sizes):
        raise DataError(f"Cannot divide {n} row(s) into {len(sizes)} parts that are not empty.")
    cuts = np.floor(np.cumsum(sizes)[:-1] * n + 1e-9).astype(int)  # 0.7 * 10 is a little less than 7
    for k in range(len(cuts)):  # each part gets at least one row, and leaves one for each part after it
        earliest = (cuts[k - 1] if k else 0) + 1
        cuts[k] = min(max(cuts[k], earliest), n - (len(cuts) - k))
    return tuple(np.split(np.random.default_rng(seed).permutation(n), cuts))


def holdout(dataset: D, fraction: float = 0.1, seed: int = 0) -> tuple[D, D]:
    """Set aside a fixed part of a data set for validation.

    Args:
        dataset: The set to divide.
        fraction: Share of the rows to set aside, in (0, 1); at least one row goes to each side.
        seed: Seed of the permutation.

    Returns:
        The rows for training and the rows for validation.

    Raises:
        DataError: The fraction does not lie in (0, 1).
    """
    if not 0 < fraction < 1:
        raise DataError(f"fraction must lie in (0, 1); got {fraction}. To validate on nothing, do not hold out rows.")
    train, valid = split(len(dataset), (1 - fraction, fraction), seed)
    return dataset.take(train), dataset.take(valid)
