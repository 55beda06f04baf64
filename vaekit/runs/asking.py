"""Questions as values: which one, and with what options; another process can be handed one, and ask it of its rows."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from vaekit.errors import ConfigError

if TYPE_CHECKING:
    from vaekit.data import Dataset
    from vaekit.runs.run import Run
    from vaekit.runs.table import Table


@dataclass(frozen=True)
class Question:
    """What is asked of a run about rows, whatever the rows are.

    Attributes:
        name: score, encode, reconstruct, impute, classify or bounds.
        options: keywords of the question: plain values, none of which is the rows.
        progress: whether to report on stderr.

    Raises:
        ConfigError: if there is no such question.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    progress: bool = False

    def __post_init__(self) -> None:
        if self.name not in QUESTIONS:
            raise ConfigError(f"there is no question {self.name!r}; there are {', '.join(QUESTIONS)}")

    def ask(self, run: "Run", rows: "Dataset") -> "Table":
        """The answer of a run for some rows."""
        return QUESTIONS[self.name](run, rows, self.progress, **self.options)

    def digest(self, run: "Run") -> str:
        """What an answer depends on beside the rows: the weights of the run, the question and its options."""
        about = {"weights": run.config.weights_sha256, "what": self.name, **self.options}
        text = json.dumps(about, sort_keys=True, default=str)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _score(
    run: "Run", rows: "Dataset", progress: bool, *, shares: bool = False, num_samples: int | None = None, **how: Any
) -> "Table":
    found = run.score(rows, num_samples=num_samples, progress=progress, **how)
    if not shares:
        return found
    return found.joined(run.score_elements(rows, num_samples or 100, how.get("seed", 0), progress=progress))


def _encode(
    run: "Run",
    rows: "Dataset",
    progress: bool,
    *,
    draw: bool = False,
    clusters: bool = False,
    method: Literal["posterior", "importance"] = "posterior",
    num_samples: int | None = None,
    **noise: Any,
) -> "Table":
    if clusters:
        return run.clusters(rows, num_samples or 100, method, progress=progress, **noise)
    return run.encode(rows, mean=not draw, **noise)


def _impute(run: "Run", rows: "Dataset", progress: bool, **how: Any) -> "Table":
    return run.impute(rows, **how)


def _bounds(run: "Run", rows: "Dataset", progress: bool, **how: Any) -> "Table":
    from vaekit.runs.pooled import bounds_by_row

    return bounds_by_row(run, rows, progress=progress, **how)


def _classify(run: "Run", rows: "Dataset", progress: bool, **how: Any) -> "Table":
    return run.classify(rows, progress=progress, **how)


def _reconstruct(run: "Run", rows: "Dataset", progress: bool, *, draw: bool = False, **noise: Any) -> "Table":
    return run.reconstruct(rows, mean=not draw, **noise)


QUESTIONS: dict[str, Callable[..., "Table"]] = {
    "score": _score,
    "encode": _encode,
    "reconstruct": _reconstruct,
    "impute": _impute,
    "classify": _classify,
    "bounds": _bounds,
}
"""Name to what asks a run."""
