"""What became of the rows of a fit: data that grew, were changed or sorted, held against what the run remembers."""

import base64
import hashlib
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vaekit.data import Dataset
from vaekit.data.kinds import TABLES
from vaekit.runs.described import digest
from vaekit.runs.folder import DataAbout

MAX_ROWS = 2**16
"""Rows of a fit that a run remembers one by one; of more it remembers one checksum of all."""
_NAMED = 5  # columns or rows that a sentence names


def column_checksums(rows: Dataset) -> tuple[int, ...] | None:
    """A crc32 of each column of a table, over its rows; None for other data."""
    if rows.kind != TABLES.name:
        return None
    found = [0] * rows.event_shape[0]
    for x in rows.blocks():
        found = [zlib.crc32(column.data, crc) for crc, column in zip(found, np.ascontiguousarray(x.T), strict=True)]
    return tuple(found)


def row_digests(rows: Dataset) -> str | None:
    """Eight bytes of BLAKE2b of each row, in base64; None where there are many rows."""
    if len(rows) > MAX_ROWS:
        return None
    return base64.b64encode(_digests(rows, rows.dtype).tobytes()).decode()


def _digests(rows: Dataset, dtype: np.dtype) -> np.ndarray:
    """The digest of each row, shape (N,), after a change of dtype."""
    blocks = (np.ascontiguousarray(x.astype(dtype, copy=False)).reshape(len(x), -1) for x in rows.blocks())
    found = b"".join(hashlib.blake2b(row.data, digest_size=8).digest() for block in blocks for row in block)
    digests: np.ndarray = np.frombuffer(found, "<u8")
    return digests


def _remembered(about: DataAbout) -> np.ndarray | None:
    """The digest of each row of the fit, shape (N,); None where the run has none, or damaged ones."""
    text = about.local.row_digests if about.local else None
    if text is None:
        return None
    try:
        found: np.ndarray = np.frombuffer(base64.b64decode(text, validate=True), "<u8")
    except ValueError:
        return None
    return found if len(found) == about.num_rows else None


@dataclass(frozen=True, eq=False)
class Again:
    """The rows of a fit, found again by their content among N' rows.

    Attributes:
        trained: which rows are equal to one that was trained on, shape (N',), bool.
        held_out: which are equal to one that was held out and to none that was trained on, shape (N',), bool.
        num_missing: how many rows of the fit are not among them.
        moved: numbers of the rows that stood elsewhere, or were others, at the time of the fit; None where there are
            more or fewer rows now.
    """

    trained: np.ndarray
    held_out: np.ndarray
    num_missing: int
    moved: np.ndarray | None

    @property
    def new(self) -> np.ndarray:
        """Which rows are equal to none of the fit, shape (N',), bool."""
        result: np.ndarray = ~(self.trained | self.held_out)
        return result

    @property
    def any(self) -> bool:
        """Whether a single row was found."""
        return bool((self.trained | self.held_out).any())


def find_again(about: DataAbout, rows: Dataset, trained: np.ndarray) -> Again | None:
    """Find the rows of a fit among others.

    Args:
        about: what the run remembers of its data.
        rows: the others.
        trained: numbers of the rows of the fit that were trained on.

    Returns:
        What was found; None where the run does not know its rows one by one, or these have another shape.
    """
    fitted = _remembered(about)
    if fitted is None or about.dtype is None or rows.event_shape != about.event_shape:
        return None
    now = _digests(rows, np.dtype(about.dtype))
    is_trained = np.isin(now, fitted[trained])
    is_held_out = np.isin(now, np.delete(fitted, trained)) & ~is_trained
    missing = Counter(fitted.tolist()) - Counter(now.tolist())
    moved = np.flatnonzero(now != fitted) if len(now) == len(fitted) else None
    return Again(is_trained, is_held_out, missing.total(), moved)


def starts_with(about: DataAbout, rows: Dataset) -> bool:
    """Whether the first of these rows, or all, are those that were handed to the fit, in their order."""
    fitted = about.num_rows
    if about.crc32 is None or fitted is None or len(rows) < fitted or rows.event_shape != about.event_shape:
        return False
    first = rows if len(rows) == fitted else rows.take(np.arange(fitted))
    if about.dtype is None or first.dtype == about.dtype:
        return digest(first) == about.crc32
    crc = 0
    for x in first.blocks():  # a new row may have given a column of whole numbers another dtype
        same = x.astype(about.dtype)
        if not np.array_equal(same, x):
            return False
        crc = zlib.crc32(np.ascontiguousarray(same).reshape(-1).view(np.uint8).data, crc)
    return crc == about.crc32


def in_words(about: DataAbout, rows: Dataset, found: Again | None) -> tuple[str, str] | None:
    """How rows differ from those of a fit, and what follows for the split; None where they are the same.

    Args:
        about: what the run remembers of its data.
        rows: rows that were read from where the data of the run lie.
        found: what `find_again` gives for them.
    """
    before, now = about.num_rows or 0, len(rows)
    if about.crc32 is None:
        return None
    if starts_with(about, rows):
        added = f"{_rows(now - before)} appended", "They count as held-out rows."
        return None if now == before else added
    if found is None:
        values = f"{_rows(now)} instead of {before:,}" if now != before else "some values are others"
        return f"{values}{_columns(about, rows)}", "Which of the rows were trained on is no longer known."
    if not found.any:
        none = f"none of the {_rows(now)} is one of the {before:,} of the fit{_columns(about, rows)}"
        return none, "Which of the rows were trained on, before they were changed, is not known."
    num_new = int(found.new.sum())
    known = "The rows of the fit are known by their content"
    if not found.num_missing and not num_new:
        return "the rows stand in another order", f"{known}."
    if not found.num_missing:
        return f"{_rows(num_new)} inserted", f"{known}, and the others count as held-out rows."
    where = "" if found.moved is None else f" ({_listed('row', found.moved.tolist())}{_columns(about, rows)})"
    left_out = f"; {_rows(num_new)}, new or changed, count neither as trained on nor as held out" if num_new else ""
    return f"{found.num_missing:,} of the {before:,} rows changed or gone{where}", f"{known}{left_out}."


def _columns(about: DataAbout, rows: Dataset) -> str:
    """The columns whose cells differ, where there are as many rows as before and some columns do not."""
    before = about.local.column_crc32 if about.local else None
    if before is None or len(rows) != about.num_rows:
        return ""
    now = column_checksums(rows) or ()
    if len(now) != len(before):
        return ""
    names = about.columns or tuple(map(str, range(len(now))))
    changed = [repr(name) for name, a, b in zip(names, before, now, strict=True) if a != b]
    return f", {_listed('column', changed)}" if 0 < len(changed) < len(now) else ""


def _listed(what: str, names: Sequence[object]) -> str:
    more = ", ..." if len(names) > _NAMED else ""
    return f"{what}{'s' if len(names) > 1 else ''} {', '.join(map(str, names[:_NAMED]))}{more}"


def _rows(count: int) -> str:
    return f"{count:,} row{'s' if count != 1 else ''}"
