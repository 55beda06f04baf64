"""vaekit list."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from vaekit.cli.common import Json, print_json, print_table

if TYPE_CHECKING:
    from vaekit.catalog import Entry


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("list", epilog="Example: vaekit list preset")(list_)


def list_(
    kind: Annotated[
        str | None, typer.Argument(metavar="[KIND]", help="preset, likelihood, ...; default: all.", show_default=False)
    ] = None,
    json_: Json = False,
) -> None:
    """List data sets, presets, components and the keys of `vaekit fit`: what, when to use it, year and paper."""
    from vaekit import catalog

    entries = catalog.entries(kind)
    if json_:
        from dataclasses import asdict

        kinds = entries.items()
        print_json({kind: {name: asdict(entry) for name, entry in members.items()} for kind, members in kinds})
    elif sys.stdout.isatty():
        _print_framed(entries)
    else:
        rows = [
            (kind, name, entry.what, entry.use, str(entry.year or ""), entry.paper)
            for kind, members in entries.items()
            for name, entry in members.items()
        ]
        print_table(rows, ("kind", "name", "what it is", "when to use it", "year", "paper"))


def _print_framed(entries: "dict[str, dict[str, Entry]]") -> None:
    """A table for each kind: names, and beside each what, when and whence, which leaves their text room to wrap."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for kind, members in entries.items():
        table = Table(kind, "", box=SIMPLE_HEAD, padding=(0, 1), expand=True)
        table.columns[0].width = min(max(map(len, members)), console.width // 3)
        table.columns[0].style = "bold"
        for name, entry in members.items():
            source = f"{entry.paper}, {entry.year}" if entry.year else ""
            parts = [(entry.what, ""), (entry.use, "italic"), (source, "dim")]
            table.add_row(name, Text("\n").join(Text(text, style) for text, style in parts if text))
        console.print(table)
