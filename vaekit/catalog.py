"""What there is, with a line each and where it comes from, and what a run is made of, with what to cite for it."""

import re
import string
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaekit import docstrings, presets
from vaekit.docstrings import Reference
from vaekit.errors import ConfigError
from vaekit.saving import artifact, spec

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


def describe(thing: object) -> Entry:
    """The entry of a class or a function, read off its docstring."""
    about = (docstrings.summary(thing), docstrings.advice(thing))
    for first in docstrings.references(thing)[:1]:
        return Entry(*about, first.year, f"{first.authors}, {first.title}", first.url)
    return Entry(*about)


def entries(kind: str | None = None) -> dict[str, dict[str, Entry]]:
    """Kind to name to entry.

    Args:
        kind: "preset", "likelihood", ...; None is all of them.

    Raises:
        ConfigError: if there is no such kind.
    """
    from vaekit import data, plots, recipes  # not at the top: whoever cites a run does without matplotlib

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


@dataclass(frozen=True)
class Citation:
    """A source, and the parts of a run that it describes."""

    key: str
    """Of BibTeX; citations that are listed together have different keys."""
    reference: Reference
    used_for: tuple[str, ...]


def cite(run: str | Path) -> list[Citation]:
    """The sources of a run's preset, model, components and objective, each once.

    A source that belongs to one argument of a component is left out where that argument has its default value.

    Args:
        run: the folder of a run, or of any model saved by `vk.save`, which knows of its model alone.

    Raises:
        ArtifactError: if it is none, or was saved by a newer vaekit.
    """
    config = artifact.read_config(run)
    return cited([*_preset(config.metadata), *_parts(config.model), *_objective(config.metadata)])


Part = tuple[str, Callable[..., object], Mapping[str, object]]
"""What a part is called, its class or function, and the arguments that it was given."""


def cited(parts: Iterable[Part]) -> list[Citation]:
    """The sources of parts, each once: sources of one key get the suffixes b, c, ... behind it."""
    found: dict[str, tuple[Reference, dict[str, None]]] = {}
    for part, thing, arguments in parts:
        for reference in docstrings.references(thing):
            if reference.argument is None or _differs(thing, reference.argument, arguments):
                found.setdefault(reference.url, (reference, {}))[1][part] = None
    citations: dict[str, Citation] = {}
    for reference, used_for in found.values():
        free = (reference.key + suffix for suffix in ("", *string.ascii_lowercase[1:]))
        key = next(key for key in free if key not in citations)
        citations[key] = Citation(key, reference, tuple(used_for))
    return list(citations.values())


def _preset(about: Mapping[str, Any]) -> Iterator[Part]:
    name = spec.normalized(about.get("settings", {}).get("preset") or "")
    for known, function in presets.available().items():
        if spec.normalized(known) == name:
            yield f"preset {known}", function, {}


def _parts(tree: object) -> Iterator[Part]:
    """Every component in a description, from the model inwards."""
    if isinstance(tree, list):
        for item in tree:
            yield from _parts(item)
    elif isinstance(tree, dict) and "component" in tree:
        axis, _, name = tree["component"].rpartition(".")
        yield f"{axis.removesuffix('s') or 'model'} {name}", spec.constructor(tree["component"]), tree["arguments"]
        for value in tree["arguments"].values():
            yield from _parts(value)


def _objective(about: Mapping[str, Any]) -> Iterator[Part]:
    """The objective: a description, or in older runs text such as `ELBO(beta=4.0)`, of which only the name is read."""
    objective = about.get("objective")
    yield from _parts(objective)
    kind = spec.components("objectives").get(str(objective).partition("(")[0])
    if kind is not None:
        yield f"objective {kind.__name__}", kind, {}


def _differs(thing: Callable[..., object], argument: str, arguments: Mapping[str, object]) -> bool:
    return argument in arguments and arguments[argument] != spec.parameters(thing)[argument]


def bibtex(citations: Sequence[Citation]) -> str:
    """Citations as BibTeX, each under a comment that says what it was used for.

    Example:
        >>> from vaekit import objectives
        >>> print(bibtex(cited([("objective IWAE", objectives.IWAE, {})])))
        % objective IWAE
        @misc{burda2016importance,
          author = {Burda and others},
          title = {{Importance weighted autoencoders}},
          year = {2016},
          url = {https://arxiv.org/abs/1509.00519},
        }
    """
    entries = []
    for citation in citations:
        source = citation.reference
        title = re.sub(r"([&%#_])", r"\\\1", source.title)
        fields = {"author": source.author, "title": f"{{{title}}}", "year": source.year, "url": source.url}
        body = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
        entries.append(f"% {', '.join(citation.used_for)}\n@misc{{{citation.key},\n{body}}}")
    return "\n\n".join(entries)


if __name__ == "__main__":
    for file in map(Path, sys.argv[1:]):
        file.write_text(filled(file.read_text(encoding="utf-8")), encoding="utf-8")
