"""What the checks on finite samples share: rows as float64 arrays, noise of their own, squared distances."""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch

from vaekit import engine
from vaekit.errors import DataError, ShapeError
from vaekit.models.rows import as_tensor, slices
from vaekit.traits import Data

_VALUES = 2**22  # distances per chunk: 32 MiB of float64


def as_rows(x: Data, *, where: str = "x", min_rows: int = 1) -> np.ndarray:
    """Rows of any event shape as a float64 array (N, D); (N,) becomes (N, 1).

    Raises:
        ShapeError: if x has no rows' dimension, or rows without elements.
        DataError: if x holds NaN or infinity, or fewer than `min_rows` rows.
    """
    tensor = as_tensor(x).detach().cpu()
    if tensor.ndim == 0:
        raise ShapeError(f"expected {where} of shape (N, ...); got a single number. Add the batch dimension.")
    if len(tensor) < min_rows:
        raise DataError(f"expected at least {min_rows} rows in {where}; got {len(tensor)}. Hand over more rows.")
    rows = tensor.reshape(len(tensor), -1).to(torch.float64).numpy() if tensor.numel() else np.zeros((len(tensor), 0))
    if rows.shape[1] == 0:
        raise ShapeError(f"expected rows of at least one element in {where}; got shape {tuple(tensor.shape)}.")
    num_bad = int((~np.isfinite(rows)).sum())
    if num_bad:
        raise DataError(f"{where} has {num_bad} values that are NaN or infinite. Drop those rows or fill them.")
    return rows


def as_pair(x: Data, y: Data, *, names: tuple[str, str] = ("x", "y"), min_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of rows (m, D) and (n, D) of the same event shape.

    Raises:
        ShapeError: if their event shapes differ.
        DataError: see `as_rows`.
    """
    x, y = as_tensor(x), as_tensor(y)
    events = [tuple(value.shape[1:]) for value in (x, y)]
    rows = as_rows(x, where=names[0], min_rows=min_rows), as_rows(y, where=names[1], min_rows=min_rows)
    if events[0] != events[1]:
        raise ShapeError(
            f"{names[0]} and {names[1]} must have rows of the same shape; got {events[0]} and {events[1]}. "
            "Compare them in the same space and layout."
        )
    return rows


def noise(generator: torch.Generator | None) -> np.random.Generator:
    """A numpy stream seeded from `generator`, or from torch's own stream where it is None."""
    return np.random.default_rng(engine.draw_seed(generator))


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    r"""\( |a_i - b_j|^2 \) for rows (m, D) and (n, D): shape (m, n).

    By matrix products, far faster than differences. Both sets are first moved by the same vector of integers near the
    mean: that keeps far-off data exact to rounding, and integers and bits exact altogether, so that their many ties
    stay ties. What rounding leaves of a zero is put back to zero.
    """
    shift = np.rint(b.mean(0))
    a, b = a - shift, b - shift
    norms = np.square(a).sum(1)[:, None] + np.square(b).sum(1)
    distances = norms - 2 * (a @ b.T)
    distances[distances < 1e-12 * norms] = 0
    result: np.ndarray = distances
    return result


def distance_chunks(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Slices of the rows of a, each with its squared distances to all of b, 32 MiB at a time."""
    for rows in slices(len(a), max(1, _VALUES // len(b))):
        yield rows, squared_distances(a[rows], b)


class Classifier(Protocol):
    """A classifier as scikit-learn has them, with `fit` and `predict`; its parameters say which noise it draws."""

    def get_params(self) -> dict[str, Any]:
        """Names to values of its parameters."""
        ...

    def predict(self, rows: np.ndarray, /) -> np.ndarray:
        """The class of each row."""
        ...


def seeded_copy(classifier: Classifier, rng: np.random.Generator) -> Any:
    """A copy whose unset random states, those of its parts included, are drawn: no global stream is touched."""
    from sklearn.base import clone

    states = [k for k, v in classifier.get_params().items() if k.split("__")[-1] == "random_state" and v is None]
    return clone(classifier).set_params(**{name: int(rng.integers(2**31)) for name in states})
