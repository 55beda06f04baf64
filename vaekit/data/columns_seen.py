"""The schema of a table that is seen a piece at a time: exact levels, counts and ranges, and shapes of a fair sample.

One pass in bounded memory. What a column is follows from the same rules as in memory (`columns_found`). Of a column of
at most `MOST_COUNTED` different cells, these are counted over all rows; of others the counts are those of a sample of
`SAMPLE` rows, to which the least and the greatest number of all rows are added.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from vaekit.data import columns_found
from vaekit.data.column import Called, Cell, Column
from vaekit.data.column_cells import Place, dtype_text, encoded_levels, floats, native_text, seconds
from vaekit.data.holes import LEAST_HOLES, say_dropped
from vaekit.data.schema import Schema
from vaekit.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

SAMPLE = 100_000
MOST_COUNTED = 2**16
_SEED = 0


def schema_seen(
    pieces: "Iterable[pa.Table]", num_rows: int, name: str, place: Place, beat: Callable[[], None]
) -> tuple[Schema, list[list[str]]]:
    """The schema of a table, and which of its columns are empty in the same rows.

    Args:
        pieces: tables of pyarrow with the same columns, in the order of the rows.
        num_rows: of all pieces.
        name: what to call the table in messages.
        place: what to call a row in messages.
        beat: called after each piece.

    Returns:
        The schema, and groups of names of modelled columns, for `Schema.with_holes_of`.

    Raises:
        DataError: a column holds an infinity, or dates and a cell that is none.
    """
    import narwhals as nw

    chosen, start, seen = sampled(num_rows), 0, dict[str, _Seen]()
    for piece in pieces:
        first, last = np.searchsorted(chosen, [start, start + len(piece)])
        indices = chosen[first:last] - start
        for column, values in zip(piece.column_names, piece.columns, strict=True):
            array = values.combine_chunks()
            if column not in seen:
                series = nw.from_native(values, series_only=True)
                about = Called(name=column, dtype=dtype_text(series, array), native=native_text(series))
                seen[column] = _kind_of(array.type)(about, array.type, chosen, place)
            seen[column].add(array, indices, start)
        start += len(piece)
        beat()
    if start != num_rows:
        raise DataError(f"{name!r} changed while it was read: {start:,} rows, not {num_rows:,}. Load it again.")
    columns = [each.column(num_rows) for each in seen.values()]
    say_dropped(columns, name)
    schema = Schema(columns=tuple(columns))
    alike: dict[bytes, list[str]] = {}
    for column in schema.modelled:
        own = seen[column.name]
        if min(own.num_empty, num_rows - own.num_empty) >= LEAST_HOLES:
            alike.setdefault(own.pattern.digest(), []).append(column.name)
    return schema, list(alike.values())


def as_bytes(schema: Schema, groups: list[list[str]]) -> bytes:
    """What `schema_seen` found, to be told to another process."""
    return json.dumps([schema.model_dump(mode="json"), groups]).encode()


def from_bytes(content: bytes) -> tuple[Schema, list[list[str]]]:
    """What `as_bytes` wrote."""
    schema, groups = json.loads(content)
    return Schema.model_validate(schema), groups


def sampled(num_rows: int) -> np.ndarray:
    """The numbers of at most `SAMPLE` rows, ascending: all of few, or one from each stretch of equal length."""
    if num_rows <= SAMPLE:
        return np.arange(num_rows)
    edges = np.linspace(0, num_rows, SAMPLE + 1).astype(np.int64)
    drawn: np.ndarray = np.random.default_rng(_SEED).integers(edges[:-1], edges[1:])
    return drawn


class _Seen(ABC):
    """What has been seen of a column.

    Args:
        about: its name and dtype, as `Column` takes them.
        kind: its type in pyarrow.
        chosen: the numbers of the sampled rows.
        place: what to call a row in messages.
    """

    def __init__(self, about: Called, kind: "pa.DataType", chosen: np.ndarray, place: Place) -> None:
        self.about, self.kind, self.chosen, self.place = about, kind, chosen, place
        self.num_empty, self.pattern = 0, hashlib.blake2b(digest_size=16)

    def add(self, array: "pa.Array", indices: np.ndarray, start: int) -> None:
        """Take in the cells of a piece.

        Args:
            array: the cells, an array of pyarrow.
            indices: the places of the sampled rows in the piece.
            start: how many rows came before.
        """
        empty = self._take_in(array, indices, start)
        self.num_empty += int(empty.sum())
        self.pattern.update(empty.astype(np.uint8).data)

    @abstractmethod
    def _take_in(self, array: "pa.Array", indices: np.ndarray, start: int) -> np.ndarray:
        """Take in the cells of a piece; which of them are empty, shape (B,), bool."""

    def column(self, num_rows: int) -> Column:
        """The column, of so many rows."""
        if self.num_empty == num_rows:
            return Column(kind="constant", why="all cells are empty", **self.about)
        try:
            column = self._column()
        except ValidationError as error:
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise DataError(f"Column {self.about['name']!r} cannot be used: {message}.") from error
        empty = f"; {self.num_empty} of {num_rows} cells are empty" if self.num_empty else ""
        return column.model_copy(update={"why": column.why + empty})

    @abstractmethod
    def _column(self) -> Column:
        """The column, which holds a cell."""


class _Other(_Seen):
    """Cells that are no data."""

    def _take_in(self, array: "pa.Array", indices: np.ndarray, start: int) -> np.ndarray:
        return _null(array)

    def _column(self) -> Column:
        why = f"{self.kind} is none of numbers, text, bools, levels and datetimes"
        return Column(kind="text", why=why, **self.about)


class _Times(_Seen):
    """Instants."""

    _found: tuple[float, float, float] | None = None

    def _take_in(self, array: "pa.Array", indices: np.ndarray, start: int) -> np.ndarray:
        values = seconds(array)
        empty: np.ndarray = np.isnan(values)
        if not empty.all():
            low, high, step = columns_found.times_in(values[~empty])
            own = self._found or (low, high, step)
            self._found = min(low, own[0]), max(high, own[1]), min(step, own[2])
        return empty

    def _column(self) -> Column:
        assert self._found is not None
        return columns_found.of_times(*self._found, self.about)


class _Levels(_Seen):
    """Text, bools, and cells of a dictionary."""

    def __init__(self, about: Called, kind: "pa.DataType", chosen: np.ndarray, place: Place) -> None:
        super().__init__(about, kind, chosen, place)
        self._counts: dict[Cell, int] | None = {}
        self._sample: list[pa.Array] = []

    def _take_in(self, array: "pa.Array", indices: np.ndarray, start: int) -> np.ndarray:
        self._sample.append(array.take(indices))
        if self._counts is not None:
            codes, cells = encoded_levels(array)
            num = np.bincount(codes[~np.isnan(codes)].astype(np.int64), minlength=len(cells))
            for cell, count in zip(cells, num.tolist(), strict=True):
                self._counts[cell] = self._counts.get(cell, 0) + count
            if len(self._counts) > MOST_COUNTED:
                self._counts = None
        return _null(array)

    def _column(self) -> Column:
        import pyarrow as pa

        sample = pa.chunked_array(self._sample).combine_chunks()
        columns_found.refuse_odd_dates(sample, self.about["name"], lambda row: self.place(int(self.chosen[row])))
        if self._counts is not None:
            num = np.array(list(self._counts.values()), np.int64)
            return columns_found.of_levels(list(self._counts), num, self.kind, self.about)
        codes, cells = encoded_levels(sample)
        num = np.bincount(codes[~np.isnan(codes)].astype(np.int64), minlength=len(cells))
        column = columns_found.of_levels(cells, num, self.kind, self.about)
        # Rows that are not in the sample hold other levels.
        return column.model_copy(update={"other": True}) if column.kind == "categorical" else column


class _Numbers(_Seen):
    """Numbers."""

    def __init__(self, about: Called, kind: "pa.DataType", chosen: np.ndarray, place: Place) -> None:
        super().__init__(about, kind, chosen, place)
        self._distinct: np.ndarray | None = np.empty(0)
        self._num = np.empty(0, np.int64)
        self._sample: list[np.ndarray] = []
        self._ends = (np.inf, -np.inf)
        self._broken: float | None = None  # the first number that is not whole
        self._total, self._sums = 0, (0, 0, 0)

    def _take_in(self, array: "pa.Array", indices: np.ndarray, start: int) -> np.ndarray:
        values = floats(array)
        assert values is not None
        columns_found.refuse_infinite(values, self.about["name"], lambda row: self.place(start + row))
        self._sample.append(values[indices])
        empty: np.ndarray = np.isnan(values)
        values = values[~empty]
        if not len(values):
            return empty
        self._ends = min(self._ends[0], float(values.min())), max(self._ends[1], float(values.max()))
        self._total += len(values)
        if self._broken is None:
            odd = np.flatnonzero(values != np.rint(values))
            if len(odd):
                self._broken = float(values[odd[0]])
            elif max(map(abs, self._ends)) <= 2**53:
                whole = values.astype(np.int64).view(np.uint64)
                powers = (whole, whole * whole, whole * whole * whole)
                self._sums = tuple((a + int(p.sum())) % 2**64 for a, p in zip(self._sums, powers, strict=True))  # type: ignore[assignment]
        if self._distinct is not None:
            self._count(values)
        return empty

    def _count(self, values: np.ndarray) -> None:
        assert self._distinct is not None
        new, num = np.unique(values, return_counts=True)
        self._distinct, places = np.unique(np.concatenate([self._distinct, new]), return_inverse=True)
        self._num = np.bincount(places, np.concatenate([self._num, num])).astype(np.int64)
        if len(self._distinct) > MOST_COUNTED:
            self._distinct = None

    def _column(self) -> Column:
        values = np.concatenate(self._sample)
        values = values[~np.isnan(values)]
        if self._distinct is not None:
            return columns_found.of_numbers(values, self._distinct, self._num, self.about)
        low, high = self._ends
        if self._broken is None and "Int" in self.about["dtype"] and self._is_gapless():
            why = f"{self._total} whole numbers without a gap, from {low:.0f} to {high:.0f}, each once"
            return Column(kind="identifier", why=why, **self.about)
        values = np.concatenate([values, [low, high], [] if self._broken is None else [self._broken]])
        return columns_found.of_numbers(values, *np.unique(values, return_counts=True), self.about)

    def _is_gapless(self) -> bool:
        """Whether each number from the least to the greatest stands there once: their powers have such sums."""
        low, high = int(self._ends[0]), int(self._ends[1])
        if high - low + 1 != self._total:
            return False
        upto: tuple[Callable[[int], int], ...] = (
            lambda m: m * (m + 1) // 2,
            lambda m: m * (m + 1) * (2 * m + 1) // 6,
            lambda m: (m * (m + 1) // 2) ** 2,
        )
        return self._sums == tuple((f(high) - f(low - 1)) % 2**64 for f in upto)


def _null(array: "pa.Array") -> np.ndarray:
    found: np.ndarray = array.is_null().to_numpy(zero_copy_only=False)
    return found


def _kind_of(kind: "pa.DataType") -> type[_Seen]:
    import pyarrow as pa

    types = pa.types
    if types.is_timestamp(kind) or types.is_date(kind):
        return _Times
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return _Numbers
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return _Levels if types.is_dictionary(kind) or types.is_boolean(kind) or is_text else _Other
