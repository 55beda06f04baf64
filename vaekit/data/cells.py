"""Cells of a file that are empty or infinite, told by the row, the line and the column where they stand."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from vaekit.data.dataset import Dataset
from vaekit.data.readers.frames import line_of
from vaekit.errors import DataError, NonFiniteError


@contextmanager
def naming_cells(data: Dataset, *, is_whole: bool = False) -> Iterator[None]:
    """Where a model refuses rows for a value that is NaN or infinite, say where in their file the first one stands.

    Args:
        data: The rows, or all rows of which the model saw a part.
        is_whole: Whether they are all rows of their file, in its order.

    Raises:
        DataError: In the place of a `NonFiniteError` of the block.
    """
    try:
        yield
    except NonFiniteError as error:
        message = _bad_cells(data, is_whole, holes=True)
        raise error if message is None else NonFiniteError(message) from error


def refuse_infinite(data: Dataset) -> None:
    """Refuse the rows of a whole file where one of their values is infinite, which no model takes.

    Raises:
        DataError: One is.
    """
    message = _bad_cells(data, is_whole=True, holes=False)
    if message is not None:
        raise DataError(message)


def _bad_cells(data: Dataset, is_whole: bool, holes: bool) -> str | None:
    """What to say of cells that are infinite, or are NaN where these are no good; None where there are none."""
    if data.dtype.kind != "f":
        return None
    first: tuple[int, tuple[int, ...], float] | None = None
    num_bad = start = 0
    for x in data.blocks():
        bad = ~np.isfinite(x) if holes else np.isinf(x)
        num_bad += int(bad.sum())
        if first is None and bad.any():
            row, *place = (int(i) for i in np.argwhere(bad)[0])
            first = start + row, tuple(place), float(x[row][tuple(place)])
        start += len(x)
    if first is None:
        return None
    row, at, value = first
    column = repr(data.columns[at[0]]) if data.columns else str(at[0] if len(at) == 1 else at)
    which = "empty" if np.isnan(value) and data.columns else str(value)
    more = f"; {num_bad - 1} more cell(s) are empty or infinite" if num_bad > 1 else ""
    where = f"{'column' if data.columns else 'element'} {column}"
    return f"{data.source}: {_named(data, row, is_whole)}, {where} is {which}{more}. Fill or drop them."


def _named(data: Dataset, row: int, is_whole: bool) -> str:
    key = data.row_keys[row]
    if data.key != "row" and not is_whole:
        return f"the row with {data.key} {key}"
    number = row if data.key != "row" else int(key)
    own = "" if data.key == "row" else f" with {data.key} {key}"
    return f"row {number}{line_of(Path(data.source), data.reading, number)}{own}"
