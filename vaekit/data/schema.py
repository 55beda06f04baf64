"""What the columns of a table are, and the way from a data frame to x and back."""

import difflib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from vaekit.data import columns_found
from vaekit.data.column import Cell, Column, Kind
from vaekit.data.column_cells import Place, as_arrow, coded, encoded_levels, floats, seconds
from vaekit.data.column_restored import arrow_type, beside, restored, with_filled
from vaekit.data.holes import empty_together, hole_columns, say_dropped
from vaekit.data.native_frames import native_frame, table_in
from vaekit.data.reading import notice
from vaekit.data.schema_text import invalid, text_of
from vaekit.errors import DataError
from vaekit.saving.files import write_atomically

if TYPE_CHECKING:
    from narwhals.typing import IntoFrame

    from vaekit.frames import Frame

__all__ = ["Column", "Kind", "Schema"]


class Schema(BaseModel):
    """The columns of a table: which of them are elements of x, and how cells become numbers.

    A row of a table is one event of shape (D,) of float64: numbers as they are, codes of levels, seconds since 1970 of
    datetimes, NaN for empty cells. Constants, identifiers and free text are no elements of x.

    Args:
        columns: Of the table, in its order.
        backend: The library that held it, in the words of narwhals; `decode` makes a frame of that library.

    Example:
        >>> import pyarrow as pa
        >>> schema = Schema.found(pa.table({"size": [1.5, 2.5, None, 4.0], "kind": ["u", "v", "u", "u"]}))
        >>> [column.kind for column in schema.columns]
        ['continuous', 'binary']
        >>> schema.encode(pa.table({"kind": ["v"], "size": [3.0]}))
        array([[3., 1.]])
        >>> schema.decode(np.array([[3.0, 1.0]])).to_pylist()
        [{'size': 3.0, 'kind': 'v'}]
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    backend: str = "pyarrow"
    columns: tuple[Column, ...]

    @model_validator(mode="after")
    def _check(self) -> "Schema":
        names = [column.name for column in self.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        strange = [column.of for column in self.columns if column.of is not None and column.of not in names]
        if strange:
            raise ValueError(f"there is no column {strange[0]!r} whose holes are modelled")
        if twice:
            raise ValueError(f"a column stands twice: {', '.join(map(repr, twice))}")
        return self

    @classmethod
    def found(
        cls,
        frame: "IntoFrame",
        *,
        kinds: Mapping[str, Kind] | None = None,
        orders: Mapping[str, Sequence[Cell]] | None = None,
        name: str = "frame",
        place: Place = "row {}".format,
    ) -> "Schema":
        """The schema of a data frame of any library that narwhals knows.

        Args:
            frame: The table, one row at least.
            kinds: Kinds by column that go before what is found.
            orders: Levels of ordinal columns, the lowest first.
            name: What to call the table in messages.
            place: What to call a row in messages.

        Raises:
            DataError: The frame cannot be read, holds an infinity, or contradicts `kinds` or `orders`.

        Warns:
            ReadingWarning: A column of free text is dropped.
        """
        table = table_in(frame, name)
        if len(table) == 0 or not table.columns:
            raise DataError(f"{name!r} must have a row and a column at least; got shape {table.shape}.")
        orders = orders or {}
        told: dict[str, Kind] = {**dict.fromkeys(orders, "ordinal"), **(kinds or {})}
        for told_of in told:
            if told_of not in table.columns:
                raise DataError(
                    f"{name!r} has no column {told_of!r}, whose kind is given. {_near(told_of, table.columns)}"
                )
        columns: list[Column] = []
        for series in table.iter_columns():
            try:
                column = columns_found.found(series, told.get(series.name), orders.get(series.name), place)
            except ValidationError as error:
                kind = told.get(series.name, "used")
                message = error.errors()[0]["msg"].removeprefix("Value error, ")
                raise DataError(f"Column {series.name!r} of {name!r} cannot be {kind}: {message}.") from error
            columns.append(column)
        say_dropped([column for column in columns if column.name not in told], name)
        return cls(columns=tuple(columns), backend=table.implementation.value)

    @cached_property
    def modelled(self) -> tuple[Column, ...]:
        """The columns that are elements of x, in order: all but constants, identifiers and free text."""
        return tuple(column for column in self.columns if column.is_modelled)

    @property
    def level_values(self) -> dict[int, tuple[float, ...]]:
        """By the place of an element of x what its codes stand for, of ordinal columns whose levels are numbers."""
        return {
            i: tuple(float(level) for level in column.levels)
            for i, column in enumerate(self.modelled)
            if column.kind == "ordinal" and not any(isinstance(level, str | bool) for level in column.levels)
        }

    def without(self, name: str) -> "Schema":
        """The schema of the other columns."""
        kept = tuple(column for column in self.columns if name not in (column.name, column.of))
        return Schema(columns=kept, backend=self.backend)

    def with_holes(self, x: np.ndarray, by_value: bool = False) -> tuple["Schema", np.ndarray]:
        """The schema with a further element of x for each column that has holes, 1 where its cell is empty; and such x.

        With it a model describes which cells are empty, p(x, mask) = E_z p(x observed | z) p(mask | z): log p then says
        that a pattern of holes is odd. What stood in a hole is still taken to be like what stands elsewhere, given z:
        values that are hidden because of what they are stay unknown. Columns that are empty in the same rows share
        one element; columns with fewer than 5 empty or 5 other cells get none.

        With `by_value` a cell may be empty because of what it holds, p(mask | x): see `likelihoods.SelfMasked`. That
        goes for columns that are continuous, positive, bounded or of dates, and of those that share an element for the
        first; all others are as without.

        References:
            Collier et al., "VAEs in the presence of missing data", 2020, https://arxiv.org/abs/2006.05301.
            Ipsen, Mattei & Frellsen, "not-MIWAE", 2021, https://arxiv.org/abs/2006.12871.

        Args:
            x: Rows as `encode` gives them, shape (N, D).
            by_value: Whether a cell may be empty because of what it holds.

        Returns:
            A schema, and rows of shape (N, D + number of holes).
        """
        if any(column.of is not None for column in self.columns):
            return self, x
        schema = self.with_holes_of(empty_together(self.modelled, x), by_value)
        place = {column.name: i for i, column in enumerate(self.modelled)}
        bits = [np.isnan(x[:, place[column.of]]) for column in schema.modelled if column.of is not None]
        return schema, np.column_stack([x, *bits])

    def with_holes_of(self, groups: Sequence[Sequence[str]], by_value: bool = False) -> "Schema":
        """The schema with a further element of x for each group of columns that are empty in the same rows."""
        holes = hole_columns(self.modelled, groups, by_value)
        return Schema(columns=(*self.columns, *holes), backend=self.backend)

    def require_columns(self, name: str) -> None:
        """Raise a `DataError` if no column is an element of x; `name` is what to call the table."""
        if not self.modelled:
            kinds = ", ".join(f"{column.name!r} is {column.kind}" for column in self.columns[:5])
            raise DataError(
                f"no column of {name} is left to model: {kinds}. Name other kinds in a schema (vaekit schema)."
            )

    @cached_property
    def told(self) -> dict[str, Literal["text", "number"]]:
        """What the cells of columns are in a file that leaves it open: text with leading zeros, or numbers."""
        return {column.name: column.cells for column in self.columns if column.cells is not None}

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise DataError(f"the schema has no column {name!r}. {_near(name, [column.name for column in self.columns])}")

    # --- Rows ---------------------------------------------------------------------------------------------------------

    def encode(
        self,
        frame: "IntoFrame",
        *,
        name: str = "frame",
        place: Place = "row {}".format,
        excluded: np.ndarray | None = None,
    ) -> np.ndarray:
        """The rows of a data frame as x, shape (N, D), float64, whatever the order of its columns.

        Args:
            frame: A table with all columns of `modelled`; the others may be missing.
            name: What to call the table in messages.
            place: What to call a row in messages.
            excluded: Shape (N, D), bool: where it is handed in, unknown levels and numbers out of bounds are marked in
                it and become NaN, instead of being refused.

        Returns:
            Numbers, codes of levels (level i of a column is i, any other level the code `len(levels)` where the column
            has `other`), seconds since 1970; NaN for empty cells.

        Raises:
            DataError: A column is missing, stands twice or has another dtype, a level is unknown and the column has no
                `other`, or a number is infinite or lies outside the column's bounds; with row and column.

        Warns:
            ReadingWarning: A column is not in the schema and is left out, or a constant has another value.
        """
        table = table_in(frame, name)
        own = {i: column for i, column in enumerate(self.modelled) if column.of is None}
        missing = [column.name for column in own.values() if column.name not in table.columns]
        if missing:
            others = f" (nor {', '.join(map(repr, missing[1:6]))})" if len(missing) > 1 else ""
            raise DataError(f"{name!r} has no column {missing[0]!r}{others}. {_near(missing[0], table.columns)}")
        known = {column.name for column in self.columns}
        new = [repr(column) for column in table.columns if column not in known]
        if new:
            notice(f"{name!r}: left out {', '.join(new)}, which the schema does not have.")
        x = np.empty((len(table), len(self.modelled)))
        for i, column in own.items():
            x[:, i] = coded(column, as_arrow(table[column.name]), place, None if excluded is None else excluded[:, i])
        at = {column.name: i for i, column in own.items()}
        for i, column in enumerate(self.modelled):
            if column.of is not None:
                empty = np.isnan(x[:, at[column.of]])
                x[:, i] = empty if excluded is None else empty & ~excluded[:, at[column.of]]
        self._compare_constants(table, name, place)
        return x

    def _compare_constants(self, table: "Frame", name: str, place: Place) -> None:
        """Say where a column that was constant is so no longer."""
        import pyarrow as pa

        for column in self.columns:
            if column.kind != "constant" or column.name not in table.columns:
                continue
            array = as_arrow(table[column.name])
            if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
                array = pa.array(seconds(array), from_pandas=True)
            rows, cells = encoded_levels(array)
            others = [i for i, cell in enumerate(cells) if cell is not None and cell == cell and cell != column.value]
            at = np.flatnonzero(np.isin(rows, others))
            if len(at):
                cell = cells[int(rows[at[0]])]
                notice(
                    f"{name!r}: column {column.name!r} was {column.value!r} in all rows that the schema was found in; "
                    f"{place(int(at[0]))} holds {cell!r}, {len(at)} row(s) differ. The model does not see the column."
                )

    def decode(self, x: np.ndarray, backend: str | None = None, rows: "IntoFrame | None" = None) -> Any:
        """The data frame whose rows `encode` takes to x.

        Numbers are rounded to the column's decimals and clipped to its bounds; NaN is an empty cell; the shared code
        of rare levels is "other" in a column of text, an empty cell in one of numbers. Constants are filled in,
        identifiers are counted from 1, free text is empty, unless `rows` has them. Whole numbers of numpy in a column
        of pandas become `Int64` where a cell is empty. Decimals come back as floats.

        Args:
            x: Rows, shape (N, D), D as `modelled` has columns.
            backend: "pandas", "polars", "pyarrow" or another library that narwhals knows; None takes the one in which
                the schema was found, where it is installed.
            rows: A frame of N rows from which the columns that are no elements of x are taken, where it has them.

        Returns:
            A frame of that library, with the names, the order and the dtypes of the columns.

        Raises:
            DataError: x has another shape, or holds an infinity or a code that is none.
        """
        import pyarrow as pa

        x = np.asarray(x, np.float64)
        if x.ndim != 2 or x.shape[1] != len(self.modelled):
            raise DataError(f"x must have shape (N, {len(self.modelled)}), as `modelled` says; got {x.shape}.")
        kept = None if rows is None else table_in(rows, "rows")
        if kept is not None and len(kept) != len(x):
            raise DataError(f"rows must be as many as those of x, {len(x)}; got {len(kept)}.")
        arrays, place = {}, {column.name: i for i, column in enumerate(self.modelled)}
        for column in self.columns:
            if column.of is not None:
                continue
            if column.is_modelled:
                arrays[column.name] = restored(column, x[:, place[column.name]])
            elif kept is not None and column.name in kept.columns:
                arrays[column.name] = as_arrow(kept[column.name])
            else:
                arrays[column.name] = beside(column, len(x))
            if pa.types.is_null(arrays[column.name].type):
                arrays[column.name] = pa.nulls(len(x), arrow_type(column))
        chosen = backend or (self.backend if find_spec(self.backend) else "pyarrow")
        own = tuple(column for column in self.columns if column.of is None)
        return native_frame(pa.table(arrays), own, chosen, chosen == self.backend)

    def fill(self, rows: "IntoFrame", x: np.ndarray, backend: str | None = None) -> Any:
        """A data frame whose empty cells are filled from x, and all of whose other cells stay as they are.

        Columns that the schema does not have or that are no elements of x, such as free text, stay too, empty cells
        and all.

        Args:
            rows: A frame of N rows of which x was made by `encode`.
            x: Rows, shape (N, D); NaN leaves a cell empty.
            backend: As in `decode`; None takes that of the rows.

        Returns:
            A frame with the columns of `rows` in their order; those of the schema have its dtypes.

        Raises:
            DataError: x has another shape, or holds an infinity or a code that is none.
        """
        import pyarrow as pa

        table = table_in(rows, "rows")
        x = np.asarray(x, np.float64)
        if x.shape != (len(table), len(self.modelled)):
            raise DataError(f"x must have shape {(len(table), len(self.modelled))}; got {x.shape}.")
        place = {column.name: i for i, column in enumerate(self.modelled)}
        known = {column.name: column for column in self.columns}
        arrays, columns = {}, []
        for name in table.columns:
            array = as_arrow(table[name])
            if name in place:
                array = with_filled(known[name], array, x[:, place[name]])
            elif name in known and pa.types.is_null(array.type):
                array = pa.nulls(len(table), arrow_type(known[name]))
            arrays[name] = array
            columns.append(known.get(name, Column(name=name, kind="text", dtype=str(table[name].dtype))))
        chosen = backend or table.implementation.value
        return native_frame(pa.table(arrays), tuple(columns), chosen, chosen == self.backend)

    def numbers(self, x: np.ndarray) -> np.ndarray:
        """The cells of rows x as far as they are numbers, shape (N, D), float64; codes of levels that are words.

        Numbers are rounded and clipped as in `decode`; datetimes are seconds since 1970; NaN is an empty cell.

        Raises:
            DataError: As `decode`.
        """
        columns = []
        for column, values in zip(self.modelled, np.asarray(x, np.float64).T, strict=True):
            cells = floats(restored(column, values))
            columns.append(values if cells is None else cells)
        return np.column_stack(columns)

    # --- Words and files ----------------------------------------------------------------------------------------------

    def table(self) -> list[tuple[str, str, str]]:
        """Name, kind and reason of each column, for printing."""
        return [(column.name, column.kind, column.why) for column in self.columns]

    def save(self, path: str | Path) -> None:
        """Write the schema as JSON that can be edited by hand: what a column does not say is at its default."""
        columns = [column.model_dump(mode="json", exclude_defaults=True) for column in self.columns]
        about = {"format_version": self.format_version, "backend": self.backend, "columns": columns}
        write_atomically(path, (json.dumps(about, indent=2, ensure_ascii=False) + "\n").encode())

    @classmethod
    def load(cls, path: str | Path) -> "Schema":
        """Read what `save` wrote.

        Raises:
            DataError: There is no such file, or it is no schema; with the place in the file.
        """
        text = text_of(path)
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise invalid(path, text, error) from error


def _near(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or list(names[:5])
    return f"Nearest: {', '.join(map(repr, near))}."
