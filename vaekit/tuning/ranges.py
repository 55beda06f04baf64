"""What a setting may be, in a search: a number between two, or one of several values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from vaekit.errors import ConfigError
from vaekit.recipes import Settings, settings

if TYPE_CHECKING:
    import optuna

_WIDE = 10  # a range of positive numbers whose ends differ by this factor is searched by orders of magnitude


@dataclass(frozen=True)
class Between:
    """A number between two, both included.

    Attributes:
        low: the least.
        high: the greatest.
        whole: whether it is a count.
        by_magnitude: whether 1 to 10 is as wide as 10 to 100.
    """

    low: float
    high: float
    whole: bool = False
    by_magnitude: bool = False

    def suggest(self, key: str, trial: "optuna.Trial") -> int | float:
        """The value of a trial."""
        if self.whole:
            return trial.suggest_int(key, int(self.low), int(self.high), log=self.by_magnitude)
        return trial.suggest_float(key, self.low, self.high, log=self.by_magnitude)

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}"


@dataclass(frozen=True)
class Among:
    """One of several values, in words as a setting takes them."""

    values: tuple[str, ...]

    def suggest(self, key: str, trial: "optuna.Trial") -> str:
        """The value of a trial."""
        return str(trial.suggest_categorical(key, list(self.values)))

    def __str__(self) -> str:
        return "|".join(self.values)


Range = Between | Among


def ranges(given: Mapping[str, object]) -> tuple[dict[str, Range], dict[str, object]]:
    """What is searched, and what stays fixed.

    Args:
        given: key to value. `2..32` is a number between two, whole where the setting is; `64,64|256,256` one of several
            values; lists are several values too. All else is a fixed setting. A range of positive numbers whose ends
            differ by a factor of 10 is searched by orders of magnitude.

    Raises:
        ConfigError: for a key that does not exist, ends or values that do not fit the key, or no range at all.

    Example:
        >>> searched, fixed = ranges({"latent_dim": "2..8", "learning_rate": "1e-4..1e-2", "max_epochs": "5"})
        >>> {key: str(value) for key, value in searched.items()}, fixed
        ({'latent_dim': '2..8', 'learning_rate': '0.0001..0.01'}, {'max_epochs': '5'})
        >>> searched["latent_dim"].whole, searched["learning_rate"].by_magnitude
        (True, True)
    """
    searched = {key: found for key, value in given.items() if (found := _range(key, value)) is not None}
    fixed = {key: value for key, value in given.items() if key not in searched}
    settings(fixed)
    for key, one in searched.items():
        ends = one.values if isinstance(one, Among) else [int(e) if one.whole else e for e in (one.low, one.high)]
        for value in ends:
            settings({**fixed, key: value})
    if not searched:
        raise ConfigError("no setting has a range; say latent_dim=2..32, or hidden=64,64|256,256")
    return searched, fixed


def _range(key: str, value: object) -> Range | None:
    if isinstance(value, Between | Among):
        return value
    if isinstance(value, list):
        return Among(tuple(map(str, value)))
    text = str(value)
    if "|" in text:
        values = tuple(part.strip() for part in text.split("|"))
        if len(set(values)) < len(values) or not all(values):
            raise ConfigError(f"{key}={text}: expected values that differ, such as {key}=a|b")
        return Among(values)
    if ".." not in text:
        return None
    low, _, high = text.partition("..")
    try:
        ends = float(low), float(high)
    except ValueError as error:
        raise ConfigError(f"{key}={text}: expected two numbers, such as 2..32, or values such as a|b") from error
    if not (all(map(math.isfinite, ends)) and ends[0] < ends[1]):
        raise ConfigError(f"{key}={text}: expected a lower and a higher number")
    field = Settings.model_fields.get(key)
    kinds = () if field is None else (field.annotation, *get_args(field.annotation))
    if field is not None and int not in kinds and float not in kinds:
        raise ConfigError(f"{key} is no number and has no range; name its values, such as {key}=A|B")
    whole = int in kinds
    if whole and any(end != int(end) for end in ends):
        raise ConfigError(f"{key}={text}: {key} is a whole number")
    return Between(*ends, whole, ends[0] > 0 and ends[1] / ends[0] >= _WIDE)
