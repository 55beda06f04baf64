"""The command line: each command is one function of `fit`, `judge`, `make`, `tables`, `export` or `look`,
and `app` runs them.
"""

from importlib import import_module

from vaekit.cli.app import main, program, run

__all__ = ["main", "program", "run"]

for _commands in ("fit", "judge", "make", "tables", "export", "look"):  # in the order of the help
    import_module(f"{__name__}.{_commands}")
