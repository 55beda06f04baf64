"""Rows of answers: one type that the command line, JSON, files and reports print as they are."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, overload

from torch import Tensor

from vaekit.evaluation.estimate import Estimate, Score
from vaekit.frames import to_frame

TRAINING, GAP = "training rows", "generalization_gap"
_COUNTS = ("rows", "units", "draws")
_IN_SAMPLE = "train."
LARGE = 1e7  # from here on numbers are written with a power of ten
FINDINGS = "diagnostics.findings."


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
        detail: whether the row is for files and JSON alone, as a part that others are made of, which would crowd a
            table. The metric says so; no file holds it.

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
    detail: bool = field(default=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None):
            raise ValueError(f"{self.name} has a value or a reason why there is none, not both or neither")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"the value of {self.name} is {self.value}; use result(), which gives the reason")
        object.__setattr__(self, "stderr", _finite(self.stderr))
        object.__setattr__(self, "sampling_stderr", _finite(self.sampling_stderr))


def result(
    name: str,
    label: str,
    value: float,
    stderr: float | None = None,
    sampling_stderr: float | None = None,
    unit: str = "nats",
    *,
    nan: str = "it came out as nan",
    detail: bool = False,
) -> Result:
    """A row of a number that may be NaN or infinite; the reason then is what `nan` says NaN means, or the infinity."""
    if not math.isfinite(value):
        reason = nan if math.isnan(value) else f"it came out as {value}"
        return Result(name, label, None, unit=unit, reason=reason, detail=detail)
    return Result(name, label, float(value), stderr, sampling_stderr, unit, detail=detail)


def missing(name: str, reason: str) -> Result:
    """A row that says why a part of an evaluation is not there."""
    return Result(name, name.replace("_", " "), None, unit="", reason=reason)


def of_score(name: str, label: str, score: Score, unit: str = "nats", *, detail: bool = False) -> Result:
    """A row of a scalar; its standard error counts as one over the rows."""
    return result(name, label, score.value, None, score.stderr, unit, detail=detail)


def of_estimate(name: str, label: str, estimate: Estimate) -> Result:
    """A row of the mean of an estimate per point, with both errors; its label says why one is not there.

    Points without a number are left out of the mean, as the label says. Without any other there is no mean.
    """
    whole = estimate
    estimate = whole.numbered()
    if len(estimate) == 0:
        return Result(name, label, None, unit="nats", reason=of_none(whole.value))
    if math.isnan(estimate.mean_stderr) and math.isfinite(estimate.mean):
        why = "one draw does not tell it" if estimate.num_samples == 1 else "that of some rows is not known"
        label = f"{label}, no Monte Carlo error: {why}"
    label += _left_out(whole.value)
    return result(name, label, estimate.mean, estimate.mean_stderr, estimate.sampling_stderr)


def of_values(name: str, label: str, values: Tensor) -> Result:
    """A row of the mean of a number per point, shape (N,), without the points that have none; see `of_estimate`."""
    numbers = values[values.isfinite()]
    if len(numbers) == 0:
        return Result(name, label, None, unit="nats", reason=of_none(values))
    return of_score(name, label + _left_out(values), Score.of_mean(numbers))


def of_none(values: Tensor) -> str:
    """Why a mean over rows that have no number is not there."""
    if bool((values == -math.inf).all()):
        return f"it is -inf: no draw gives any of the {len(values):,} rows mass"
    return f"none of the {len(values):,} rows has a number"


def in_bits(value: float, stderr: float | None, sampling_stderr: float | None, num_elements: int) -> Result:
    """A row of the bits per element that a log p of so many nats takes, with its errors."""
    per_nat = 1 / (math.log(2) * num_elements)
    noise, sampling = (None if error is None else error * per_nat for error in (stderr, sampling_stderr))
    return result("bits_per_dimension", "bits per dimension (IWAE)", -value * per_nat, noise, sampling, "bits")


def _left_out(values: Tensor) -> str:
    return left_out(len(values), int((~values.isfinite()).sum()), int((values == -math.inf).sum()))


def left_out(num: int, lost: int, massless: int) -> str:
    """What to say beside a mean over the points that have a number: how many have none, and what all of them make.

    Args:
        num: all points.
        lost: those without a number.
        massless: those of them that are -inf.
    """
    if not lost:
        return ""
    said = f", over {num - lost:,} of {num:,} rows: {lost:,} without a number"
    return said + (f", {massless:,} of them -inf, and so is the mean over all" if massless else "")


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


@dataclass(frozen=True)
class Results(Sequence[Result]):
    """The rows of an evaluation, in order; also by name: `results["elbo"].value`.

    Attributes:
        rows: the rows; no two have one name.
        quantity: what the log p is: "density", "mass", "bound on a mass" or "no density".
        transform_noise: which draw of a random transform the rows met, and whether errors hold it, in words; or None.

    Raises:
        ValueError: if two rows have one name.
    """

    rows: tuple[Result, ...]
    quantity: str
    transform_noise: str | None = None

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

    def leading(self, name: str) -> Result | None:
        """The row of this name, or where all rows were trained on that with `train.` in front; None without either."""
        found = {row.name: row for row in self.rows}
        return found.get(name, found.get(_IN_SAMPLE + name) if "num_points" not in found else None)

    @property
    def table(self) -> list[Result]:
        """The rows with a value that a page has room for."""
        shown = (row for row in self.rows if row.value is not None and not row.detail)
        return [row for row in shown if FINDINGS not in row.name]

    @property
    def findings(self) -> list[Result]:
        """What is wrong with the model, the gravest first: rows named after it, with evidence and remedy as label."""
        return [row for row in self.rows if FINDINGS in row.name]

    @property
    def judged(self) -> str:
        """Which rows were looked at: "36 validation rows beside 315 training rows"."""
        named = [row for row in self.rows if row.name in ("num_points", f"{_IN_SAMPLE}num_points")]
        return " beside ".join(in_words(row.value or 0, row.label) for row in named)

    @property
    def reasons(self) -> list[Result]:
        """The rows without a value."""
        return [row for row in self.rows if row.reason is not None]

    def to_dicts(self) -> list[dict[str, object]]:
        """Plain rows, for JSON: the attributes of `Result` from name to reason."""
        return [{key: value for key, value in asdict(row).items() if key != "detail"} for row in self.rows]

    def to_frame(self, backend: str | None = None) -> Any:
        """A data frame with the keys of `to_dicts` as columns; see `vaekit.frames.to_frame`."""
        rows, names = self.to_dicts(), [field.name for field in fields(Result) if field.name != "detail"]
        return to_frame({name: [row[name] for row in rows] for name in names}, backend)


def of_training(rows: Iterable[Result]) -> list[Result]:
    """Rows of numbers of training rows: the same names with `train.` in front, and labels that say so."""
    marked = nested(_IN_SAMPLE.removesuffix("."), rows)
    plain = ("num_points", FINDINGS)
    return [row if any(name in row.name for name in plain) else _labelled(row) for row in marked]


def _labelled(row: Result) -> Result:
    return replace(row, label=f"{TRAINING}: {row.label}")


def in_sample(results: "Results") -> "Results":
    """The results of rows all of which were trained on: every name with `train.` in front."""
    reason = "all rows were trained on: none of these numbers says what the model makes of rows that are new to it"
    return replace(results, rows=(*of_training(results.rows), missing(GAP, reason)))


def nested(prefix: str, rows: Iterable[Result]) -> list[Result]:
    """Rows whose names begin with that of the part that they belong to."""
    return [replace(row, name=f"{prefix}.{row.name}") for row in rows]


def in_words(count: float, part: str) -> str:
    """So many rows of a part: "1 validation row", "2,000 of 10,000 test rows"."""
    return f"{count:,.0f} {part.replace('rows', 'row', 1) if count == 1 and not part.startswith('of ') else part}"


def written(row: Result, number: float | None, digits: int = 4, separator: str = "") -> str:
    """One of the numbers of a row as text, by the one rule of all tables: "" for none, counts whole or to one decimal.

    Args:
        row: the row.
        number: its value or one of its errors.
        digits: decimals of what is no count; bits have four at least, for their differences are small.
        separator: "," sets thousands apart.
    """
    if number is None:
        return ""
    if abs(number) >= LARGE and row.unit not in _COUNTS:
        return f"{number:.3e}"
    if row.unit in _COUNTS:
        return format(number, f"{separator}.{0 if number == int(number) else 1}f")
    return format(number, f"{separator}.{max(4, digits) if row.unit == 'bits' else digits}f")


def plain(number: float) -> str:
    """A number in a sentence, to four digits: 0.7, 50.12, 2.6e+27."""
    return f"{float(f'{number:.4g}'):g}" if abs(number) < LARGE else f"{number:.1e}"


def nats(number: float) -> str:
    """A number of nats in a sentence: two decimals, or a power of ten where nobody could read them."""
    return f"{number:.2f}" if abs(number) < LARGE else f"{number:.1e}"


def with_article(quantity: str) -> str:
    """What log p is, in a sentence: "a density", "no density"."""
    return quantity if quantity.startswith("no ") else f"a {quantity}"


def title(finding: Result) -> str:
    """The name of a finding in words: "posterior collapse"."""
    marked, _, name = finding.name.rpartition(FINDINGS)
    return name.replace("_", " ") + (", by training rows" if marked else "")
