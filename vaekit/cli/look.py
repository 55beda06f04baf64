"""Commands that look something up: what a run holds, what to cite for it, what there is to choose from."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaekit.cli.app import Data, Json, Run, command, open_run
from vaekit.cli.output import print_json, print_table, write_to_stdout
from vaekit.errors import ConfigError
from vaekit.paths import as_text

if TYPE_CHECKING:
    from vaekit.catalog import Entry
    from vaekit.data.column import Kind


@command("vaekit info runs/digits")
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

        about: dict[str, object] = {"engine": engine.describe()}
    else:
        about = open_run(run).describe()
    if json_:
        print_json(about)
        return
    from vaekit.runs import flattened

    rows = [(key, str(value)) for key, value in flattened(about).items() if value is not None]
    print_table(rows, ("what", "value"))


@command("vaekit cite runs/digits > references.bib")
def cite(run: Run, json_: Json = False) -> None:
    """Print what to cite for a run, as BibTeX: its preset, model, components and objective."""
    from vaekit import catalog

    citations = catalog.cite(run)
    if not json_:
        write_to_stdout(f"{catalog.bibtex(citations)}\n")
        return
    sources = [
        {
            "key": c.key,
            "author": c.reference.author,
            "title": c.reference.title,
            "year": c.reference.year,
            "url": c.reference.url,
            "used_for": list(c.used_for),
        }
        for c in citations
    ]
    print_json({"run": as_text(run), "references": sources, "bibtex": catalog.bibtex(citations)})


@command("vaekit schema people.csv -o schema.json", writes=(".json",))
def schema(
    data: Data,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="JSON file to write.", show_default=False),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="COLUMN=KIND", help="A kind that goes before the one found; repeatable."),
    ] = None,
    json_: Json = False,
) -> None:
    """Print what each column of a table is, and why; write it as JSON that can be edited."""
    from vaekit.data.column import holds_numbers
    from vaekit.data.readers.frames import frame_and_reading, place_in
    from vaekit.data.readers.typed import Told
    from vaekit.data.schema import Schema

    if data.name is None:
        raise ConfigError("vaekit schema needs DATA, a file that holds a table, or - for CSV on stdin.")
    options, kinds = {name: data.options[name] for name in ("label", "key")}, _kinds(kind or [])
    told: Told = {name: "number" for name, kind in kinds.items() if holds_numbers(kind)}
    table, reading = frame_and_reading(data.name, data.options["reading"], **options, told=told)
    beside = [*options.values(), reading.weight]
    table = table.drop_columns([name for name in beside if name is not None])
    path = Path(data.name)
    found = Schema.found(table, kinds=kinds, name=as_text(path.name), place=place_in(path, reading))
    if json_:
        print_json(found.model_dump(mode="json", exclude_defaults=True))
    else:
        print_table(found.table(), ("column", "kind", "why"))
    if output is not None:
        found.save(output)
        print(f"wrote {as_text(output)}", file=sys.stderr)


def _kinds(words: list[str]) -> "dict[str, Kind]":
    """The kinds of columns from words such as "age=count"."""
    from vaekit.data.column import KINDS
    from vaekit.saving import spec

    kinds: dict[str, Kind] = {}
    for word in words:
        column, _, name = word.rpartition("=")
        kind = next((kind for kind in KINDS if kind == name.lower().replace("_", " ")), None)
        if not column or kind is None:
            raise ConfigError(f"--kind takes COLUMN=KIND; got {word!r}. {spec.nearest(name, KINDS)}")
        kinds[column] = kind
    return kinds


@command("vaekit list preset", name="list")
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
