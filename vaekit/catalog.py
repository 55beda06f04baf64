"""What there is: data sets, presets, components, pictures and settings, with a line each and where they come from."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaekit import data, plots, presets, recipes, references
from vaekit.errors import ConfigError
from vaekit.saving import spec

_SHOWN = ("likelihoods", "posteriors", "priors", "objectives", "transforms", "networks")


@dataclass(frozen=True)
class Entry:
    """One thing that can be named.

    Attributes:
        what: what it is, in a sentence.
        use: when to use it; empty where nothing is said.
        year: of its first publication named; None where there is none.
        paper: authors and title.
        url: address of the paper.
    """

    what: str
    use: str = ""
    year: int | None = None
    paper: str = ""
    url: str = ""


def describe(thing: Any) -> Entry:
    """The entry of a class or a function, read off its docstring."""
    about = Entry(references.summary(thing), references.advice(thing))
    sources = references.of(thing)
    if not sources:
        return about
    first = sources[0]
    return Entry(about.what, about.use, first.year, f"{first.authors}, {first.title}", first.url)


def entries(kind: str | None = None) -> dict[str, dict[str, Entry]]:
    """Kind to name to entry.

    Args:
        kind: "preset", "likelihood", ...; None is all of them.

    Raises:
        ConfigError: if there is no such kind.
    """
    found = {"data": {name: Entry(text) for name, text in data.available().items()}}
    found["preset"] = {name: describe(function) for name, function in presets.available().items()}
    for axis in _SHOWN:
        members = spec.components(axis)
        found[axis.removesuffix("s")] = {spec.hyphened(name): describe(kind) for name, kind in members.items()}
    found["plot"] = {name: Entry(text) for name, text in plots.KINDS.items()}
    fields = recipes.Settings.model_fields
    found["key"] = {name: Entry(field.description or "named model") for name, field in fields.items()}
    if kind is None:
        return found
    wanted = kind.lower() if kind.lower() in found else kind.lower().removesuffix("s")
    if wanted not in found:
        raise ConfigError(f"there is no kind {kind!r}. {spec.nearest(wanted, found)}")
    return {wanted: found[wanted]}


def markdown(kind: str) -> str:
    """A table of one kind: names, when to use them, sources; see `entries`."""
    ((_, members),) = entries(kind).items()
    rows = []
    for name, entry in members.items():
        source = f"[{entry.paper}, {entry.year}]({entry.url})" if entry.year else ""
        cells = (f"`{name}`", *(cell.replace("|", "\\|") for cell in (entry.what, entry.use, source)))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(["| name | what it is | when to use it | source |", "|---|---|---|---|", *rows])


def filled(text: str) -> str:
    """A document whose blocks between `<!-- list KIND -->` and `<!-- end -->` hold the tables of today.

    `python -m vaekit.catalog FILE ...` rewrites documents so.
    """
    block = re.compile(r"(<!-- list (\w+) -->\n).*?(<!-- end -->)", re.S)
    return block.sub(lambda match: f"{match[1]}\n{markdown(match[2])}\n\n{match[3]}", text)


if __name__ == "__main__":
    for file in map(Path, sys.argv[1:]):
        file.write_text(filled(file.read_text(encoding="utf-8")), encoding="utf-8")
