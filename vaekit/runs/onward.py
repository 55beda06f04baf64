"""Going on from a fitted run with new rows: what of it stays, and what may be told anew."""

from collections.abc import Callable
from pathlib import Path

from vaekit.data import Dataset, Reading
from vaekit.data.sources import Part
from vaekit.errors import ColumnError, ConfigError
from vaekit.paths import as_text, from_place, to_place
from vaekit.recipes import STRUCTURE, Settings
from vaekit.runs.folder import DataAbout
from vaekit.runs.origin import Origin
from vaekit.runs.rows import HowRead
from vaekit.runs.run import Run
from vaekit.runs.run import open as open_run


def origin(start: Run) -> Origin:
    """What a run remembers of the one that it goes on from; of its place `settings.json` alone."""
    place = None if start.folder is None else to_place(str(start.folder.resolve()))
    name = "" if start.folder is None else as_text(start.folder.resolve().name)
    return Origin(name=name, weights_sha256=start.config.weights_sha256, place=place)


def start_of(given: str | Path | None, known: DataAbout, folder: Path) -> Run | None:
    """The run to go on from: the one that is given, or the one that a run which is resumed began with.

    Args:
        given: a folder, or None.
        known: what the run that is resumed remembers; empty where none is.
        folder: the folder of the new run.

    Raises:
        ConfigError: if the run would overwrite its own beginning, or began with another one.
        ArtifactError: if there is no such run, or it has changed.
    """
    began = known.start
    if given is None and began is not None and began.place is not None:
        given = from_place(began.place)
    if given is None:
        return None
    if Path(given).resolve() == folder.resolve():
        raise ConfigError(f"--from {as_text(given)} is the folder to write; name another one for the new run")
    start = open_run(given)
    if known.crc32 is not None and (began is None or began.weights_sha256 != start.config.weights_sha256):
        raise ConfigError(f"{as_text(folder)} did not begin with the weights of {as_text(given)}; start it anew")
    if start.settings is None:
        raise ConfigError(f"{as_text(given)} was not fitted by vaekit fit: it has no settings to go on with")
    return start


def settings_from(start: Run, wanted: Settings) -> Settings:
    """The settings of a run, with those that were told anew.

    Raises:
        ConfigError: if one of these belongs to the structure of the model, and differs.
    """
    own = start.settings
    assert own is not None
    told, before = wanted.model_dump(exclude_unset=True), own.model_dump()
    refused = [key for key in told if key in STRUCTURE and told[key] != before[key]]
    if refused:
        free = ", ".join(sorted(set(Settings.model_fields) - STRUCTURE))
        raise ConfigError(
            f"the model of {start.called} stays as it is, and {' and '.join(refused)} would change it; to go on, "
            f"these may be changed: {free}. Drop {' and '.join(refused)}, or fit anew without --from"
        )
    return own.model_copy(update=told)


def reader_from(start: Run, named: HowRead) -> Callable[[str, Part], Dataset]:
    """What reads rows as a run reads them, and lets them count as its training rows did, where they have weights.

    Args:
        start: the run.
        named: keywords of `Run.rows`; a weight in `reading` has to be a column.
    """
    asked = named.get("reading") or Reading()

    def read(source: str, part: Part) -> Dataset:
        known = start.data.reading.weight
        if asked.weight is not None or known is None:
            return start.rows(source, part, **named)
        try:
            weighed: HowRead = {**named, "reading": Reading(weight=known).over(asked)}
            return start.rows(source, part, **weighed)
        except ColumnError as error:
            if error.option != "weight":
                raise
        return start.rows(source, part, **named)

    return read
