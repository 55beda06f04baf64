"""How a file is to be read, where that can be said: one object, which a run remembers."""

import csv
import sys
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Literal, TypedDict, TypeVar, Unpack, cast

from vaekit.errors import DataError, ReadingWarning
from vaekit.paths import as_text

T = TypeVar("T")

Alpha = Literal["white", "black", "keep", "drop"]
ALPHAS = ("white", "black", "keep", "drop")


class Said(TypedDict, total=False):
    """Some of what a `Reading` can say of a file, by name."""

    delimiter: str
    decimal: str
    encoding: str
    header: bool | None
    sheet: str
    missing: tuple[str, ...]
    columns: tuple[str, ...]
    drop: tuple[str, ...]
    weight: str
    context: tuple[str, ...]
    alpha: str
    channels_last: bool


@dataclass(frozen=True)
class Reading:
    """How a file is read; None leaves a choice to the file itself.

    A data set keeps the one by which it was read, choices that were made for it included; those are named in
    `guessed`, and another file may make others.

    Args:
        delimiter: What stands between the cells of a CSV file, one character.
        decimal: The decimal mark of a CSV file: "." or ",".
        encoding: Of a CSV or JSON file, such as "utf-8", "latin-1" or "utf-16".
        header: Whether the first line of a CSV file, or the first row of a sheet, names the columns.
        sheet: Name of a sheet of a workbook of Excel; None takes the first.
        missing: Cells of a table that mean "not observed", beside empty ones, such as "?" or "-999".
        columns: The columns of a table that are data, in this order; None takes all.
        drop: Columns of a table that are no data.
        weight: Column of a table that says how much each of its rows counts in a fit, and is no data either.
        context: Columns of a table that a conditional model is given, beside labels; no data either.
        alpha: What becomes of transparent pixels: composed over "white" (the default) or "black", kept as one more
            channel ("keep"), or dropped together with what they hide ("drop").
        channels_last: Whether an array of images has shape (N, H, W, C).
        guessed: Names of those of the above that were not asked for.

    Raises:
        DataError: A value is none that can be.

    Example:
        >>> Reading(delimiter=";", decimal=",").given
        {'delimiter': ';', 'decimal': ','}
    """

    delimiter: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    header: bool | None = None
    sheet: str | None = None
    missing: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    drop: tuple[str, ...] = ()
    weight: str | None = None
    context: tuple[str, ...] = ()
    alpha: str | None = None
    channels_last: bool | None = None
    guessed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            for word in value if isinstance(value, tuple | list) else (value,):
                if isinstance(word, str) and as_text(word) != word:
                    raise DataError(f"{name} takes text, and {as_text(word)!r} is no UTF-8. Check the locale.")
        for name in ("missing", "columns", "drop", "context", "guessed"):
            value = vars(self)[name]
            if isinstance(value, str):
                raise DataError(f"{name} takes several words; got the text {value!r}. Write ({value!r},).")
            if value is not None:
                object.__setattr__(self, name, tuple(value))
        if self.delimiter == "\\t":  # as it is typed in a shell
            object.__setattr__(self, "delimiter", "\t")
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '\r\n"'):
            raise DataError(f"delimiter must be one character, such as ';' or a tab; got {self.delimiter!r}.")
        if self.decimal not in (None, ".", ","):
            raise DataError(f"decimal must be '.' or ','; got {self.decimal!r}.")
        if self.alpha not in (None, *ALPHAS):
            raise DataError(f"alpha must be {', '.join(ALPHAS[:-1])} or {ALPHAS[-1]}; got {self.alpha!r}.")
        if self.encoding is not None:
            try:
                "".encode(self.encoding)
            except LookupError as error:
                raise DataError(f"There is no encoding {self.encoding!r}. Try utf-8, latin-1 or utf-16.") from error

    @property
    def given(self) -> Said:
        """What was asked for, by name."""
        return _said((name, value) for name, value in self._set.items() if name not in self.guessed)

    @property
    def hints(self) -> Said:
        """What another file was found to be, by name: tried first, and no more than that."""
        return _said((name, value) for name, value in self._set.items() if name in self.guessed)

    @property
    def _set(self) -> Said:
        values = vars(self).items()
        return _said((name, value) for name, value in values if name != "guessed" and value not in (None, ()))

    def over(self, remembered: "Reading") -> "Reading":
        """What is asked for here, and what another file was read by for all else."""
        given = self.given
        return replace(remembered, **given, guessed=tuple(name for name in remembered.guessed if name not in given))

    def only(self, names: Iterable[str]) -> "Reading":
        """What is said of these alone."""
        kept = _said((name, value) for name, value in self._set.items() if name in set(names))
        return Reading(**kept, guessed=self.guessed)

    def found(self, **choices: Unpack[Said]) -> "Reading":
        """With what a file was found to be; what was asked for stays."""
        made = _said((name, value) for name, value in choices.items() if name not in self.given)
        return replace(self, **made, guessed=tuple(sorted({*self.guessed, *made})))


def _said(pairs: Iterable[tuple[str, object]]) -> Said:
    return cast(Said, dict(pairs))


PLAIN = Reading()


def words(values: Iterable[str] | None) -> tuple[str, ...]:
    """Names from words that hold one or several, with commas between them and quotes around a name with a comma.

    Example:
        >>> words(["a,b", '"c,d"'])
        ('a', 'b', 'c,d')
    """
    return tuple(name.strip() for row in csv.reader(values or (), skipinitialspace=True) for name in row)


_SAID: ContextVar[set[str] | None] = ContextVar("_SAID", default=None)
_PARSED: ContextVar[dict[Hashable, object] | None] = ContextVar("_PARSED", default=None)


@contextmanager
def once() -> Iterator[None]:
    """Parse each file once, and say each notice once, within the block, which may read a file more than once."""
    tokens = _SAID.set(set()), _PARSED.set({})
    try:
        yield
    finally:
        _SAID.reset(tokens[0])
        _PARSED.reset(tokens[1])


def parsed(key: Hashable, parse: Callable[[], T]) -> T:
    """What a file holds: parsed, or within a block of `once` what it was parsed to before.

    Args:
        key: the file, and all that what is parsed depends on.
        parse: parses it; what it returns is not to be changed.
    """
    known = _PARSED.get()
    if known is None:
        return parse()
    if key not in known:
        known[key] = parse()
    return cast(T, known[key])


def notice(text: str, category: type[ReadingWarning] = ReadingWarning) -> None:
    """Tell whoever called vaekit how a file was read: by a guess, in part, or changed since it was read last."""
    said = _SAID.get()
    if said is not None:
        if text in said:
            return
        said.add(text)
    frame, depth = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("vaekit."):
        frame, depth = frame.f_back, depth + 1
    warnings.warn(text, category, stacklevel=depth - 1)
