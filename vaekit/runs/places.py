"""Where the data of a run lie: told apart from the description of the data, for it holds on one machine alone."""

import glob
import os
from pathlib import Path
from typing import Any, Literal

from vaekit import paths
from vaekit.data.readers.arrays import member_of
from vaekit.data.readers.parts import is_pattern
from vaekit.data.sources import set_and_part
from vaekit.errors import ConfigError, DataError
from vaekit.runs.folder import DataAbout
from vaekit.runs.origin import Local

STDIN = "-"
"""What data are called that came from stdin: nobody can read them again."""


def absolute(source: str) -> str | None:
    """The path that a source names, whatever the current folder will be; None for a named set and for stdin.

    Example:
        >>> absolute("/data/../data/x.csv"), absolute("digits:test")
        ('/data/x.csv', None)
    """
    if source == STDIN or set_and_part(source) is not None:
        return None
    return os.path.abspath(os.path.expanduser(source))


def locate(source: str, valid: str | None, folder: Path, data_dir: str | Path | None) -> Local:
    """Where the data of a fit lie.

    Args:
        source: the data, as they were given.
        valid: the validation data, likewise, or None.
        folder: that of the run.
        data_dir: where named sets were looked for first.
    """
    own, other = absolute(source), None if valid is None else absolute(valid)
    beside = [None if path is None else paths.to_place(_from_folder(path, folder)) for path in (own, other)]
    return Local(
        place=None if own is None else paths.to_place(own),
        beside=beside[0],
        valid_place=None if other is None else paths.to_place(other),
        valid_beside=beside[1],
        data_dir=None if data_dir is None else paths.to_place(os.path.abspath(os.path.expanduser(data_dir))),
    )


def _from_folder(path: str, folder: Path) -> str:
    try:
        return os.path.relpath(path, os.path.abspath(folder))
    except ValueError:  # another drive
        return path


def as_source(source: str | Path) -> str:
    """A source as text; a path that would be the name of a set is marked as one.

    Example:
        >>> as_source("digits"), as_source(Path("digits")), as_source(Path("x.csv"))
        ('digits', './digits', 'x.csv')
    """
    text = str(source)
    return os.path.join(".", text) if isinstance(source, Path) and set_and_part(text) else text


def travelling(about: DataAbout) -> dict[str, Any]:
    """The description as it goes along with a model: it tells nothing of the machine of the fit."""
    given: dict[str, object] = {"source": _without_place(about.source), "valid": _without_place(about.valid)}
    if about.start is not None:
        given["start"] = about.start.model_copy(update={"place": None})
    return about.model_copy(update=given).model_dump(exclude={"local"})


def _without_place(source: str | None) -> str | None:
    """Of an absolute path the name of the file alone."""
    if source is None or not os.path.isabs(source):
        return source
    name = os.path.basename(source.rstrip("/\\")) or "data"
    return f"./{name}" if set_and_part(name) else name


def find(about: DataAbout, folder: Path, which: Literal["source", "valid"] = "source") -> tuple[str, bool]:
    """The path of the data of a run, or of its validation data, on this machine and in this current folder.

    Looked for where they were; else at the same place as seen from the folder of the run, which moves along with its
    data; else in the current folder under the name that was given.

    Args:
        about: what the run remembers; the data are no named set.
        folder: that of the run.
        which: the data, or the validation data.

    Returns:
        The path, and whether it is a place of the run. Data of that name in the current folder may be others, and
        have to be compared.

    Raises:
        ConfigError: if there is nothing to look for: a model that was only saved, or data from stdin.
        DataError: if the data are at none of the places.
    """
    given = about.source if which == "source" else about.valid
    told = paths.as_text(folder)
    if given is None:
        raise ConfigError(f"{told} does not say what it was fitted to; name the data")
    if given == STDIN:
        raise ConfigError(f"{told} was fitted to rows from stdin, which cannot be read again; name the data")
    here = about.local or Local()
    place, beside = (here.place, here.beside) if which == "source" else (here.valid_place, here.valid_beside)
    if place is None:  # a run of an older version, or one without its `settings.json`
        return given, os.path.isabs(given) or about.crc32 is None
    path = paths.from_place(place)
    near = os.path.normpath(os.path.join(os.path.abspath(folder), paths.from_place(beside or place)))
    for found in (path, near):
        if _exists(found):
            return found, True
    if not os.path.isabs(given) and _exists(given):
        return given, False
    nor = f", nor at {paths.as_text(near)}" if near != path else ""
    what, how = ("data", "DATA, behind RUN") if which == "source" else ("validation data", "DATA, or --valid of fit")
    raise DataError(
        f"The {what} that {told} was fitted to are not at {paths.as_text(path)} any more{nor}. Name the place where "
        f"they are now ({how}), or other data."
    )


def is_own(about: DataAbout, folder: Path, path: str | Path) -> bool:
    """Whether a path is where the data of a run lie or, as far as it is known, lay."""
    here = about.local or Local()
    own = [paths.from_place(place) for place in (here.place,) if place is not None]
    if not own and about.source is not None and (old := absolute(about.source)) is not None:
        own = [old]
    if here.beside is not None:
        own.append(os.path.normpath(os.path.join(os.path.abspath(folder), paths.from_place(here.beside))))
    return any(is_same(place, path) for place in own)


def is_same(path: str | Path, other: str | Path) -> bool:
    """Whether two paths lead to one file or folder, whatever member of an archive they name."""
    first, second = (os.path.realpath(_file(os.path.expanduser(str(path)))) for path in (path, other))
    return first == second


def _file(path: str) -> str:
    """The path without the member of an archive."""
    found = member_of(path)
    return path if found is None else str(found[0])


def _exists(path: str) -> bool:
    return os.path.exists(_file(path)) or (is_pattern(path) and bool(glob.glob(path, recursive=True)))
