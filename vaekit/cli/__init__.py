"""The command line: each command is a function of one of these files, and `app` runs them."""

from importlib import import_module

from vaekit.cli.app import main, program, run

__all__ = ["main", "program", "run"]

for _commands in ("fit", "tune", "judge", "make", "tables", "export", "serve", "look"):  # in the order of the help
    import_module(f"{__name__}.{_commands}")
