"""Conditions in words and values, such as town=Bern and age=40, as partial rows."""

import datetime
import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vaekit.data.column import WITH_LEVELS, Column
from vaekit.data.column_cells import coded
from vaekit.data.column_restored import arrow_type, other_name
from vaekit.data.contexts import LABEL
from vaekit.data.schema import Schema
from vaekit.errors import ConfigError, DataError
from vaekit.runs.folder import DataAbout

_CONDITION = "the condition"


def pairs_of(words: Sequence[str]) -> dict[str, str]:
    """COLUMN=VALUE, given several times, as a mapping.

    Raises:
        ConfigError: if a word is no such pair, or a column comes twice.
    """
    pairs: dict[str, str] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or not name:
            raise ConfigError(f"a condition is COLUMN=VALUE, such as age=40; got {word!r}")
        if name in pairs:
            raise ConfigError(f"column {name!r} is given twice, as {pairs[name]!r} and as {value!r}")
        pairs[name] = value
    return pairs


def split_given(given: Mapping[str, object], about: DataAbout) -> tuple[np.ndarray | None, dict[str, object]]:
    """What is given apart: the contexts of the model, shape (1, C), or None, and cells of its rows by column.

    Raises:
        ConfigError: if a context has no such value, or labels are given to a model that is conditioned on none.
    """
    schema = about.context_schema
    known = () if schema is None else tuple(column.name for column in schema.modelled)
    strange = [name for name in given if name in {LABEL, about.label} and name not in (*known, *(about.columns or ()))]
    if strange:
        what = f"a label is given as {known[0]}" if known else "its model is conditioned on no label"
        raise ConfigError(
            f"{strange[0]!r} cannot be given to this run: {what}. Fit one that is: --preset conditional-vae, with "
            "labels (--label COLUMN)."
        )
    contexts = {name: value for name, value in given.items() if name in known}
    row = partial_row(contexts, known, schema) if contexts else None
    return row, {name: value for name, value in given.items() if name not in known}


def partial_row(given: Mapping[str, object], columns: Sequence[str], schema: Schema | None) -> np.ndarray:
    """A partial row in the units of the data, shape (1, D), NaN where nothing is given.

    Args:
        given: values by column: cells as the table has them, or text that says them.
        columns: names of the D elements of x.
        schema: what they are; None has nothing but numbers.

    Raises:
        ConfigError: if there is no such column, or the column has no such value.
    """
    x = np.full((1, len(columns)), np.nan)
    for name, value in given.items():
        if schema is not None:
            _check_dropped(schema, name, value)
        if name not in columns:
            if schema is not None and any(column.name == name for column in schema.columns):
                continue  # a constant that has the value asked for
            raise ConfigError(f"there is no column {name!r} to give. {_nearest(name, columns)}")
        if value is None or (isinstance(value, float) and math.isnan(value)):
            continue
        number = _number(name, value) if schema is None else _coded(schema[name], value)
        x[0, list(columns).index(name)] = number
    return x


def _check_dropped(schema: Schema, name: str, value: object) -> None:
    """Refuse a condition on a column that is no element of x."""
    column = next((column for column in schema.columns if column.name == name), None)
    if column is None or column.is_modelled:
        return
    if column.kind != "constant":
        raise ConfigError(f"column {name!r} is {column.kind}, of which the model knows nothing; leave it out")
    if str(value) != str(column.value):
        raise ConfigError(f"column {name!r} was {column.value!r} in all rows of the fit; {value!r} cannot be given")


def _coded(column: Column, value: object) -> float:
    import pyarrow as pa

    if column.kind in WITH_LEVELS:
        return float(_code(column, value))
    try:
        if column.kind == "datetime":
            cell = datetime.datetime.fromisoformat(value) if isinstance(value, str) else value
            kind = arrow_type(column)
            zone = kind.tz if pa.types.is_timestamp(kind) else None
            if zone is not None and isinstance(cell, datetime.datetime) and cell.tzinfo is None:
                array = pa.array([cell], pa.timestamp("us"))
                import pyarrow.compute as pc

                array = pc.assume_timezone(array, zone)
            else:
                array = pa.array([cell]).cast(kind)
        else:
            array = pa.array([_number(column.name, value)])
        return float(coded(column, array, lambda _: _CONDITION)[0])
    except (DataError, ValueError, pa.ArrowException) as error:
        said = str(error).split(" Mend the cell")[0]
        raise ConfigError(f"{column.name}={value} cannot be given: {said}") from error


def _code(column: Column, value: object) -> int:
    """The code of a level, by its value or the words for it."""
    known = [*column.levels, *([other_name(column)] if column.other else [])]
    for code, level in enumerate(known):
        if level == value and isinstance(level, bool) == isinstance(value, bool):
            return code
    words = [str(level) for level in known]
    for written in (str(value), str(value).capitalize(), str(value).lower()):
        if written in words:
            return words.index(written)
    if isinstance(value, str):
        try:
            return known.index(float(value))
        except ValueError:
            pass
    raise ConfigError(f"column {column.name!r} has no level {value!r}. {_nearest(str(value), words)}")


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"column {name!r} holds numbers; got {value!r}") from error
    if not math.isfinite(number):
        raise ConfigError(f"column {name!r} holds finite numbers; got {value!r}")
    return number


def _nearest(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or list(names[:5])
    return f"Nearest: {', '.join(map(repr, near))}."
