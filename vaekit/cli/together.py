"""Commands that several processes run as one: each has its share of the rows, and process 0 writes and speaks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from vaekit.cli.app import Source, arguments
from vaekit.errors import ConfigError

Processes = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="Processes that divide the rows, default 1; with --engine ray: actors, default one for each core.",
    ),
]


def others_run(workers: int | None, engine: str, data: Source) -> bool:
    """Let as many processes run this command as are asked for; says whether they have, and this one is done.

    In a process that a launcher has started, it joins the others.
    """
    from vaekit import engine as processes

    if engine != "local" or processes.is_launched():
        processes.join()
        return False
    if (workers or 1) == 1:
        return False
    if data.is_stdin:
        raise ConfigError("stdin has one reader; with --workers, name a file of data")
    from vaekit.distributed import launch

    code = launch(arguments(), workers or 1)
    if code:
        raise typer.Exit(code)
    return True


def speaks() -> bool:
    """Whether this is the process that writes and speaks: the first of a group, or the only one."""
    from vaekit.engine import world

    return world.rank() == 0


@contextmanager
def reading() -> Iterator[None]:
    """A body in which all processes of a group read the same data, those of one machine once."""
    from vaekit.data.once_here import shared

    with shared():
        yield
