"""Rows of answers: one type that the command line, JSON, files and reports print as they are."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, overload

from vaekit.evaluation.estimate import Estimate, Score
from vaekit.frames import to_frame

# Rows for files and JSON that would crowd a table: the parts that the others are made of.
_DETAILS = {
    "num_points",
    "diagnostics.num_units",
    "diagnostics.mutual_information.limit",
    "diagnostics.inference_gap.elbo",
    "diagnostics.inference_gap.log_marginal",
    "diagnostics.inference_gap.num_points",
    "diagnostics.inference_gap.rate",
    "diagnostics.num_points",
    "ais.num_points",
    "hmc.num_points",
}
_FAMILIES_OF_DETAILS = ("diagnostics.kl_per_dimension.", "diagnostics.inference_gap.best_", "ais.importance_")
_FINDINGS = "diagnostics.findings."
DETAILS = ".details."  # within the name of such a row of any metric


@dataclass(frozen=True)
class Result:
    """One number: what it is, its value and its errors, or why there is none.

    Attributes:
        name: what programs call it, nested with dots: "elbo", "diagnostics.active_units".
        label: what people read.
        value: the number; None exactly where `reason` is a text.
        stderr: Monte Carlo standard error, or None where there is none.
        sampling_stderr: standard error over the rows of data, or None.
        unit: "nats", "bits", "rows", ... or "" for a number without one.
        reason: why there is no value.

    An error that is NaN or infinite becomes None.

    Raises:
        ValueError: if there are both or neither of value and reason, or the value is not finite.
    """

    name: str
    label: str
    value: float | None
    stderr: float | None = None
    sampling_stderr: float | None = None
    unit: str = "nats"
    reason: str | None = None

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None):
            raise ValueError(f"{self.name} has a value or a reason why there is none, not both or neither")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"the value of {self.name} is {self.value}; use result(), which gives the reason")
        for name in ("stderr", "sampling_stderr"):
            object.__setattr__(self, name, _finite(getattr(self, name)))


def result(
    name: str,
    label: str,
    value: float,
    stderr: float | None = None,
    sampling_stderr: float | None = None,
    unit: str = "nats",
    *,
    nan: str = "it came out as nan",
) -> Result:
    """A row of a number that may be NaN or infinite; the reason then is what `nan` says NaN means, or the infinity."""
    if not math.isfinite(value):
        return Result(name, label, None, unit=unit, reason=nan if math.isnan(value) else f"it came out as {value}")
    return Result(name, label, float(value), stderr, sampling_stderr, unit)


def missing(name: str, reason: str) -> Result:
    """A row that says why a part of an evaluation is not there."""
    return Result(name, name.replace("_", " "), None, unit="", reason=reason)


def of_score(name: str, label: str, score: Score, unit: str = "nats") -> Result:
    """A row of a scalar; its standard error counts as one over the rows."""
    return result(name, label, score.value, None, score.stderr, unit)


def of_estimate(name: str, label: str, estimate: Estimate) -> Result:
    """A row of the mean of an estimate per point, with both errors."""
    return result(name, label, estimate.mean, estimate.mean_stderr, estimate.sampling_stderr)


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


@dataclass(frozen=True)
class Results(Sequence[Result]):
    """The rows of an evaluation, in order; also by name: `results["elbo"].value`.

    Attributes:
        rows: the rows; no two have one name.
        quantity: what the log p is: "density", "mass", "bound on a mass" or "no density".

    Raises:
        ValueError: if two rows have one name.
    """

    rows: tuple[Result, ...]
    quantity: str

    def __post_init__(self) -> None:
        twice = [name for name, count in Counter(row.name for row in self.rows).items() if count > 1]
        if twice:
            raise ValueError(f"each row has a name of its own; there are several of {', '.join(twice)}")

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.rows)

    @overload
    def __getitem__(self, index: int | str) -> Result: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Result]: ...

    def __getitem__(self, index: int | str | slice) -> Result | Sequence[Result]:
        if not isinstance(index, str):
            return self.rows[index]
        for row in self.rows:
            if row.name == index:
                return row
        raise KeyError(f"{index!r}; there are {', '.join(row.name for row in self.rows)}")

    def __contains__(self, name: object) -> bool:
        return any(name in (row, row.name) for row in self.rows)

    @property
    def table(self) -> list[Result]:
        """The rows with a value that a page has room for."""
        return [row for row in self.rows if row.value is not None and not _is_aside(row.name)]

    @property
    def findings(self) -> list[Result]:
        """What is wrong with the model, the gravest first: rows named after it, with evidence and remedy as label."""
        return [row for row in self.rows if row.name.startswith(_FINDINGS)]

    @property
    def reasons(self) -> list[Result]:
        """The rows without a value."""
        return [row for row in self.rows if row.reason is not None]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Plain rows, for JSON."""
        return [asdict(row) for row in self.rows]

    def to_frame(self, backend: str | None = None) -> Any:
        """A data frame, a column for each attribute of `Result`; see `vaekit.frames.to_frame`."""
        return to_frame(
            {field.name: [getattr(row, field.name) for row in self.rows] for field in fields(Result)}, backend
        )


def _is_aside(name: str) -> bool:
    """Whether a row is for files and JSON, or a finding, and has no place in a table."""
    return name in _DETAILS or DETAILS in name or name.startswith((*_FAMILIES_OF_DETAILS, _FINDINGS))


def nested(prefix: str, rows: Iterable[Result]) -> list[Result]:
    """Rows whose names begin with that of the part that they belong to."""
    return [replace(row, name=f"{prefix}.{row.name}") for row in rows]


def title(finding: Result) -> str:
    """The name of a finding in words: "posterior collapse"."""
    return finding.name.removeprefix(_FINDINGS).replace("_", " ")
