"""vaekit cite."""

import typer

from vaekit.cli.common import Json, Run, print_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: vaekit cite runs/digits > references.bib")(cite)


def cite(run: Run, json_: Json = False) -> None:
    """Print what to cite for a run, as BibTeX: its preset, model, components and objective."""
    from vaekit import catalog

    citations = catalog.cite(run)
    if not json_:
        print(catalog.bibtex(citations))
        return
    sources = [
        {"key": c.key, "author": c.reference.author}
        | {name: getattr(c.reference, name) for name in ("title", "year", "url")}
        | {"used_for": list(c.used_for)}
        for c in citations
    ]
    print_json({"run": str(run), "references": sources, "bibtex": catalog.bibtex(citations)})
