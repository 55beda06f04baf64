"""What is known of each row beside x, such as its label, as the contexts that a model is conditioned on."""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vaekit.data.column import Cell, Column, Kind
from vaekit.data.dataset import Dataset
from vaekit.data.schema import Schema
from vaekit.errors import DataError

if TYPE_CHECKING:
    from vaekit.frames import Frame

LABEL = "label"
"""What the context of labels is called that have no column."""


UNKNOWN = (-1, "")
"""Labels of rows that have none, for models that learn from such rows as well; -1 as in scikit-learn."""


def contexts_found(rows: Dataset, label: str | None = None, may_miss: bool = False) -> Schema:
    """What the contexts of rows are: their labels, each a level, and the columns that a model is given beside them.

    Args:
        rows: rows with labels, or with columns of contexts.
        label: what to call the labels; None is "label".
        may_miss: whether rows without a label are taken, and -1 means that there is none.

    Raises:
        DataError: if they have neither, or a label alone, or some rows have no label and that may not be, or a column
            says nothing.
    """
    beside = () if rows.beside is None else _columns_found(rows.beside, rows.name)
    if rows.labels is None and beside:
        return Schema(columns=beside)
    return Schema(columns=(_label_found(rows, label, may_miss), *beside))


def _columns_found(beside: "Frame", name: str) -> tuple[Column, ...]:
    """What the columns are that a model is given."""
    columns = Schema.found(beside, name=name).columns
    for column in columns:
        if not column.is_modelled:
            raise DataError(
                f"Column {column.name!r} of {name!r} is {column.kind}, which says nothing of a row: leave it out "
                "of --context."
            )
    return columns


def _label_found(rows: Dataset, label: str | None, may_miss: bool) -> Column:
    """What the labels are."""
    if rows.labels is None:
        raise DataError(
            f"{rows.name!r} has no labels, and a conditional model is one given something: name the column that holds "
            "them (--label COLUMN, label=...) or is given beside the data (--context A,B), or take a set or a folder "
            "of class folders that has them."
        )
    if rows.unlabelled is not None and not may_miss:
        raise DataError(
            f"{int(rows.unlabelled.sum())} of the {len(rows)} rows of {rows.name!r} have no label, and this model "
            "learns from rows with labels alone. --preset m2 learns from rows without labels, too; or drop such rows."
        )
    levels = np.unique(rows.labels[~unknown_labels(rows)] if may_miss else rows.labels).tolist()
    if not levels:
        raise DataError(f"all labels of {rows.name!r} are -1, which means unknown here; some rows need one.")
    if len(levels) < 2:
        raise DataError(
            f"all rows of {rows.name!r} have the label {levels[0]!r}: a condition that always holds says nothing. Fit "
            "an unconditional model, such as --preset vae."
        )
    kind: Kind = "binary" if len(levels) == 2 else "categorical"
    dtype = "String" if isinstance(levels[0], str) else "Int64"
    return Column(name=label or LABEL, kind=kind, why="the labels", dtype=dtype, levels=tuple(levels))


def unknown_labels(rows: Dataset, levels: Sequence[Cell] = ()) -> np.ndarray:
    """Which rows have no label, shape (N,); -1 and "" mean that as well, where they are no level."""
    assert rows.labels is not None
    is_text = rows.labels.dtype.kind == "U"
    marks = [mark for mark in UNKNOWN if isinstance(mark, str) == is_text and mark not in levels]
    found = np.isin(rows.labels, marks)
    return found if rows.unlabelled is None else found | rows.unlabelled


def contexts_of(schema: Schema, rows: Dataset) -> np.ndarray | None:
    """The contexts of rows, shape (N, C), float64, NaN for what is unknown; None for rows that lack some.

    Args:
        schema: what the contexts are, as `contexts_found` says it.
        rows: the rows.

    Raises:
        DataError: if a row has a label that the fit never met, with the row.
    """
    given = () if rows.beside is None else tuple(rows.beside.columns)
    columns = [column for column in schema.modelled if column.name not in given]
    found = []
    if columns:
        if rows.labels is None:
            return None
        (column,) = columns
        found.append(label_codes(column, rows.labels, rows.name, unknown_labels(rows, column.levels))[:, None])
    if rows.beside is not None:
        beside = Schema(columns=tuple(column for column in schema.columns if column.name in given))
        found.append(beside.encode(rows.beside, name=rows.name))
    return np.concatenate(found, axis=1)


def label_codes(column: Column, labels: np.ndarray, name: str, unknown: np.ndarray | None = None) -> np.ndarray:
    """The code of each label, shape (N,), float64; NaN where it is unknown.

    Raises:
        DataError: if one is none of the levels, with its row.
    """
    codes = {level: code for code, level in enumerate(column.levels)}
    found = np.array([codes.get(label, -1) for label in labels.tolist()], dtype=np.float64)
    if unknown is not None:
        found[unknown] = np.nan
    bad = np.flatnonzero(found < 0)
    if len(bad):
        known = ", ".join(map(repr, column.levels[:8])) + (", ..." if len(column.levels) > 8 else "")
        more = f" ({len(bad) - 1} more rows are like it)" if len(bad) > 1 else ""
        raise DataError(
            f"row {bad[0]} of {name!r} has the {column.name} {labels[bad[0]].item()!r}, which the fit never met{more}; "
            f"it knows {known}. Leave such rows out, or the labels: log p(x) of all rows needs none."
        )
    return found


def with_contexts(rows: Dataset, schema: Schema, whole: bool = False) -> Dataset:
    """The rows with their contexts, where they have them.

    Args:
        rows: the rows.
        schema: what the contexts are.
        whole: whether rows of which some have no label count as rows without labels.
    """
    contexts = contexts_of(schema, rows)
    if contexts is None:
        return rows
    found = copy.copy(rows)
    is_label = rows.beside is None or schema.modelled[0].name not in rows.beside.columns
    unknown = np.isnan(contexts[:, 0]) & is_label
    if unknown.any():
        object.__setattr__(found, "unlabelled", unknown)
        if whole:
            return found
    object.__setattr__(found, "contexts", contexts)
    object.__setattr__(found, "context_schema", schema)
    return found
