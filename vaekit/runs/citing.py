"""What to cite for a run: the sources of the parts that it is made of, read off their docstrings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaekit import presets, references
from vaekit.references import Reference
from vaekit.saving import artifact, spec


@dataclass(frozen=True)
class Citation:
    """A source, and the parts of a run that it describes."""

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
    found: dict[str, Citation] = {}
    for part, thing, arguments in [*_preset(config.metadata), *_parts(config.model), *_objective(config.metadata)]:
        for reference in references.of(thing):
            if reference.argument is not None and not _differs(thing, reference.argument, arguments):
                continue
            before = found.get(reference.url, Citation(reference, ()))
            if part not in before.used_for:
                found[reference.url] = Citation(before.reference, (*before.used_for, part))
    return list(found.values())


def bibtex(citations: Sequence[Citation]) -> str:
    """Citations as BibTeX, each under a comment that says what it was used for."""
    comments = [", ".join(citation.used_for) for citation in citations]
    return references.bibtex([citation.reference for citation in citations], comments)


_Part = tuple[str, Any, dict[str, Any]]


def _preset(about: dict[str, Any]) -> Iterator[_Part]:
    name = about.get("settings", {}).get("preset")
    for known, function in presets.available().items():
        if name is not None and spec.normalized(known) == spec.normalized(name):
            yield f"preset {known}", function, {}


def _parts(tree: Any) -> Iterator[_Part]:
    """Every component in a description, from the model inwards."""
    if isinstance(tree, list):
        for item in tree:
            yield from _parts(item)
    elif isinstance(tree, dict) and "component" in tree:
        axis, _, name = tree["component"].rpartition(".")
        yield f"{axis.removesuffix('s') or 'model'} {name}", spec.constructor(tree["component"]), tree["arguments"]
        for value in tree["arguments"].values():
            yield from _parts(value)


def _objective(about: dict[str, Any]) -> Iterator[_Part]:
    """The objective: a description, or in older runs text such as `ELBO(beta=4.0)`, of which only the name is read."""
    objective = about.get("objective")
    if isinstance(objective, dict):
        yield from _parts(objective)
    kind = spec.components("objectives").get(str(objective).partition("(")[0])
    if kind is not None:
        yield f"objective {kind.__name__}", kind, {}


def _differs(thing: Any, argument: str, arguments: dict[str, Any]) -> bool:
    return argument in arguments and arguments[argument] != spec.parameters(thing)[argument]
