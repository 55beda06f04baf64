"""Which rows of a data set a run was trained on, as far as its description tells."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vaekit.data import Dataset, StoredDataset, split
from vaekit.data.sources import set_and_part
from vaekit.runs.changes import Again, find_again, starts_with
from vaekit.runs.described import digest
from vaekit.runs.folder import DataAbout, HeldOut

VALIDATION, TEST, HELD_OUT, ROWS = "validation rows", "test rows", "held-out rows", "rows"
CHANGED = "changed rows"  # of the place where the data of a run lie: some may have been trained on
PartOfSet = Callable[[str], Dataset | None]


@dataclass(frozen=True, eq=False)
class Split:
    """The rows of a data set that a run was trained on, and the others.

    Attributes:
        train: numbers of the rows that were trained on, ascending, int64.
        held_out: numbers of the others, ascending, int64. Where the data changed since the fit, rows that may be
            changed rows of the fit are in neither.
        part: what the others are: "validation rows" chose the epoch, "test rows" are the test part of the named set,
            "held-out rows" are some of each, or newer than the fit; "rows" where the run knows nothing of them.
        is_known: whether the run knows the rows. Of others it was trained on none as far as it knows.
    """

    train: np.ndarray
    held_out: np.ndarray
    part: str
    is_known: bool = True


@dataclass(frozen=True, eq=False)
class Parts:
    """Rows to judge a run by, apart: those that it was trained on never stand among the others.

    Attributes:
        name: name of the data.
        held_out: rows that were not trained on; None where there are none.
        train: rows that were trained on, to stand beside them; None where none are known.
        part: what the held-out rows are; see `Split`.
    """

    name: str
    held_out: Dataset | None
    train: Dataset | None
    part: str

    @property
    def judged(self) -> Dataset:
        """The held-out rows; where there are none, the rows that were trained on.

        Raises:
            ValueError: if there are neither.
        """
        rows = self.train if self.held_out is None else self.held_out
        if rows is None:
            raise ValueError("parts hold rows of at least one kind")
        return rows


def own_set(about: DataAbout) -> tuple[str, str] | None:
    """The named set that a run was fitted to, and the part of it; None for a path, or where nothing is said."""
    found = set_and_part(about.source or about.name)
    return None if found is None else (found[0], found[1] or "train")


def unknown(rows: Dataset) -> Split:
    """The split of rows that the run knows nothing of."""
    return Split(np.arange(0), np.arange(len(rows)), ROWS, is_known=False)


def held_out_rule(num_rows: int, rule: HeldOut | None = None) -> HeldOut:
    """The rule by which rows are held out, with what it gives for this many."""
    rule = HeldOut() if rule is None else rule
    _, valid = _divided(num_rows, rule)
    return rule.model_copy(update={"num_rows": len(valid), "crc32": zlib.crc32(valid.astype("<i8").tobytes())})


def _divided(num_rows: int, rule: HeldOut) -> tuple[np.ndarray, np.ndarray]:
    return split(num_rows, (1 - rule.fraction, rule.fraction), rule.seed)  # type: ignore[return-value]


def is_fitted_to(about: DataAbout, rows: Dataset) -> bool:
    """Whether these are the rows that were handed to the fit, in their order."""
    return len(rows) == about.num_rows and starts_with(about, rows)


def fitted_split(about: DataAbout, num_rows: int) -> Split | None:
    """The split of rows the first of which were handed to the fit; None where its rule no longer gives what it gave.

    Args:
        about: what the run remembers of its data.
        num_rows: how many there are now; those that came later were not trained on.
    """
    fitted = about.num_rows or 0
    later = np.arange(fitted, num_rows)
    if about.valid is not None and about.held_out is None:
        return Split(np.arange(fitted), later, HELD_OUT)
    rule = about.held_out or HeldOut()
    if about.held_out is not None and held_out_rule(fitted, rule) != rule:
        return None
    train, valid = (np.sort(part) for part in _divided(fitted, rule))
    return Split(train, np.concatenate([valid, later]), HELD_OUT if len(later) else VALIDATION)


def again(about: DataAbout, rows: Dataset) -> Again | None:
    """The rows of the fit among others, by their content; None where the run does not know them one by one."""
    known = fitted_split(about, about.num_rows or 0)
    return None if known is None else find_again(about, rows, known.train)


def _by_content(found: Again) -> Split:
    """The split of data that changed. Where rows of the fit are missing, unknown ones may be those, and are no part."""
    held_out = found.held_out if found.num_missing else ~found.trained
    part = VALIDATION if not (held_out & found.new).any() else HELD_OUT
    return Split(np.flatnonzero(found.trained), np.flatnonzero(held_out), part)


def split_of(about: DataAbout, rows: Dataset, part_of_set: PartOfSet, is_own: bool = False) -> Split:
    """What the run's description says of rows.

    Args:
        about: what the run remembers of its data.
        rows: any rows.
        part_of_set: gives a part of the named set that both are of; None where they are of none, or it cannot be had.
        is_own: whether they were read from where the data of the run lie, which may have changed.
    """
    if about.crc32 is None or about.num_rows is None:
        return unknown(rows)
    if is_fitted_to(about, rows) or (own_set(about) is None and starts_with(about, rows)):
        return fitted_split(about, len(rows)) or unknown(rows)
    if about.valid_crc32 is not None and digest(rows) == about.valid_crc32:
        return Split(np.arange(0), np.arange(len(rows)), VALIDATION)
    if own_set(about) is None:
        found = again(about, rows)
        is_known = found is not None and found.any and (is_own or not found.num_missing)
        return _by_content(found) if found is not None and is_known else unknown(rows)
    return _in_named_set(about, rows, part_of_set) or unknown(rows)


def _in_named_set(about: DataAbout, rows: Dataset, part_of_set: PartOfSet) -> Split | None:
    """The split of another part of the named set that the run was fitted to a part of; None where they are no part."""
    _, own = own_set(about) or ("", "")
    opposite = {"train": "test", "test": "train"}.get(own)
    other = None if opposite is None else part_of_set(opposite)
    if other is not None and len(other) == len(rows) and digest(other) == digest(rows):
        return Split(np.arange(0), np.arange(len(rows)), TEST if opposite == "test" else HELD_OUT)
    fitted = part_of_set(own) if own == "all" or len(rows) > (about.num_rows or 0) else None
    known = fitted_split(about, len(fitted)) if fitted is not None and is_fitted_to(about, fitted) else None
    if fitted is None or known is None:
        return None
    # One of the two holds the other, in another order perhaps.
    trained = _among(rows, fitted, known.train)
    chose = _among(rows, fitted, known.held_out) & ~trained
    if not (trained | chose).any():
        return None
    part = VALIDATION if (trained | chose).all() else TEST if not chose.any() else HELD_OUT
    return Split(np.flatnonzero(trained), np.flatnonzero(~trained), part)


def _among(rows: Dataset, others: Dataset, index: np.ndarray) -> np.ndarray:
    """Which rows are equal to one of some others, shape (N,), bool; in float32 where their dtypes differ."""
    if not len(index) or rows.event_shape != others.event_shape:
        return np.zeros(len(rows), dtype=bool)
    dtype = rows.dtype if rows.dtype == others.dtype else np.dtype(np.float32)
    known = {row.tobytes() for block in others.take(index).blocks() for row in block.astype(dtype)}
    return np.array([row.tobytes() in known for block in rows.blocks() for row in block.astype(dtype)])


def num_alike(rows: Dataset, trained: Dataset | None) -> int:
    """How many rows are equal to one that was trained on, whatever file they stand in; 0 for rows on disk."""
    if trained is None or isinstance(trained, StoredDataset):
        return 0
    return int(_among(rows, trained, np.arange(len(trained))).sum())
