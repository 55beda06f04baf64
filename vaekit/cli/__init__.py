"""The command line: `app` runs commands, each a function of `fit`, `judge`, `make`, `tables`, `serve` or `look`."""

from importlib import import_module

from vaekit.cli.app import main, program, run

__all__ = ["main", "program", "run"]

for _commands in ("fit", "judge", "make", "tables", "serve", "look"):  # in the order of the help
    import_module(f"{__name__}.{_commands}")
