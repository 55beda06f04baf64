"""The body of a request as rows: JSON, CSV, an array of numpy or a picture, read as files of them are."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pydantic_core import from_json

from vaekit.data import Dataset
from vaekit.data.column import Column
from vaekit.errors import VaekitError
from vaekit.runs import Run
from vaekit.serve.limits import Limits
from vaekit.serve.questions import Options, Question, options_in_json, options_in_query
from vaekit.serve.refusal import Refusal, of_error

JSON = "application/json"
FILES = {
    "text/csv": ".csv",
    "application/x-npy": ".npy",
    "image/png": ".png",
    "image/jpeg": ".jpg",
}
"""Bodies that are files: their media types, and the suffix under which a file of them is read."""
_BODY = "the body"
MOST_NUMBER = 1e30
"""The largest number in JSON: beyond, float32 ends, in which models compute."""


@dataclass(frozen=True)
class Body:
    """What came with a request.

    Attributes:
        media: the media type, without parameters.
        content: the bytes.
        query: names and values in the query of the URL.
    """

    media: str
    content: bytes
    query: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Asked:
    """A request that was read.

    Attributes:
        options: what it says beside its rows.
        rows: the rows; None for a question without.
    """

    options: Options
    rows: Dataset | None

    def __len__(self) -> int:
        return 0 if self.rows is None else len(self.rows)


class Reader:
    """Reads bodies as a run reads files.

    Args:
        run: the run.
        limits: what is read at most.
    """

    def __init__(self, run: Run, limits: Limits) -> None:
        self.run, self.limits = run, limits

    def read(self, question: Question, body: Body) -> Asked:
        """The options and the rows of a body.

        Raises:
            Refusal: The body is none of the kinds that are read (415), too large (413), or does not fit the run (422).
        """
        if body.media == JSON:
            return self._json(question, body)
        if body.media not in FILES or not question.takes_rows:
            kinds = ", ".join((JSON, *(FILES if question.takes_rows else ())))
            raise Refusal(415, f"a body is one of {kinds}; its Content-Type says {body.media[:60] or 'nothing'}")
        options = options_in_query(question, list(body.query), self.limits.rows)
        return Asked(options, self._file(question, body))

    def _json(self, question: Question, body: Body) -> Asked:
        if body.query:
            raise Refusal(422, "the options of a JSON body stand beside its rows, and not in the query of the URL")
        try:
            said = from_json(body.content, allow_inf_nan=False)
        except ValueError as error:
            raise Refusal(422, f"the body is no JSON: {error}") from None
        if not isinstance(said, dict):
            raise Refusal(422, 'the body is an object of JSON: {"rows": [...], "seed": 0}')
        if not question.takes_rows:
            self._check_given(said.get("given"))
            return Asked(options_in_json(question, said, self.limits.rows), None)
        rows = said.pop("rows", None)
        if not isinstance(rows, list) or not rows:
            raise Refusal(422, 'the body has "rows", a list of at least one row')
        self._count(len(rows))
        options = options_in_json(question, said, self.limits.rows)
        return Asked(options, self._records(question, rows) if isinstance(rows[0], dict) else self._lists(rows))

    def _check_given(self, given: Any) -> None:
        """Cells that are given are such as rows hold: numbers are no text, and text no numbers."""
        schemas = (self.run.data.columns_schema, self.run.data.context_schema)
        columns = {column.name: column for schema in schemas if schema is not None for column in schema.columns}
        for name, cell in given.items() if isinstance(given, dict) else ():
            column = columns.get(name)
            levels, is_text = () if column is None else column.levels, column is not None and _takes_text(column)
            is_level = any(type(cell) is type(level) and cell == level for level in levels)
            if not is_level and (cell is None or not (isinstance(cell, str) if is_text else _is_number(cell))):
                raise Refusal(422, f"given: {name!r} holds {'text' if is_text else 'numbers'}", None, name)

    def _count(self, num_rows: int) -> None:
        most = self.limits.rows
        if num_rows > most:
            raise Refusal(413, f"{num_rows:,} rows came, and a request may have {most:,}. Send them in parts.")

    @cached_property
    def _needed(self) -> tuple[str, ...]:
        """The columns that each record has."""
        schema = self.run.data.columns_schema
        if schema is not None:
            return tuple(column.name for column in schema.modelled if column.of is None)
        return self.run.data.columns or ()

    @cached_property
    def _beside(self) -> tuple[str, ...]:
        """What a record may say of its context. Other columns are left out, identifiers and free text among them."""
        schema = self.run.data.context_schema
        return () if schema is None else tuple(column.name for column in schema.modelled)

    @cached_property
    def _of_numbers(self) -> tuple[str, ...]:
        """The columns whose cells are no text."""
        schemas = (self.run.data.columns_schema, self.run.data.context_schema)
        of_text = {c.name for schema in schemas if schema is not None for c in schema.columns if _takes_text(c)}
        return tuple(name for name in (*self._needed, *self._beside) if name not in of_text)

    def _records(self, question: Question, rows: list[Any]) -> Dataset:
        """Rows that are objects: each has all columns of the model, whatever else it has."""
        if not self._needed:
            shape = self.run.data.event_shape
            raise Refusal(422, f"the model has no named columns: rows are nested lists of shape {shape}", 0)
        kept = []
        for number, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise Refusal(422, f"row {number} is no object, as row 0 is", number)
            for name in self._needed:
                if name not in row:
                    raise Refusal(422, f"row {number} has no {name!r}; an empty cell is null", number, name)
            cells = {name: row[name] for name in self._needed}
            beside = () if question.lenient else self._beside
            kept.append(cells | {name: row[name] for name in beside if name in row})
        for name in self._of_numbers:
            for number, cells in enumerate(kept):
                if type(cells.get(name)) is str:
                    raise Refusal(422, f"row {number}: {name!r} holds numbers, and null where empty", number, name)
        found = self._checked(question, kept)
        self._refuse_marks(kept, found)
        return found

    def _refuse_marks(self, cells: list[dict[str, Any]], found: Dataset) -> None:
        """Marks of empty cells, which files have, are no cells of JSON."""
        columns = found.columns or ()
        for number, place in np.argwhere(np.isnan(found.x)).tolist():
            cell = cells[number].get(columns[place])
            if cell is not None:
                reason = f"row {number}: {columns[place]!r} is {cell!r}, which is null in JSON"
                raise Refusal(422, reason, number, columns[place])

    def _lists(self, rows: list[Any]) -> Dataset:
        """Rows that are nested lists of numbers, null where there is none."""
        if self.run.data.columns_schema is not None:
            raise Refusal(422, "rows of this model are objects, names of columns to cells", 0)
        shape = tuple(self.run.data.event_shape or ())
        for number, row in enumerate(rows):
            wrong = _misfit(row, shape)
            if wrong is not None:
                column = self._needed[wrong[0]] if wrong and len(shape) == 1 and self._needed else None
                where = f", element {', '.join(map(str, wrong))}," if wrong else ""
                expected = "a number or null" if len(wrong) == len(shape) else f"nested lists of shape {shape}"
                raise Refusal(422, f"row {number}{where} is not {expected}", number, column)
        return self._checked(None, _array(rows))

    def _checked(self, question: Question | None, rows: Any) -> Dataset:
        lenient = question is not None and question.lenient
        try:
            found = self.run.rows(rows, lenient=lenient)
        except VaekitError as error:
            raise of_error(error, lambda low, high: self.run.rows(rows[low:high], lenient=lenient), len(rows)) from None
        beyond = np.argwhere(np.abs(found.x) > MOST_NUMBER)
        if len(beyond):
            row, place = int(beyond[0][0]), int(beyond[0][-1])
            column = None if found.columns is None else found.columns[place]
            reason = f"a number of row {row} is beyond {MOST_NUMBER:g}, which the model cannot tell from infinity"
            raise Refusal(422, reason, row, column)
        return found

    def _file(self, question: Question, body: Body) -> Dataset:
        """Rows of a body that is a file: it is written to a folder of its own, and read as `vaekit score` reads it."""
        with TemporaryDirectory(prefix="vaekit-") as folder:
            path = Path(folder) / f"body{FILES[body.media]}"
            path.write_bytes(body.content)
            is_picture = body.media.startswith("image/")
            try:
                rows = self.run.rows(str(folder if is_picture else path), lenient=question.lenient)
            except VaekitError as error:
                refusal = of_error(error)
                reason = refusal.reason.replace(str(path), _BODY).replace(str(folder), _BODY)
                raise Refusal(refusal.status, reason, refusal.row, refusal.column) from None
        self._count(len(rows))
        return rows


def _takes_text(column: Column) -> bool:
    return bool(column.levels and isinstance(column.levels[0], str)) or column.kind == "datetime"


def _is_number(cell: Any) -> bool:
    if type(cell) is float:
        return abs(cell) <= MOST_NUMBER
    return cell is None or (type(cell) is int and -(2**63) <= cell < 2**63)


def _misfit(row: Any, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Where a row is no nested list of numbers of this shape: the indices that lead there; None where it is one."""
    if not shape:
        return None if _is_number(row) else ()
    if not isinstance(row, list) or len(row) != shape[0]:
        return ()
    if len(shape) == 1 and all(map(_is_number, row)):
        return None
    for i, part in enumerate(row):
        wrong = _misfit(part, shape[1:])
        if wrong is not None:
            return (i, *wrong)
    return None


def _array(rows: list[Any]) -> np.ndarray:
    """Whole numbers stay whole, as in a file of an array; a null or a fraction makes floats of all."""
    x: np.ndarray = np.array(rows)
    return x if x.dtype.kind in "if" else np.array(rows, dtype=np.float64)
