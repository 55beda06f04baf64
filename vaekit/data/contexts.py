"""What is known of each row beside x, such as its label, as the contexts that a model is conditioned on."""

import copy
from typing import Any

import numpy as np

from vaekit.data.column import Column
from vaekit.data.dataset import Dataset
from vaekit.data.schema import Schema
from vaekit.errors import DataError

LABEL = "label"
"""What the context of labels is called that have no column."""


def contexts_found(rows: Dataset, label: str | None = None) -> Schema:
    """What the contexts of rows are: their labels, each a level.

    Args:
        rows: rows with labels.
        label: what to call the labels; None is "label".

    Raises:
        DataError: if they have none, or one alone.
    """
    if rows.labels is None:
        raise DataError(
            f"{rows.name!r} has no labels, and a conditional model is one given something: name the column that holds "
            "them (--label COLUMN, label=...), or take a set or a folder of class folders that has them."
        )
    levels = np.unique(rows.labels).tolist()
    if len(levels) < 2:
        raise DataError(
            f"all rows of {rows.name!r} have the label {levels[0]!r}: a condition that always holds says nothing. Fit "
            "an unconditional model, such as --preset vae."
        )
    kind: Any = "binary" if len(levels) == 2 else "categorical"
    dtype = "String" if isinstance(levels[0], str) else "Int64"
    column = Column(name=label or LABEL, kind=kind, why="the labels", dtype=dtype, levels=tuple(levels))
    return Schema(columns=(column,))


def contexts_of(schema: Schema, rows: Dataset) -> np.ndarray | None:
    """The contexts of rows, shape (N, C), float64; None for rows without labels.

    Args:
        schema: what the contexts are, as `contexts_found` says it.
        rows: the rows.

    Raises:
        DataError: if a row has a label that the fit never met, with the row.
    """
    if rows.labels is None:
        return None
    (column,) = schema.modelled
    return label_codes(column, rows.labels, rows.name)[:, None]


def label_codes(column: Column, labels: np.ndarray, name: str) -> np.ndarray:
    """The code of each label, shape (N,), float64.

    Raises:
        DataError: if one is none of the levels, with its row.
    """
    codes = {level: code for code, level in enumerate(column.levels)}
    found = np.array([codes.get(label, -1) for label in labels.tolist()], dtype=np.float64)
    bad = np.flatnonzero(found < 0)
    if len(bad):
        known = ", ".join(map(repr, column.levels[:8])) + (", ..." if len(column.levels) > 8 else "")
        more = f" ({len(bad) - 1} more rows are like it)" if len(bad) > 1 else ""
        raise DataError(
            f"row {bad[0]} of {name!r} has the {column.name} {labels[bad[0]].item()!r}, which the fit never met{more}; "
            f"it knows {known}. Leave such rows out, or the labels: log p(x) of all rows needs none."
        )
    return found


def with_contexts(rows: Dataset, schema: Schema) -> Dataset:
    """The rows with their contexts, where they have labels."""
    contexts = contexts_of(schema, rows)
    if contexts is None:
        return rows
    found = copy.copy(rows)
    object.__setattr__(found, "contexts", contexts)
    object.__setattr__(found, "context_schema", schema)
    return found
