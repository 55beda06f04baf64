"""The service in the words of OpenAPI: the rows of each model by their columns, and the answers to each question."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.distributions import constraints

from vaekit import __version__
from vaekit.data.column import COUNTS, MOST_EXACT, Column
from vaekit.data.column_restored import other_name
from vaekit.errors import VaekitError
from vaekit.models.view import View
from vaekit.queries.latents import takes_holes
from vaekit.runs import Run
from vaekit.serve.bodies import FILES, JSON, MOST_NUMBER
from vaekit.serve.limits import Limits
from vaekit.serve.questions import QUESTIONS, Question

_REFUSAL = {
    "type": "object",
    "properties": {
        "reason": {"type": "string"},
        "row": {"type": ["integer", "null"]},
        "column": {"type": ["string", "null"]},
    },
    "required": ["reason", "row", "column"],
}
_REFUSALS = {
    401: "The token is missing or wrong.",
    404: "There is no such model or question.",
    408: "The body did not come in time.",
    409: "The model gives the condition no mass, or means are asked for under cells.",
    413: "The body, or the number of its rows, is too large.",
    415: "The body is of another kind.",
    422: "The body is not what the model takes: the row, the column and the reason.",
    429: "Too many requests wait; Retry-After says for how long.",
    500: "The service failed.",
    503: "The service ends.",
    504: "There was no answer in time.",
}
_NUMBERS: dict[str, Any] = {"type": "array", "items": {"type": ["number", "null"]}}
_REASONS = {"type": "array", "items": {"type": "array", "items": {"type": "string"}}}
_CODES: dict[str, Any] = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}


class Shape:
    """What the rows of a run look like in JSON.

    Args:
        run: the run.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.about = run, run.data
        self.event_shape = tuple(View.of(run.model).event_shape) if self.about.event_shape is None else None
        self.event_shape = self.event_shape or tuple(self.about.event_shape or ())

    @cached_property
    def bears_holes(self) -> bool:
        """Whether cells may be empty."""
        view = View.of(self.run.model)
        if not takes_holes(view) or self.about.context_schema is not None:
            return takes_holes(view)
        x = torch.zeros(1, *view.event_shape, dtype=torch.float64)
        try:
            View.of(self.run.model, torch.full_like(x, torch.nan))
        except VaekitError:
            return False
        return True

    @property
    def has_names(self) -> bool:
        """Whether rows are objects, names of columns to cells."""
        return bool(self.about.columns_schema or self.about.columns)

    @cached_property
    def cells(self) -> dict[str, dict[str, Any]]:
        """The cells of a row by column, without holes."""
        schema = self.about.columns_schema
        if schema is not None:
            return {column.name: cell(column) for column in schema.modelled if column.of is None}
        return dict.fromkeys(self.about.columns or (), self._element)

    @cached_property
    def contexts(self) -> dict[str, dict[str, Any]]:
        """What rows may say beside x, of a conditional model of a table."""
        schema = self.about.context_schema
        if schema is None or not self.has_names:
            return {}
        return {column.name: cell(column) for column in schema.modelled}

    @cached_property
    def _element(self) -> dict[str, Any]:
        if self.about.value_range is not None:
            low, high = self.about.value_range
            return {"type": "integer", "minimum": int(low), "maximum": int(high)}
        view = View.of(self.run.model)
        support: Any = getattr(view.at_prior, "support", None) if view.transform is None else None
        while isinstance(support, constraints.independent):
            support = support.base_constraint
        if support is constraints.boolean:
            return {"type": "integer", "minimum": 0, "maximum": 1}
        if isinstance(support, constraints.integer_interval):
            return {"type": "integer", "minimum": int(support.lower_bound), "maximum": int(support.upper_bound)}
        if isinstance(support, constraints.interval):
            return {"type": "number", "minimum": float(support.lower_bound), "maximum": float(support.upper_bound)}
        return {"type": "number", "minimum": -MOST_NUMBER, "maximum": MOST_NUMBER}

    def row(self, *, has_context: bool = True) -> dict[str, Any]:
        """A row of a request."""
        if not self.has_names:
            return self._nested(_or_null(self._element) if self.bears_holes else self._element)
        cells = {name: _or_null(what) if self.bears_holes else what for name, what in self.cells.items()}
        contexts = {name: _or_null(what) for name, what in self.contexts.items()} if has_context else {}
        return {"type": "object", "properties": cells | contexts, "required": list(cells)}

    def _nested(self, element: dict[str, Any]) -> dict[str, Any]:
        for size in reversed(self.event_shape or ()):
            element = {"type": "array", "items": element, "minItems": size, "maxItems": size}
        return element

    @cached_property
    def example(self) -> Any:
        """A row: the medians of the training rows, the commonest levels."""
        about = self.run.training_rows
        columns = {} if about is None or not about.per_element else {c.name: c for c in about.columns}
        middle = {name: c.quantiles[4] if c.quantiles else 0.0 for name, c in columns.items()}
        if not self.has_names:
            values = [*middle.values()] or [0]
            flat = [_plain(values[i % len(values)]) for i in range(_size(self.event_shape or ()))]
            return torch.tensor(flat, dtype=torch.float64).reshape(self.event_shape or ()).tolist()
        schema = self.about.columns_schema
        if schema is None:
            return {name: _plain(middle.get(name, 0.0)) for name in self.cells}
        codes = np.array([[middle.get(column.name, 0.0) for column in schema.modelled]])
        row = schema.decode(codes, "pyarrow")
        return {name: text(row[name][0].as_py()) for name in self.cells}


def _size(shape: Sequence[int]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _plain(value: float) -> float | int:
    return int(value) if float(value).is_integer() else value


def text(cell: Any) -> Any:
    """A cell as JSON has it."""
    return cell.isoformat() if hasattr(cell, "isoformat") else cell


def _or_null(what: dict[str, Any]) -> dict[str, Any]:
    if "enum" in what:
        return {"enum": [*what["enum"], None]}
    if "anyOf" in what:
        return {**what, "anyOf": [*what["anyOf"], {"type": "null"}]}
    return {**what, "type": [what["type"], "null"]}


def cell(column: Column) -> dict[str, Any]:
    """A cell of a column that is not empty."""
    if column.levels and not column.other:
        return {"enum": list(column.levels)}
    if column.levels:
        is_text = isinstance(column.levels[0], str)
        about = {"type": "string", "pattern": "^[a-z]{3,9}$"} if is_text else _CODES
        return {"anyOf": [{"enum": list(column.levels)}, about], "description": f"others are {other_name(column)}"}
    if column.kind == "datetime":
        return {"type": "string", "format": "date" if column.dtype == "Date" else "date-time"}
    low, high = (-MOST_NUMBER, MOST_NUMBER) if column.dtype.startswith("Float") else (-MOST_EXACT, MOST_EXACT)
    number: dict[str, Any] = {"type": "integer" if column.kind in COUNTS else "number"}
    least = column.low if column.low is not None else (0.0 if column.kind in COUNTS else None)
    if column.kind == "positive" and (least is None or least <= 0):
        number["exclusiveMinimum"] = 0
    else:
        number["minimum"] = low if least is None else least
    return {**number, "maximum": high if column.high is None else column.high}


# --- Paths -----------------------------------------------------------------------------------------------------------


def asks(shape: Shape) -> list[str]:
    """The questions that the run answers, with what its rows can say."""
    names = list(QUESTIONS)
    schema = shape.about.context_schema
    has_classes = schema is not None and len(schema.modelled) == 1 and bool(schema.modelled[0].levels)
    if not has_classes:
        names.remove("classify")
    if not shape.bears_holes:
        names.remove("impute")
    if schema is not None and not shape.has_names:
        names = [name for name in names if name in ("score", "classify")]
    return names


def facts(name: str, run: Run) -> dict[str, Any]:
    """What a model is, in a few words."""
    shape = Shape(run)
    return {
        "name": name,
        "kind": run.data.kind,
        "event_shape": list(shape.event_shape or ()),
        "columns": list(shape.cells) or None,
        "questions": asks(shape),
        "quantity": View.of(run.model).quantity,
    }


def document(runs: Mapping[str, Run], limits: Limits, *, has_token: bool) -> dict[str, Any]:
    """The whole document.

    Args:
        runs: the models by name.
        limits: what a request may hold.
        has_token: whether requests bring a token.
    """
    paths: dict[str, Any] = dict(_about_the_service())
    for name, run in runs.items():
        shape = Shape(run)
        for question in asks(shape):
            paths[f"/v1/models/{name}/{question}"] = {
                "post": _operation(name, question, QUESTIONS[question], shape, limits)
            }
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "vaekit", "version": __version__, "description": "Questions to fitted models."},
        "paths": paths,
        "components": {"schemas": {"Refusal": _REFUSAL}},
    }
    if has_token:
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, operations in paths.items():
            for operation in operations.values():
                operation["security"] = [] if path in ("/health", "/ready") else [{"token": []}]
                operation["responses"]["401"] = _refusal(401)
    return found


def _refusal(status: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "description": _REFUSALS[status],
        "content": {JSON: {"schema": {"$ref": "#/components/schemas/Refusal"}}},
    }
    if status == 429:
        found["headers"] = {"Retry-After": {"schema": {"type": "string"}, "description": "Seconds."}}
    return found


def _about_the_service() -> dict[str, Any]:
    status = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}
    models = {"type": "object", "properties": {"models": {"type": "array"}}, "required": ["models"]}
    about: tuple[tuple[str, str, str, dict[str, Any], tuple[int, ...]], ...] = (
        ("/health", "Whether the process lives.", JSON, status, ()),
        ("/ready", "Whether requests are taken.", JSON, status, (503,)),
        ("/metrics", "Counters for Prometheus.", "text/plain", {"type": "string"}, ()),
        ("/openapi.json", "This document.", JSON, {"type": "object"}, ()),
        ("/v1/models", "The models and their questions.", JSON, models, ()),
    )
    return {
        path: {
            "get": {
                "operationId": path.strip("/").replace("/", "_").replace(".", "_"),
                "summary": summary,
                "responses": {"200": {"description": summary, "content": {media: {"schema": schema}}}}
                | {str(status): _refusal(status) for status in refusals},
            }
        }
        for path, summary, media, schema, refusals in about
    }


def _operation(name: str, asked: str, question: Question, shape: Shape, limits: Limits) -> dict[str, Any]:
    statuses = [status for status in _REFUSALS if status not in (401, 409) or (status == 409 and asked == "sample")]
    answer = _answer(asked, question, shape)
    return {
        "operationId": f"{name}_{asked}",
        "summary": question.about,
        "requestBody": {"required": True, "content": {JSON: _body(question, asked, shape, limits)}},
        "description": f"Also takes {', '.join(FILES)}, with the options in the query." if question.takes_rows else "",
        "responses": {"200": {"description": "The answer.", "content": {JSON: {"schema": answer}}}}
        | {str(status): _refusal(status) for status in statuses},
    }


def _body(question: Question, asked: str, shape: Shape, limits: Limits) -> dict[str, Any]:
    options = question.options.model_json_schema()["properties"]
    options = {name: {k: v for k, v in about.items() if k != "title"} for name, about in options.items()}
    if question.takes_rows:
        rows = shape.row(has_context=not question.lenient)
        about = f"At most {limits.rows:,} rows."  # beyond, the status is 413, which is said of no invalid body
        options["rows"] = {"type": "array", "items": rows, "minItems": 1, "description": about}
    else:
        options["n"]["maximum"] = limits.rows
        cells = shape.cells | shape.contexts if shape.has_names else {}
        options["given"] = {
            "anyOf": [{"type": "object", "properties": cells, "additionalProperties": False}, {"type": "null"}],
        }
    required = ["rows"] if question.takes_rows else []
    schema = {"type": "object", "properties": options, "required": required, "additionalProperties": False}
    return {"schema": schema, "example": example_body(shape, asked)}


def example_body(shape: Shape, asked: str) -> dict[str, Any]:
    """A body that the run answers."""
    if not QUESTIONS[asked].takes_rows:
        return {"n": 3, "seed": 0}
    row, contexts = shape.example, {name: what.get("enum", [0])[0] for name, what in shape.contexts.items()}
    return {"rows": [row | contexts if isinstance(row, dict) else row], "seed": 0}


def _answer(asked: str, question: Question, shape: Shape) -> dict[str, Any]:
    if question.answers_rows:
        rows = {"type": "array", "items": {"type": "object" if shape.has_names else "array"}}
        return {"type": "object", "properties": {"rows": rows, "reasons": _REASONS}, "required": ["rows"]}
    names = {"score": ["log_p", "stderr", "ess"], "encode": [], "classify": ["log_p"]}[asked]
    numbers: dict[str, Any] = dict.fromkeys(names, _NUMBERS)
    return {"type": "object", "properties": {**numbers, "reasons": _REASONS}, "required": names}
