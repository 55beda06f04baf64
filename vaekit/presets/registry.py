"""What is known of each preset beside its function, and the search for a preset by its name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from vaekit.errors import ConfigError
from vaekit.models.base import GenerativeModel
from vaekit.objectives import Objective
from vaekit.saving import spec
from vaekit.training import Callback

__all__ = ["OF_CONTEXTS", "SETTINGS", "Preset", "available", "find"]

Make = Callable[..., tuple[GenerativeModel, Objective]]
_Make = TypeVar("_Make", bound=Make)

PARTS = frozenset({"latent_dim", "likelihood", "posterior", "prior", "transform", "objective", "beta", "num_samples"})
SETTINGS = PARTS | {"hidden"}
"""Settings in words that choose parts of a model; the others are those of training."""
OF_CONTEXTS = frozenset({"conditions", "conditioning", "networks"})
"""Those of a model that is conditioned on a context."""


@dataclass(frozen=True)
class Preset:
    """A preset as settings in words see it.

    Attributes:
        make: the function.
        takes: the settings that change what it makes; `beta` and `num_samples` where its objective has them.
        likelihood: the family that it is about; None follows the data.
        latent_dim: its own default, where few latents are the point (pictures, a curved space); None follows the data.
        starts_linear: whether its model starts from a factor analysis of the rows, and is trained as long as that asks.
        is_conditional: whether its model is one given the contexts of the rows, such as their labels.
        learns_unlabelled: whether it learns from rows without a label, too.
        begins: makes a callback that gives its model first weights from the rows, before the first epoch; None begins
            at random. Training that goes on from a fitted model leaves it out.
    """

    make: Make
    takes: frozenset[str] = SETTINGS
    likelihood: str | None = None
    latent_dim: int | None = None
    starts_linear: bool = False
    is_conditional: bool = False
    learns_unlabelled: bool = False
    begins: Callable[[], Callback] | None = None

    @property
    def name(self) -> str:
        """The function's name with hyphens."""
        return self.make.__name__.replace("_", "-")


_PRESETS: list[Preset] = []


def preset(
    *,
    takes: frozenset[str] = SETTINGS,
    likelihood: str | None = None,
    latent_dim: int | None = None,
    starts_linear: bool = False,
    is_conditional: bool = False,
    learns_unlabelled: bool = False,
    begins: Callable[[], Callback] | None = None,
) -> Callable[[_Make], _Make]:
    """A decorator that makes a function a preset; its arguments are the attributes of `Preset`."""

    def add(make: _Make) -> _Make:
        made = Preset(make, takes, likelihood, latent_dim, starts_linear, is_conditional, learns_unlabelled, begins)
        _PRESETS.append(made)
        return make

    return add


def publish(variables: dict[str, object]) -> None:
    """End a module of presets: its presets get the names of their variables, and are its `__all__`.

    Type checkers cannot read an `__all__` that is computed; without one in sight they take every public variable.
    """
    makes = [preset.make for preset in _PRESETS]
    found = {name: make for name, value in variables.items() for make in makes if value is make}
    for name, make in found.items():
        make.__name__ = make.__qualname__ = name
    variables["__all__"] = list(found)


def available() -> dict[str, Make]:
    """Name (with hyphens) to function of every preset, in the order of the alphabet."""
    return {preset.name: preset.make for preset in sorted(_PRESETS, key=lambda preset: preset.make.__name__)}


def find(name: str) -> Preset:
    """The preset of a name; case, hyphens and underscores do not matter.

    Raises:
        ConfigError: if there is none, with the nearest names.
    """
    by_name = {preset.make.__name__.replace("_", ""): preset for preset in _PRESETS}
    wanted = spec.normalized(name)
    if wanted not in by_name:
        raise ConfigError(f"there is no preset {name!r}. {spec.nearest(name.lower(), available())}")
    return by_name[wanted]
