"""Disentanglement by mutual information: the gap between codes (MIG), and modularity."""

import math
from collections.abc import Callable

import numpy as np
import torch

from vaekit.evaluation.estimate import Score
from vaekit.evaluation.factors.codes import as_table, binned, bootstrap_stderr, gap_to_second, mutual_information
from vaekit.evaluation.rows import noise
from vaekit.traits import Data


def _gap(information: np.ndarray, entropies: np.ndarray) -> float:
    varying = entropies > 0  # in a resample of few rows a factor may have one value: nothing is to be known of it
    shares = gap_to_second(information)[varying] / entropies[varying]
    return float(shares.clip(0, 1).mean()) if len(shares) else math.nan


def _modularity(information: np.ndarray, entropies: np.ndarray) -> float:
    best = np.square(information).max(axis=1)
    rest = np.square(information).sum(axis=1) - best
    deviation = rest / (np.where(best > 0, best, 1) * (information.shape[1] - 1))
    return float(np.where(best > 0, 1 - deviation, 0).clip(0, 1).mean())


def _score(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    codes: Data,
    factors: Data,
    num_bins: int,
    num_bootstrap: int,
    generator: torch.Generator | None,
    min_factors: int,
) -> Score:
    table = as_table(codes, factors, min_factors=min_factors)
    bins = binned(table.codes, num_bins)
    information, entropies = mutual_information(bins, table.labels)
    stderr = bootstrap_stderr(
        lambda weights: statistic(*mutual_information(bins, table.labels, weights)),
        len(bins),
        num_bootstrap,
        noise(generator),
    )
    details = {"mutual_information": information, "entropies": entropies, "num_bins": num_bins}
    return Score(statistic(information, entropies), stderr, details)


def mig(
    codes: Data,
    factors: Data,
    *,
    num_bins: int = 20,
    num_bootstrap: int = 50,
    generator: torch.Generator | None = None,
) -> Score:
    r"""The mutual information gap: by how much the best code of a factor knows more of it than the second-best.

    \[ \frac1F \sum_k \frac{I(z_{(1)}; v_k) - I(z_{(2)}; v_k)}{H(v_k)}. \]
    1 if each factor is told by one code and by no other; 0 if two codes tell as much, or none tells anything. The
    information is that of counts, with codes in equal-width bins between their extremes: biased upwards by about
    (bins - 1)(values - 1) / 2N nats a pair, so take thousands of rows.

    Use it where each factor should be one axis. A code that holds two factors is not punished (see `modularity`), and a
    factor with two coordinates, such as an angle, cannot score well.

    References:
        Chen et al., "Isolating sources of disentanglement in variational autoencoders", 2018,
        https://arxiv.org/abs/1802.04942.

    Args:
        codes: means of q(z|x), shape (N, *Z), flattened to (N, D), N >= 20.
        factors: the values of F discrete factors, integers, shape (N, F).
        num_bins: bins of each code.
        num_bootstrap: resamples of the rows for the standard error, at least 2.
        generator: source of the resamples.

    Returns:
        In [0, 1]; bootstrap standard error; details: `mutual_information` (D, F) and `entropies` (F,) in nats,
        `num_bins`.

    Raises:
        ShapeError, DataError: if codes and factors are no finite numbers and integers with as many rows, a factor has
            one value only, or rows are too few.
        ConfigError: if there are fewer than 2 bins or resamples.

    Example:
        >>> import numpy as np
        >>> factors = np.stack(np.meshgrid(range(4), range(5)), -1).reshape(-1, 2)
        >>> round(mig(factors.astype(float), factors).value, 9)
        1.0
    """
    return _score(_gap, codes, factors, num_bins, num_bootstrap, generator, min_factors=1)


def modularity(
    codes: Data,
    factors: Data,
    *,
    num_bins: int = 20,
    num_bootstrap: int = 50,
    generator: torch.Generator | None = None,
) -> Score:
    r"""Modularity: whether each code knows of one factor only.

    \[ \frac1D \sum_i \Big(1 - \frac{\sum_{f \ne f_i} I(z_i; v_f)^2}{(F - 1) I(z_i; v_{f_i})^2}\Big),
       \quad f_i = \arg\max_f I(z_i; v_f). \]
    A code that knows of no factor counts 0, as one of pure noise does, whose small information is spread evenly.

    Use it beside `mig`: several codes may share a factor here, and one code may not hold several. The information is
    taken as in `mig`, from equal-width bins.

    References:
        Ridgeway & Mozer, "Learning deep disentangled embeddings with the F-statistic loss", 2018,
        https://arxiv.org/abs/1802.05312.

    Args:
        codes: means of q(z|x), shape (N, *Z), flattened to (N, D), N >= 20.
        factors: the values of F >= 2 discrete factors, integers, shape (N, F).
        num_bins: bins of each code.
        num_bootstrap: resamples of the rows for the standard error, at least 2.
        generator: source of the resamples.

    Returns:
        In [0, 1]; bootstrap standard error; details as those of `mig`.

    Raises:
        ShapeError, DataError, ConfigError: as `mig`.

    Example:
        >>> import numpy as np
        >>> factors = np.stack(np.meshgrid(range(4), range(5)), -1).reshape(-1, 2)
        >>> both = factors @ [[1.0, 5.0, 1.0], [0.0, 0.0, 5.0]]  # the last code holds both factors
        >>> round(modularity(both[:, :2], factors).value, 9), modularity(both, factors).value < 0.9
        (1.0, True)
    """
    return _score(_modularity, codes, factors, num_bins, num_bootstrap, generator, min_factors=2)
