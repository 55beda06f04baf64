"""vaekit info."""

import typer

from vaekit.cli.common import Json, Run, print_json, print_table


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: vaekit info runs/digits")(info)


def info(run: Run, json_: Json = False) -> None:
    """Print what a run holds: model, settings, data, best epoch."""
    from vaekit import runs

    about = runs.describe(run)
    if json_:
        print_json(about)
        return
    rows = [(key, str(value)) for key, value in runs.flattened(about).items() if value is not None]
    print_table(rows, ("what", "value"))
