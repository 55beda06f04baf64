"""vaekit list."""

import typer

from vaekit.cli.common import Json, print_json, print_table


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("list", epilog="Example: vaekit list --json")(list_)


def list_(json_: Json = False) -> None:
    """List data sets, presets, components and the keys of `vaekit fit`, with a line each."""
    from vaekit import catalog

    entries = catalog.entries()
    if json_:
        print_json(entries)
        return
    rows = [(kind, name, text) for kind, members in entries.items() for name, text in members.items()]
    print_table(rows, ("kind", "name", "what it is"))
