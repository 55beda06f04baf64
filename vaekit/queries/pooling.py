"""One estimate from those of several imputed tables, with an error that holds what the holes cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vaekit.errors import ConfigError


@dataclass(frozen=True)
class Pooled:
    """An estimate from M imputed tables.

    Attributes:
        estimate: the mean of the M estimates.
        stderr: its standard error, the imputations' disagreement included.
        degrees_of_freedom: of the Student's t by which estimate and stderr make an interval.
        missing_information: the share of the information on the estimate that the holes cost, from 0 to 1.
        within: mean of the M variances.
        between: variance of the M estimates.
        num_draws: M.
    """

    estimate: float
    stderr: float
    degrees_of_freedom: float
    missing_information: float
    within: float
    between: float
    num_draws: int


def pool(estimates: Sequence[float], variances: Sequence[float], degrees_of_freedom: float = math.inf) -> Pooled:
    r"""Combine one statistic of M imputed tables by Rubin's rules, with the degrees of freedom of Barnard and Rubin.

    With W the mean of the variances and B the variance of the estimates, the total variance is
    \( T = W + (1 + 1/M) B \). Its degrees of freedom are those of
    \( \nu = (1/\nu_{old} + 1/\nu_{obs})^{-1} \), where \( \lambda = (1 + 1/M) B / T \),
    \( \nu_{old} = (M - 1) / \lambda^2 \) and
    \( \nu_{obs} = \frac{\nu_{com} + 1}{\nu_{com} + 3} \nu_{com} (1 - \lambda) \).

    References:
        Rubin, "Multiple imputation for nonresponse in surveys", 1987, https://doi.org/10.1002/9780470316696, section
        3.3.
        Barnard & Rubin, "Small-sample degrees of freedom with multiple imputation", 1999,
        https://doi.org/10.1093/biomet/86.4.948, equation 3.

    Args:
        estimates: of a scalar in each of M >= 2 tables.
        variances: the squared standard error of each, as if the table had had no holes.
        degrees_of_freedom: \( \nu_{com} \) of the statistic of a table without holes, such as N - 1 for a mean.

    Raises:
        ConfigError: if there are fewer than two estimates, not as many variances, or numbers that are none.

    Example:
        >>> pooled = pool([1.0, 2.0, 3.0], [0.5, 0.5, 0.5], degrees_of_freedom=20)
        >>> round(pooled.estimate, 3), round(pooled.stderr, 3), round(pooled.degrees_of_freedom, 3)
        (2.0, 1.354, 2.149)
    """
    values, squares = np.asarray(estimates, float), np.asarray(variances, float)
    if values.ndim != 1 or values.shape != squares.shape or len(values) < 2:
        raise ConfigError(
            "pool takes two or more estimates of a scalar and as many variances; got shapes "
            f"{values.shape} and {squares.shape}"
        )
    if not (np.isfinite(values).all() and np.isfinite(squares).all() and (squares >= 0).all()):
        raise ConfigError("pool takes estimates that are numbers, and variances that are not negative")
    if not degrees_of_freedom > 0:
        raise ConfigError(f"degrees_of_freedom is above 0; got {degrees_of_freedom}")
    num = len(values)
    within, between = float(squares.mean()), float(values.var(ddof=1))
    extra = (1 + 1 / num) * between
    total = within + extra
    share = extra / total if total > 0 else 0.0
    old = (num - 1) / share**2 if share > 0 else math.inf
    complete = degrees_of_freedom
    observed = math.inf if math.isinf(complete) else (complete + 1) / (complete + 3) * complete * (1 - share)
    if share == 1:
        observed = math.inf if math.isinf(complete) else 0.0
    found = _harmonic(old, observed)
    return Pooled(float(values.mean()), math.sqrt(total), found, _missing(share, found), within, between, num)


def _harmonic(first: float, second: float) -> float:
    """The reciprocal of the sum of the reciprocals."""
    if 0 in (first, second):
        return 0.0
    both = 1 / first + 1 / second
    return math.inf if both == 0 else 1 / both


def _missing(share: float, degrees_of_freedom: float) -> float:
    r"""\( (r + 2 / (\nu + 3)) / (r + 1) \), where share = r / (r + 1) (Rubin 1987, equation 3.1.10)."""
    return share + (1 - share) * (0.0 if math.isinf(degrees_of_freedom) else 2 / (degrees_of_freedom + 3))
