"""vaekit info."""

from pathlib import Path
from typing import Annotated, Any

import typer

from vaekit.cli.common import Json, open_run, print_json, print_table


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: vaekit info runs/digits")(info)


def info(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN]", help="Folder of a fitted model; default: this machine.", show_default=False),
    ] = None,
    json_: Json = False,
) -> None:
    """Print what a run holds: model, settings, data, best epoch; and how this machine computes."""
    if run is None:
        from vaekit import engine

        about: dict[str, Any] = {"engine": engine.describe()}
    else:
        about = open_run(run).describe()
    if json_:
        print_json(about)
        return
    from vaekit.runs import flattened

    rows = [(key, str(value)) for key, value in flattened(about).items() if value is not None]
    print_table(rows, ("what", "value"))
