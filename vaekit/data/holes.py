"""Columns that say which cells of other columns are empty, as elements of x; and columns that are no data."""

from collections.abc import Sequence

import numpy as np

from vaekit.data.column import NORMAL, Column
from vaekit.data.reading import notice

LEAST_HOLES = 5  # cells that are empty, and that are not: fewer say nothing of why


def empty_together(columns: Sequence[Column], x: np.ndarray) -> list[list[str]]:
    """Names of columns that are empty in the same rows, in some and not in all.

    Args:
        columns: The elements of x.
        x: Rows, shape (N, D), NaN for empty cells.
    """
    found: dict[bytes, list[str]] = {}
    for column, empty in zip(columns, np.isnan(x).T, strict=True):
        if min(empty.sum(), (~empty).sum()) >= LEAST_HOLES:
            found.setdefault(np.packbits(empty).tobytes(), []).append(column.name)
    return list(found.values())


def hole_columns(columns: Sequence[Column], groups: Sequence[Sequence[str]], by_value: bool) -> list[Column]:
    """A column of bits for each pattern of holes, named after the columns that are empty in the same rows.

    Args:
        columns: The elements of x.
        groups: Those that are empty together.
        by_value: Whether a cell may be empty because of what it holds; see `Schema.with_holes`.
    """
    kinds = {column.name: column.kind for column in columns}
    holes = []
    for group in groups:
        names = sorted(group, key=lambda name: kinds[name] not in NORMAL) if by_value else group
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        why = f"cells of {', '.join(map(repr, names[:4]))}{', ...' if len(names) > 4 else ''} are empty together"
        hole = Column(
            name=f"{names[0]}{more} empty",
            kind="hole",
            why=why if more else "some cells are empty",
            dtype="Boolean",
            levels=(False, True),
            of=names[0],
            by_value=by_value and kinds[names[0]] in NORMAL,
        )
        holes.append(hole)
    return holes


def say_dropped(columns: Sequence[Column], name: str) -> None:
    """Say which columns of a table are free text, and no data."""
    texts = [column for column in columns if column.kind == "text"]
    if texts:
        reasons = "; ".join(f"{column.name!r} ({column.why})" for column in texts)
        notice(f"{name!r}: free text is no data, and is dropped: {reasons}.")
