"""What to cite for a run: the sources of the parts that it is made of, read off their docstrings."""

import ast
import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaekit import artifact, presets, references, spec
from vaekit.references import Reference


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
    """The objective, of which a run keeps what it prints: `ELBO(num_samples=1, beta=4.0)`."""
    text = str(about.get("objective", ""))
    kind = spec.components("objectives").get(text.partition("(")[0])
    if kind is None:
        return
    try:
        # What has no literal, such as a schedule, prints as <...>: any value that is not the default will do.
        call = ast.parse(re.sub(r"<[^<>]*>", "'...'", text), mode="eval").body
    except SyntaxError:
        call = None
    keywords = call.keywords if isinstance(call, ast.Call) else []
    yield f"objective {kind.__name__}", kind, {word.arg: _literal(word.value) for word in keywords if word.arg}


def _literal(node: ast.expr) -> Any:
    """A plain value, or the text of what is none (a schedule)."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _differs(thing: Any, argument: str, arguments: dict[str, Any]) -> bool:
    return argument in arguments and arguments[argument] != inspect.signature(thing).parameters[argument].default
