"""Disentanglement by holding one factor fixed: the scores of beta-VAE and FactorVAE, from groups of matching rows."""

from typing import NamedTuple

import numpy as np
import torch

from vaekit.errors import ConfigError, DataError
from vaekit.evaluation.estimate import Score
from vaekit.evaluation.factors.codes import Table, as_table, binomial_stderr, standardized
from vaekit.evaluation.rows import noise
from vaekit.traits import Data


class _Groups(NamedTuple):
    """Rows sorted by the value of one factor; values with a single row are left out."""

    rows: np.ndarray
    starts: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, table: Table, factor: int) -> "_Groups":
        labels = table.labels[:, factor]
        counts = np.bincount(labels)
        usable = counts >= 2
        if not bool(usable.any()):
            raise DataError(
                f"no value of factor {factor} occurs twice, so it cannot be held fixed. Bin it, or leave it out."
            )
        return cls(np.argsort(labels, kind="stable"), (np.cumsum(counts) - counts)[usable], counts[usable])

    def batches(self, num: int, size: int, rng: np.random.Generator) -> np.ndarray:
        """Rows (num, size) drawn with replacement, each batch from one value, all values alike."""
        value = rng.integers(len(self.counts), size=num)[:, None]
        return self.rows[self.starts[value] + rng.integers(self.counts[value], size=(num, size))]

    def pairs(self, num: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Two different rows of the same value, for num x size values drawn alike: shapes (num, size)."""
        value = rng.integers(len(self.counts), size=(num, size))
        first = rng.integers(self.counts[value])
        second = (first + 1 + rng.integers(self.counts[value] - 1)) % self.counts[value]
        return self.rows[self.starts[value] + first], self.rows[self.starts[value] + second]


def _check(num_points: int, size: int, num_factors: int) -> int:
    """Points per factor: as many of each, so that chance is 1 / F exactly."""
    if num_points < num_factors or size < 2:
        raise ConfigError(
            f"num_points is at least the number of factors, {num_factors}, and batches hold at least 2 rows; got "
            f"{num_points} and {size}"
        )
    return num_points // num_factors


def beta_vae_score(
    codes: Data,
    factors: Data,
    *,
    num_points: int = 1000,
    batch_size: int = 64,
    generator: torch.Generator | None = None,
) -> Score:
    r"""The score of beta-VAE: how often a linear classifier tells which factor two rows have in common.

    A point is the mean of \( |z - z'| \) over `batch_size` pairs of rows that agree in one factor; a code that holds
    this factor alone differs less. Pairs are rows of the data set with matching values. A logistic regression on the
    codes over their standard deviations is fitted to `num_points` points, and judged by as many others.

    Use it to compare with published numbers. It is lenient: the classifier may combine all codes, so that a factor may
    be spread over several of them, and one of the factors even be left out. Chance is 1 / F, which is what constant
    codes score.

    References:
        Higgins et al., "beta-VAE: learning basic visual concepts with a constrained variational framework", 2017,
        https://openreview.net/forum?id=Sy2fzU9gl.

    Args:
        codes: means of q(z|x), shape (N, *Z), flattened to (N, D), N >= 20.
        factors: the values of F >= 2 discrete factors, integers, shape (N, F).
        num_points: points to fit to, and points to judge by, split evenly over the factors.
        batch_size: pairs per point.
        generator: source of the pairs.

    Returns:
        The accuracy, in [0, 1]; its binomial standard error for the rows and the classifier as they are; details:
        `chance`, `mean_differences` (F, D): rows are the factor held fixed.

    Raises:
        ShapeError, DataError: as `mig`, and if no value of a factor occurs twice.
        ConfigError: if there is less than a point per factor, or less than 2 pairs.

    Example:
        >>> import numpy as np
        >>> factors = np.random.default_rng(0).integers(3, size=(400, 2))
        >>> beta_vae_score(factors.astype(float), factors, num_points=100).value
        1.0
    """
    from sklearn.linear_model import LogisticRegression

    table = as_table(codes, factors, min_factors=2)
    num_factors = len(table.num_values)
    each = _check(num_points, batch_size, num_factors)
    rng = noise(generator)
    scaled = standardized(table.codes)
    sets = []
    for f in range(num_factors):
        first, second = _Groups.of(table, f).pairs(2 * each, batch_size, rng)
        sets.append(np.stack([np.abs(scaled[a] - scaled[b]).mean(0) for a, b in zip(first, second, strict=True)]))
    points, labels = np.stack(sets), np.repeat(np.arange(num_factors), each)
    fitted = LogisticRegression(max_iter=1000).fit(points[:, :each].reshape(len(labels), -1), labels)
    value = float((fitted.predict(points[:, each:].reshape(len(labels), -1)) == labels).mean())
    details = {"chance": 1 / num_factors, "mean_differences": points.mean(1)}
    return Score(value, binomial_stderr(value, len(labels)), details)


def factor_vae_score(
    codes: Data,
    factors: Data,
    *,
    num_points: int = 1000,
    batch_size: int = 64,
    generator: torch.Generator | None = None,
) -> Score:
    r"""The score of FactorVAE: how often the code that varies least tells which factor was held fixed.

    Each of `num_points` votes takes `batch_size` rows that agree in one factor and finds
    \( \arg\min_j Var(z_j) / Var_{data}(z_j) \); each code then stands for the factor that it was most often found for.
    As many fresh votes judge it. Batches are rows of the data set with matching values, drawn with replacement.

    Use it rather than the score of beta-VAE: no classifier has to be fitted, and a code per factor is needed for 1.
    Codes that do not vary at all have no vote; where none varies the score is 0. Chance is 1 / F. Codes that vary
    little are kept: unlike in the paper, which knows the prior, their scale means nothing here.

    References:
        Kim & Mnih, "Disentangling by factorising", 2018, https://arxiv.org/abs/1802.05983.

    Args:
        codes: means of q(z|x), shape (N, *Z), flattened to (N, D), N >= 20.
        factors: the values of F >= 2 discrete factors, integers, shape (N, F).
        num_points: votes to learn from, and votes to judge by, split evenly over the factors.
        batch_size: rows per vote.
        generator: source of the batches.

    Returns:
        The accuracy, in [0, 1]; its binomial standard error for the rows and the majority as they are; details:
        `chance`, `votes` (D, F) of the first kind, `num_varying`, the codes that have a vote.

    Raises:
        ShapeError, DataError, ConfigError: as `beta_vae_score`.

    Example:
        >>> import numpy as np
        >>> factors = np.random.default_rng(0).integers(3, size=(400, 2))
        >>> factor_vae_score(factors.astype(float), factors, num_points=100).value
        1.0
    """
    table = as_table(codes, factors, min_factors=2)
    (num_codes, num_factors), varying = (table.codes.shape[1], len(table.num_values)), np.ptp(table.codes, axis=0) > 0
    each = _check(num_points, batch_size, num_factors)
    rng = noise(generator)
    groups = [_Groups.of(table, f) for f in range(num_factors)]
    votes = np.zeros((2, num_codes, num_factors))
    if bool(varying.any()):
        scaled = standardized(table.codes)[:, varying]
        names = np.flatnonzero(varying)
        for f, group in enumerate(groups):
            # From the first row on, a code that is one number in the batch has variance 0, not that of rounding.
            batches = (scaled[rows] - scaled[rows[0]] for rows in group.batches(2 * each, batch_size, rng))
            found = [names[np.argmin(batch.var(0))] for batch in batches]
            for kind, part in enumerate((found[:each], found[each:])):
                votes[kind, :, f] = np.bincount(part, minlength=num_codes)
    meaning = votes[0].argmax(1)
    value = float(votes[1][np.arange(num_codes), meaning].sum() / (each * num_factors))
    details = {"chance": 1 / num_factors, "votes": votes[0], "num_varying": int(varying.sum())}
    return Score(value, binomial_stderr(value, each * num_factors), details)
