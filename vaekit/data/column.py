"""One column of a table: its kind, and what it takes to code its cells as numbers and to give them back."""

from typing import Literal, TypedDict, get_args

from pydantic import BaseModel, ConfigDict, model_validator

Kind = Literal[
    "continuous",
    "heavy-tailed",
    "multi-modal",
    "spiky",
    "positive",
    "bounded",
    "count",
    "zero-inflated count",
    "binary",
    "categorical",
    "ordinal",
    "datetime",
    "hole",
    "constant",
    "identifier",
    "text",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
WITH_LEVELS: tuple[Kind, ...] = ("binary", "categorical", "ordinal", "hole")
NORMAL: tuple[Kind, ...] = ("continuous", "datetime", "positive", "bounded")
"""Kinds whose numbers, transformed, are normal given z."""
COUNTS: tuple[Kind, ...] = ("count", "zero-inflated count")
DROPPED: tuple[Kind, ...] = ("constant", "identifier", "text")
_NUMBERS = ("Int", "Float", "Decimal")
MOST_EXACT = 2**53  # whole numbers up to here are told apart in float64

Cell = str | int | float | bool


class Called(TypedDict):
    """What a column is called, and what its cells are, in the words of narwhals and of the library that held them."""

    name: str
    dtype: str
    native: str


class Shape(TypedDict, total=False):
    """What a `Column` of numbers is, by the names of its arguments."""

    kind: Kind
    why: str
    low: float
    high: float
    spikes: tuple[float, ...]


class Column(BaseModel):
    """A column of a table, as one element of x or beside x.

    Args:
        name: Of the column.
        kind: What its values are; `constant`, `identifier` and `text` are no elements of x.
        why: How the kind was found, a sentence.
        dtype: Of its cells, in the words of narwhals: "Int64", "Float32", "String", "Boolean", "Categorical", "Enum",
            "Date", "Datetime[us]", "Datetime[ns, Europe/Berlin]".
        native: The same in the words of the library that held it, such as "boolean" or "string" of pandas.
        levels: Of a binary, categorical or ordinal column: code i stands for levels[i].
        categories: Those of a dtype that lists them, in its order, where they are not the levels.
        other: Whether rare and unseen levels share the code len(levels).
        whole: Whether its numbers are whole.
        decimals: Decimals to which numbers are rounded on the way back; None leaves them.
        step: Seconds to a multiple of which datetimes are rounded on the way back.
        low: Least value that can be, in the units of the column (datetimes: seconds since 1970); None has no bound.
        high: Largest value that can be.
        spikes: Values that have a probability of their own beside a density.
        value: The one value of a constant; None where all cells are empty.
        of: Of a hole: the column whose empty cells it marks. No table has it: it is made of the other's cells.
        by_value: Of a hole: whether the cell may be empty because of what it holds; of a column of `NORMAL` kind.

    Raises:
        ValidationError: The parts contradict each other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    kind: Kind
    why: str = ""
    dtype: str
    native: str = ""
    levels: tuple[Cell, ...] = ()
    categories: tuple[Cell, ...] = ()
    other: bool = False
    whole: bool = False
    decimals: int | None = None
    step: float | None = None
    low: float | None = None
    high: float | None = None
    spikes: tuple[float, ...] = ()
    value: Cell | None = None
    of: str | None = None
    by_value: bool = False

    @model_validator(mode="after")
    def _check(self) -> "Column":
        if self.kind in WITH_LEVELS and (len(set(self.levels)) < len(self.levels) or self.num_codes < 2):
            raise ValueError(f"a {self.kind} column needs two or more levels, each once; got {list(self.levels)}")
        if self.kind == "binary" and self.num_codes != 2:
            raise ValueError(f"a binary column has two levels; got {list(self.levels)}")
        if self.kind not in WITH_LEVELS and (self.levels or self.other):
            raise ValueError(f"a {self.kind} column has no levels; got {list(self.levels)}")
        if self.other and self.kind != "categorical":
            raise ValueError(f"'other' belongs to a categorical column, not to a {self.kind} one")
        if (self.kind == "hole") != (self.of is not None):
            raise ValueError("a hole says of which column it is (of), and no other column does")
        if self.by_value and self.kind != "hole":
            raise ValueError(f"by_value belongs to a hole, not to a {self.kind} column")
        if (self.kind == "spiky") != bool(self.spikes):
            raise ValueError(f"spikes belong to a spiky column, and a spiky column has some; got {list(self.spikes)}")
        if self.kind == "bounded" and (self.low is None or self.high is None):
            raise ValueError("a bounded column needs low and high")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low must be below high; got {self.low:g} and {self.high:g}")
        if self.kind == "datetime" and not self.dtype.startswith("Date"):
            raise ValueError(f"a datetime column holds dates or datetimes, not {self.dtype}")
        if holds_numbers(self.kind) and not self.dtype.lstrip("U").startswith(_NUMBERS):
            raise ValueError(f"a {self.kind} column holds numbers, not {self.dtype}")
        wrong = [level for level in self.levels if not _suits(level, self.dtype)]
        if wrong:
            raise ValueError(f"the level {wrong[0]!r} is none of a column of {self.dtype}")
        if self.kind in COUNTS and not self.whole:
            raise ValueError(f"a {self.kind} column needs whole: true")
        if self.decimals is not None and not 0 <= self.decimals <= 15:
            raise ValueError(f"decimals must be from 0 to 15; got {self.decimals}")
        if self.step is not None and self.step <= 0:
            raise ValueError(f"step must be above 0 seconds; got {self.step:g}")
        return self

    @property
    def num_codes(self) -> int:
        """Codes of its levels: one each, and one for all others."""
        return len(self.levels) + self.other

    @property
    def is_modelled(self) -> bool:
        """Whether the column is an element of x."""
        return self.kind not in DROPPED

    @property
    def cells(self) -> Literal["text", "number"] | None:
        """What its cells are in a file of text, where its dtype says so: text, whatever it looks like, or numbers."""
        listed = bool(self.levels) and all(isinstance(level, str) for level in self.levels)
        if self.dtype == "String" or (self.dtype in ("Categorical", "Enum") and listed):
            return "text"
        return "number" if self.dtype.lstrip("U").startswith(_NUMBERS) else None


def _suits(level: Cell, dtype: str) -> bool:
    """Whether a column of that dtype can hold a level."""
    if dtype == "Boolean":
        return isinstance(level, bool)
    if dtype == "String":
        return isinstance(level, str)
    return not isinstance(level, str | bool) if dtype.lstrip("U").startswith(_NUMBERS) else True


def holds_numbers(kind: Kind) -> bool:
    """Whether a column of that kind holds numbers, also where its cells are digits with leading zeros."""
    return kind not in (*WITH_LEVELS, *DROPPED, "datetime")
