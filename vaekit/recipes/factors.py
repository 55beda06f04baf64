"""Factor analysis with holes, by the EM algorithm: the linear model that a model of a table starts from."""

import math
from dataclasses import dataclass

import numpy as np

Floor = float | np.ndarray
"""Of the variances, one for all or one for each."""

SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24)
"""Numbers of factors that are tried."""

_RIDGE = 1e-6  # in rows: a column that was observed in fewer rows than there are factors still has a solution
_FEW = 20  # steps of EM after which numbers of factors are compared
_TRIMMED = 0.02  # share of the held-out rows, the least likely ones, by which no number of factors is judged


@dataclass(frozen=True, eq=False)
class Factors:
    r"""Numbers \( s = \mu + W z + \epsilon \), \( z \sim N(0, I) \), \( \epsilon_j \sim N(0, \psi_j) \).

    Attributes:
        loc: \( \mu \), shape (S,).
        loadings: W, shape (S, L).
        variance: \( \psi \), shape (S,).
    """

    loc: np.ndarray
    loadings: np.ndarray
    variance: np.ndarray

    @property
    def latent_dim(self) -> int:
        """L."""
        return int(self.loadings.shape[1])

    def in_units(self, loc: np.ndarray, scale: np.ndarray) -> "Factors":
        """The same of the numbers loc + scale s."""
        return Factors(loc + scale * self.loc, scale[:, None] * self.loadings, scale**2 * self.variance)

    def log_prob(self, s: np.ndarray) -> np.ndarray:
        """log p of what was observed of each row of s, shape (N, S) with NaN for holes: shape (N,), in nats."""
        result: np.ndarray = _Expected(self, s).log_prob
        return result

    def posterior(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of z given what was observed of each row: shapes (N, L) and (N, L, L)."""
        found = _Expected(self, s)
        return found.mean, found.covariance[found.which]


class _Expected:
    """What an E step finds of rows s, shape (N, S): one matrix for all rows with the same holes.

    Args:
        factors: the model.
        s: the rows.
    """

    def __init__(self, factors: Factors, s: np.ndarray) -> None:
        mask = ~np.isnan(s)
        size, weight = factors.latent_dim, mask / factors.variance
        if mask.all():
            patterns, self.which = weight[:1], np.zeros(len(s), dtype=int)
        else:
            _, first, which = np.unique(np.packbits(mask, 1), axis=0, return_index=True, return_inverse=True)
            patterns, self.which = weight[first], which.reshape(-1)
        rows, columns = np.triu_indices(size)
        products = factors.loadings[:, rows] * factors.loadings[:, columns]
        precision = _symmetric(patterns @ products, size) + np.eye(size)
        self.covariance = np.linalg.inv(precision)
        residual = np.where(mask, s - factors.loc, 0.0)
        pull = (weight * residual) @ factors.loadings
        self.mean = np.einsum("nij,nj->ni", self.covariance[self.which], pull)
        squares = (weight * residual**2).sum(1) - (pull * self.mean).sum(1)
        log_det = np.linalg.slogdet(precision)[1][self.which] + (mask * np.log(factors.variance)).sum(1)
        self.log_prob = -0.5 * (squares + log_det + mask.sum(1) * math.log(2 * math.pi))


def _maximized(found: _Expected, s: np.ndarray, least: Floor) -> Factors:
    """The M step: each number regressed on (z, 1) over the rows in which it was observed.

    z may have any mean and covariance in it, which loadings and locations then absorb (parameter-expanded EM, Liu,
    Rubin & Wu 1998): the same maximum, in a fraction of the steps.
    """
    mask = ~np.isnan(s)
    filled, (num_rows, size) = np.where(mask, s, 0.0), found.mean.shape
    z = np.concatenate([found.mean, np.ones((num_rows, 1))], 1)
    rows, columns = np.triu_indices(size + 1)
    inner = columns < size
    second = z[:, rows] * z[:, columns]
    second[:, inner] += found.covariance[:, rows[inner], columns[inner]][found.which]
    summed = second.sum(0, keepdims=True)
    of_each = np.broadcast_to(summed, (s.shape[1], len(rows))) if mask.all() else mask.T.astype(float) @ second
    moments = _symmetric(of_each, size + 1)
    count = np.maximum(mask.sum(0), 1)
    right = filled.T @ z
    solved = np.linalg.solve(moments + _RIDGE * np.eye(size + 1), right[:, :, None])[:, :, 0]
    rest = (filled**2).sum(0) - 2 * (solved * right).sum(1) + np.einsum("si,sij,sj->s", solved, moments, solved)
    mean = found.mean.mean(0)
    spread = np.linalg.cholesky(_symmetric(summed, size + 1)[0, :size, :size] / num_rows - np.outer(mean, mean))
    loadings = solved[:, :size]
    return Factors(solved[:, size] + loadings @ mean, loadings @ spread, np.maximum(rest / count, least))


def _symmetric(upper: np.ndarray, size: int) -> np.ndarray:
    """Matrices, shape (..., L, L), from their entries on and above the diagonal."""
    rows, columns = np.triu_indices(size)
    full = np.empty((len(upper), size, size))
    full[:, rows, columns] = upper
    full[:, columns, rows] = upper
    return full


def _begun(s: np.ndarray, latent_dim: int, least: Floor) -> Factors:
    """Principal components of the rows with their holes filled by the mean."""
    observed = ~np.isnan(s)
    loc = np.where(observed, s, 0.0).sum(0) / np.maximum(observed.sum(0), 1)
    centred = np.where(observed, s - loc, 0.0)
    covariance = centred.T @ centred / len(s)
    values, vectors = np.linalg.eigh(covariance)
    kept = values[-latent_dim:]
    noise = (values.sum() - kept.sum()) / max(1, len(values) - latent_dim)
    loadings = vectors[:, -latent_dim:] * np.sqrt(np.maximum(kept - noise, 1e-3))
    variance = np.maximum(np.diag(covariance) - (loadings**2).sum(1), 0.1 * np.diag(covariance))
    return Factors(loc, loadings, np.maximum(variance, least))


def fit_factors(
    s: np.ndarray,
    latent_dim: int,
    *,
    least: Floor = 1e-6,
    num_steps: int = 100,
    tolerance: float = 1e-4,
    start: Factors | None = None,
) -> Factors:
    r"""Factor analysis of rows with holes, fitted by maximum likelihood.

    Args:
        s: rows, shape (N, S), NaN where nothing was observed; each number in one row at least.
        latent_dim: L.
        least: floor of the variances \( \psi \).
        num_steps: steps of EM at most.
        tolerance: nats per row; a rise of log p by less ends the steps.
        start: where to begin; None takes principal components.

    Returns:
        The factors, turned so that \( W^T \Psi^{-1} W \) is diagonal, the largest first.

    References:
        Rubin & Thayer, "EM algorithms for ML factor analysis", 1982, https://doi.org/10.1007/BF02293851.
        Liu, Rubin & Wu, "Parameter expansion to accelerate EM: the PX-EM algorithm", 1998,
        https://doi.org/10.1093/biomet/85.4.755.
    """
    factors, before = start or _begun(s, latent_dim, least), -math.inf
    for _ in range(num_steps):
        found = _Expected(factors, s)
        now = float(found.log_prob.mean())
        if now - before < tolerance:
            break
        factors, before = _maximized(found, s, least), now
    return _turned(factors)


def _turned(factors: Factors) -> Factors:
    """The same distribution with factors that are independent given a row without holes, the strongest first."""
    scaled = factors.loadings / np.sqrt(factors.variance)[:, None]
    _, _, turn = np.linalg.svd(scaled, full_matrices=False)
    turn = turn if len(turn) == factors.latent_dim else np.eye(factors.latent_dim)
    return Factors(factors.loc, factors.loadings @ turn.T, factors.variance)


def best_factors(s: np.ndarray, held_out: np.ndarray, most: int, *, least: Floor = 1e-6) -> Factors:
    """Factor analysis of as many factors as held-out rows are best explained by.

    Args:
        s: rows to fit, shape (N, S), NaN for holes.
        held_out: rows to judge by, likewise.
        most: no more factors than this, at least 1.
        least: floor of the variances.

    Returns:
        The factors of the best size out of `SIZES`, after a few steps on `s`. The 2% of the held-out rows that are
        least likely under each size do not count: one outlier outweighs all others.
    """
    sizes = [size for size in SIZES if size <= max(1, min(most, len(s) - 1))]
    found = [fit_factors(s, size, least=least, num_steps=_FEW, tolerance=1e-3) for size in sizes]
    return max(found, key=lambda factors: _trimmed_mean(factors.log_prob(held_out)))


def _trimmed_mean(values: np.ndarray) -> float:
    """The mean without the least values."""
    return float(np.sort(values)[int(_TRIMMED * len(values)) :].mean())
