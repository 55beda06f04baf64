"""The questions that a service answers: each is one method of `Run`, with the options that a request may give."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, ValidationError, WithJsonSchema

from vaekit.data import Dataset
from vaekit.errors import ConfigError, DataError
from vaekit.models.view import View
from vaekit.runs import Run, Table, asking
from vaekit.serve.limits import MOST_SAMPLES
from vaekit.serve.refusal import Refusal

_MOST_SEED = 2**63 - 1
_WHOLE = re.compile(r"[+-]?\d{1,20}")


def _whole(value: Any) -> Any:
    """1.0 is a whole number in JSON, and "1" one in the query of a URL; True is none."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else value


def _in_json(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError("text is no number")
    return _whole(value)


def _number(low: int, high: int, about: str) -> Any:
    """The type of a whole number between two others, in the words of JSON Schema too."""
    said = {"type": "integer", "minimum": low, "maximum": high, "description": about}
    return Annotated[int, Strict(), BeforeValidator(_in_json), Field(ge=low, le=high), WithJsonSchema(said)]


_Seed = _number(0, _MOST_SEED, "Source of all noise.")
_NumSamples = _number(1, MOST_SAMPLES, "K, draws of z per row.")
_TransformSeed = _number(0, _MOST_SEED, "Which bits, or dequantisation noise, each row gets.")
_NumRows = _number(1, 10**9, "Number of rows.")
_Draw = Annotated[bool, Strict(), Field(description="Draws instead of means.")]
Cell = str | int | float | bool


class Options(BaseModel):
    """What a request may say beside its rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: _Seed = 0  # type: ignore[valid-type]

    @property
    def shares_passes(self) -> bool:
        """Whether a row is answered alike alone and among the rows of other requests."""
        return True


class Score(Options):
    """Of `score`."""

    num_samples: _NumSamples = 100  # type: ignore[valid-type]
    transform_seed: _TransformSeed = 0  # type: ignore[valid-type]


class Code(Options):
    """Of `encode` and `reconstruct`."""

    draw: _Draw = False
    transform_seed: _TransformSeed = 0  # type: ignore[valid-type]

    @property
    def shares_passes(self) -> bool:
        """Draws of several rows come from one stream."""
        return not self.draw


class Impute(Options):
    """Of `impute`."""

    num_samples: _NumSamples = 100  # type: ignore[valid-type]
    statistic: Annotated[Literal["mean", "median"], Field(description="What fills numbers.")] = "mean"


class Classify(Options):
    """Of `classify`."""

    num_samples: _NumSamples = 100  # type: ignore[valid-type]


class Sample(Options):
    """Of `sample`."""

    n: _NumRows = 64  # type: ignore[valid-type]
    mean: Annotated[bool, Strict(), Field(description="Means of p(x|z) instead of draws.")] = False
    given: Annotated[dict[str, Cell] | None, Field(description="Cells that all rows have, by column.")] = None

    @property
    def shares_passes(self) -> bool:
        """A sample has no rows to share."""
        return False


@dataclass(frozen=True)
class Question:
    """A question about rows.

    Attributes:
        options: what a request may say.
        ask: of a run, rows and options, the answer; there are no rows for `sample`.
        takes_rows: whether the question is about rows.
        lenient: whether levels that the fit never met, and numbers out of bounds, are taken for holes.
        answers_rows: whether the answer is rows again, and not columns of numbers about the rows.
        about: a sentence for people.
        needs_fixed_codes: whether rows share passes only where q(z|x) is made without noise.
        keeps_frame: whether the answer holds cells of the rows as they were read.
    """

    options: type[Options]
    ask: Callable[[Run, Any, Any], Table]
    about: str
    takes_rows: bool = True
    lenient: bool = False
    answers_rows: bool = False
    needs_fixed_codes: bool = False
    keeps_frame: bool = False

    def shares_passes(self, run: Run, options: Options) -> bool:
        """Whether rows of several requests may be asked about together, without a change of their answers."""
        return options.shares_passes and (not self.needs_fixed_codes or View.of(run.model).posterior_is_fixed)


def _asked_of(name: str) -> Callable[[Run, Dataset, Options], Table]:
    """What asks a question of `runs.asking`, whose keywords are the options."""
    return lambda run, rows, how: asking.Question(name, how.model_dump()).ask(run, rows)


def _sample(run: Run, rows: None, how: Sample) -> Table:
    try:
        return run.sample(how.n, mean=how.mean, seed=how.seed, given=how.given or None)
    except DataError as error:  # the cells are such as can be, but not together
        raise Refusal(409, " ".join(str(error).split())) from None
    except ConfigError as error:
        if how.mean and how.given:  # each is an option of its own, and cells of rows go with draws alone
            raise Refusal(409, " ".join(str(error).split())) from None
        raise


QUESTIONS: dict[str, Question] = {
    "score": Question(
        Score, _asked_of("score"), "log p(x) of each row in nats, its standard error and effective sample size."
    ),
    "encode": Question(Code, _asked_of("encode"), "E[z|x] of each row, or a draw from q(z|x).", needs_fixed_codes=True),
    "reconstruct": Question(
        Code,
        _asked_of("reconstruct"),
        "Each row as the model gives it back, in the units of the data.",
        answers_rows=True,
        needs_fixed_codes=True,
    ),
    "impute": Question(
        Impute, _asked_of("impute"), "The rows with their empty cells filled.", answers_rows=True, keeps_frame=True
    ),
    "classify": Question(
        Classify, _asked_of("classify"), "The class of each row and p(class | row), by Bayes' rule.", lenient=True
    ),
    "sample": Question(
        Sample, _sample, "Draws from p(x), or from p(x | some cells).", takes_rows=False, answers_rows=True
    ),
}


def options_in_json(question: Question, said: Any, most: int) -> Options:
    """The options of a JSON body, without its rows.

    Args:
        question: the question.
        said: names to values.
        most: rows that a request may ask for.

    Raises:
        Refusal: One is unknown or none that it can be.
    """
    try:
        found = question.options.model_validate(said)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"][:2]))
        known = ", ".join(question.options.model_fields)
        raise Refusal(422, f"{name}: {first['msg'].lower()}; the options are {known}") from None
    if isinstance(found, Sample) and found.n > most:
        raise Refusal(422, f"n: {found.n:,} rows are asked for, and a request may have {most:,}; ask in parts")
    return found


def options_in_query(question: Question, said: list[tuple[str, str]], most: int) -> Options:
    """The options in the query of a URL, beside a body that holds rows alone; see `options_in_json`."""
    words: dict[str, Any] = {"true": True, "false": False}
    if len({name for name, _ in said}) < len(said):
        raise Refusal(422, "an option stands twice in the query; give each one once")
    return options_in_json(question, {name: words.get(value, _whole(value)) for name, value in said}, most)
