"""Rows that are read and checked as those were that a run was fitted to."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch

from vaekit import data
from vaekit.data import Dataset, Reading
from vaekit.data.by_schema import is_table_file, load_by_schema
from vaekit.data.column import WITH_LEVELS
from vaekit.data.kinds import IMAGES
from vaekit.data.readers import options_of
from vaekit.data.readers.arrays import member_of
from vaekit.data.sources import Part, set_and_part
from vaekit.errors import ColumnError, DataError
from vaekit.frames import as_frame, is_frame
from vaekit.models.rows import as_tensor
from vaekit.paths import as_text
from vaekit.runs.folder import DataAbout
from vaekit.traits import Data


class HowRead(TypedDict, total=False):
    """Keywords of `Run.rows`."""

    data_dir: str | Path | None
    label: str | None
    key: str | None
    reading: Reading | None
    lenient: bool


def rows_like(
    about: DataAbout,
    source: Data,
    part: Part = "test",
    *,
    data_dir: str | Path | None = None,
    label: str | None = None,
    key: str | None = None,
    reading: Reading | None = None,
    lenient: bool = False,
) -> Dataset:
    """Other rows, read and checked as the training data of a run were; see `Run.rows` for the arguments.

    Args:
        about: what the run remembers of its data.

    Raises:
        DataError: if the data cannot be read, or have other columns.
    """
    source = _same_member(about, source)
    named = {"label": label or about.label, "key": key or about.key}
    remembered = {name for name, given in (("label", label), ("key", key)) if given is None and named[name]}
    how = _reading(about, source, reading)
    dataset = _leniently(partial(_read, about, source, part, data_dir, how, lenient=lenient), named, remembered)
    _check(about, dataset)
    return dataset


def _same_member(about: DataAbout, source: Data) -> Data:
    """The source; of an archive, where that says nothing else, the array with the name that the training data had."""
    known = member_of(about.source or "")
    is_archive = isinstance(source, str | Path) and Path(source).suffix.lower() == ".npz"
    return f"{source}:{known[1]}" if known is not None and is_archive else source


def _reading(about: DataAbout, source: Data, asked: Reading | None) -> Reading:
    """How to read other rows: as the training data were, as far as it has a meaning for them.

    What was found out of the training data is tried first. Columns to drop need not be there, nor that of the
    weights, which count for nothing here.
    """
    asked_for = asked.given if asked else {}
    how = (asked or Reading()).over(about.reading).only({*_options_of(source), *asked_for})
    return replace(how, guessed=tuple({*how.guessed, *({"drop", "weight"} - set(asked_for))}))


def _options_of(source: Data) -> tuple[str, ...]:
    """What can be said of the reading of a source: nothing of a named set."""
    if not isinstance(source, str | Path):
        return ("missing", "columns", "drop", "weight", "context")
    return () if isinstance(source, str) and set_and_part(source) else options_of(source)


def _read(
    about: DataAbout,
    source: Data,
    part: Part,
    data_dir: str | Path | None,
    how: Reading,
    *,
    label: str | None,
    key: str | None,
    empty: tuple[str, ...] = (),
    lenient: bool = False,
) -> Dataset:
    how = replace(how, drop=(*how.drop, *empty))
    if about.kind == IMAGES.name and _names_columns(source):
        called = as_text(source) if isinstance(source, str | Path) else f"a {type(source).__name__}"
        raise DataError(f"the run was fitted to images of shape {about.event_shape}, and {called} is a table.")
    if about.columns_schema is not None and not isinstance(source, Dataset) and _is_table(source):
        return load_by_schema(
            source, about.columns_schema, label=label, key=key, reading=how, keep_frame=True, lenient=lenient
        )
    if isinstance(source, str | Path):
        return data.load(source, part=part, data_dir=data_dir, label=label, key=key, size=about.size, reading=how)
    if isinstance(source, Dataset):
        return source
    if isinstance(source, Sequence) and all(isinstance(record, Mapping) for record in source):
        return data.from_records(source, label, key=key, reading=how)
    frame = as_frame(source)
    if frame is not None:
        return data.from_frame(frame, label, key=key, reading=how)
    values = as_tensor(source).cpu()
    x = (values.float() if values.dtype in (torch.bfloat16, torch.float16) else values).numpy()
    return Dataset(_channels_first(about, x))


def _is_table(source: Data) -> bool:
    """Whether a source is to be read as one of named columns: a file of a table, a data frame or a list."""
    return _names_columns(source) or (isinstance(source, Sequence) and not isinstance(source, str))


def _names_columns(source: Data) -> bool:
    """Whether a source holds named columns: a file of a table, a data frame or records."""
    if isinstance(source, Sequence) and not isinstance(source, str):
        return len(source) > 0 and all(isinstance(record, Mapping) for record in source)
    if isinstance(source, str) and set_and_part(source) is not None:
        return False
    return is_table_file(source) or (not isinstance(source, Dataset) and is_frame(source))


OUT_OF_BOUNDS = "a number is out of the bounds of its column"


def of_new_cells(rows: Dataset, num_fitted: int) -> tuple[np.ndarray, str | None]:
    r"""What cells that the fit could not have met add to log p of their rows, nats, shape (N,), and a note of it.

    All are holes to the model. A level that is new has the probability \( 1 / (N + 1) \) that the rule of succession
    gives to something new after N rows of the fit; a number out of bounds has none.
    """
    if rows.excluded is None or rows.schema is None:
        return np.zeros(len(rows)), None
    is_level = np.array([column.kind in WITH_LEVELS for column in rows.schema.modelled])
    levels, numbers = (rows.excluded[:, which].sum(axis=1) for which in (is_level, ~is_level))
    said = [
        f"{int(counts.sum()):,} cells of {int((counts > 0).sum()):,} rows are {what}"
        for counts, what in (
            (levels, f"levels that the fit never met: each counts as a hole and as a mass of 1/{num_fitted + 1:,}"),
            (numbers, "numbers out of the bounds of their column: log_p is -inf"),
        )
        if counts.any()
    ]
    return np.where(numbers > 0, -np.inf, -math.log(num_fitted + 1) * levels), "; ".join(said)


def _channels_first(about: DataAbout, x: np.ndarray) -> np.ndarray:
    """Images as the run was fitted to them, where they come with the channels last as its file did."""
    own = about.event_shape or ()
    turned = (*x.shape[3:], *x.shape[1:3])
    return np.moveaxis(x, -1, 1) if about.reading.channels_last and x.shape[1:] != own == turned else x


def _leniently(read: Callable[..., Dataset], named: dict[str, str | None], remembered: set[str]) -> Dataset:
    """Read with the columns that the run remembers; new rows may come without their labels or identifiers.

    A column of labels that is there, and holds none in some rows, is no data either.
    """
    empty: tuple[str, ...] = ()
    while True:
        try:
            return read(**named, empty=empty)
        except ColumnError as error:
            if error.option not in remembered:
                raise
            empty = (*empty, str(named[error.option]))
            named, remembered = {**named, error.option: None}, remembered - {error.option}


def _check(about: DataAbout, dataset: Dataset) -> None:
    if about.columns_schema is not None and dataset.event_shape != about.event_shape:
        raise DataError(
            f"the run was fitted to a table of {len(about.columns_schema.columns)} named columns; rows of "
            f"{dataset.name!r} have shape {dataset.event_shape}. Hand over a table with these columns."
        )
    if about.value_range and not _is_whole(dataset):
        low, high = about.value_range
        raise DataError(f"the run was fitted to integers in {low:g}..{high:g}; got {dataset.dtype} that are not whole.")
    own, found = about.columns, dataset.columns
    if own and found and own != found:
        raise DataError(f"the columns differ from those the run was fitted to: {_difference(own, found)}")


def _difference(own: Sequence[str], found: Sequence[str]) -> str:
    """Which columns are gone, new or elsewhere, and what helps."""
    gone, new = [c for c in own if c not in found], [c for c in found if c not in own]
    if not gone and not new:
        return f"their order. Read them in the order of the fit: --columns {_as_words(own)} (Reading(columns=...))."
    said = [f"{what} {list(names[:5])}" for what, names in (("without", gone), ("with", new)) if names]
    if not gone:
        return f"{said[0]} besides. Leave those out: --drop {_as_words(new)} (Reading(drop=...))."
    return f"{', '.join(said)}. Hand over data that have these columns, or fit anew."


def _as_words(names: Sequence[str]) -> str:
    return ",".join(f"'\"{name}\"'" if "," in name else name for name in names)


def _is_whole(dataset: Dataset) -> bool:
    return dataset.dtype.kind in "ui" or all(np.array_equal(x, np.round(x)) for x in dataset.blocks())
