"""Sparse matrices as `scipy.sparse.save_npz` writes them: an .npz archive of the numbers and of their places."""

from collections.abc import Callable
from typing import Any

import numpy as np

from vaekit.data.disk_cache import free_memory
from vaekit.errors import DataError

_PLACES = {
    "csr": ("indices", "indptr"),
    "csc": ("indices", "indptr"),
    "bsr": ("indices", "indptr"),
    "coo": ("row", "col"),
    "dia": ("offsets",),
}


def is_sparse(members: list[str]) -> bool:
    """Whether these are the members of a sparse matrix: its numbers, their places, its format and its shape."""
    return {"data", "format", "shape"} <= set(members) and any(set(names) <= set(members) for names in _PLACES.values())


def dense(read: Callable[[str], np.ndarray], where: str) -> np.ndarray:
    """The matrix with its zeros, shape (N, D), in the dtype of its numbers.

    Args:
        read: Reads the member of a name.
        where: What to call the archive.

    Raises:
        DataError: The places do not fit the shape, or the zeros do not fit into memory.
    """
    kind, shape = _kind(read("format")), _shape(read("shape"))
    numbers = read("data")
    if kind not in _PLACES or shape is None or numbers.dtype.kind not in "buif":
        raise DataError(
            f"{where} is no sparse matrix of numbers that can be read. Write it again (scipy.sparse.save_npz)."
        )
    num_bytes = shape[0] * shape[1] * numbers.dtype.itemsize
    if num_bytes > 0.9 * free_memory():
        raise DataError(
            f"{where} holds a sparse matrix of shape {shape}, which takes {num_bytes / 2**30:,.1f} GiB with its zeros: "
            "more than is free. Take fewer columns, or write it to a .npy file in parts."
        )
    places = [read(name) for name in _PLACES[kind]]
    try:
        if any(place.dtype.kind not in "iu" for place in places):
            raise ValueError("the places of its numbers are no integers")
        filled: np.ndarray = _matrix(kind, numbers, places, shape).toarray()
        return filled
    except (ValueError, IndexError, TypeError) as error:
        raise DataError(
            f"{where} is a damaged sparse matrix: {error}. Write it again (scipy.sparse.save_npz)."
        ) from error


def _matrix(kind: str, numbers: np.ndarray, places: list[np.ndarray], shape: tuple[int, int]) -> Any:
    from scipy import sparse  # type: ignore[import-untyped]  # on use: few archives are sparse

    if kind == "coo":
        return sparse.coo_matrix((numbers, tuple(places)), shape=shape)
    if kind == "dia":
        return sparse.dia_matrix((numbers, *places), shape=shape)
    matrix = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "bsr": sparse.bsr_matrix}[kind](
        (numbers, *places), shape=shape
    )
    matrix.check_format(full_check=True)  # its compiled code trusts what it is told
    return matrix


def _kind(text: np.ndarray) -> str:
    return bytes(text.item()).decode("ascii", "replace") if text.dtype.kind == "S" and text.ndim == 0 else ""


def _shape(sides: np.ndarray) -> tuple[int, int] | None:
    if sides.dtype.kind not in "iu" or sides.shape != (2,) or sides.min() < 0:
        return None
    return int(sides[0]), int(sides[1])
