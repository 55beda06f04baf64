"""Names of a package that are imported when somebody asks for them: start-up pays for what is used."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def attributes(package: str, where: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` for a package; type checkers see its names through imports under `TYPE_CHECKING`.

    Args:
        package: its `__name__`.
        where: name to the submodule that holds it; a name that is a submodule itself maps to "".
    """

    def get(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        submodule = where[name]
        module = import_module(f"{package}.{submodule or name}")
        value = getattr(module, name) if submodule else module
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted({*sys.modules[package].__all__, *where})
