"""Fitting a model to data and saving it as a run."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, Unpack

import numpy as np

from vaekit import data, engine, recipes
from vaekit.data import Dataset, StoredDataset
from vaekit.data.by_schema import is_table_file, load_by_schema, refuse_contradictions
from vaekit.data.large_tables import large_table
from vaekit.data.once_here import shared
from vaekit.data.readers.frames import HOLES_AMONG_NUMBERS
from vaekit.data.reading import once
from vaekit.data.schema import Schema
from vaekit.data.sources import Part, set_and_part
from vaekit.engine import world
from vaekit.errors import ConfigError, WordsError
from vaekit.paths import as_text, from_place
from vaekit.runs.changes import column_checksums, in_words, row_digests
from vaekit.runs.described import OfSource, describe_data, digest
from vaekit.runs.divided import Divided, conditioned, divided
from vaekit.runs.division import again
from vaekit.runs.folder import (
    SETTINGS,
    DataAbout,
    Stored,
    claim,
    clear,
    create,
    is_finished,
    merge,
    one_writer,
    read_settings,
    recover,
    set_aside,
    settle,
    stored_json,
)
from vaekit.runs.onward import origin, reader_from, settings_from, start_of
from vaekit.runs.origin import Local
from vaekit.runs.places import as_source, find, locate
from vaekit.runs.starts import has_begun_here, mark_begun
from vaekit.runs.training import prepare, silent, without_oddest
from vaekit.saving import artifact
from vaekit.saving.files import check_place, write_atomically
from vaekit.training import Callback, History
from vaekit.training.checkpoint import FILE_NAME as CHECKPOINT
from vaekit.training.checkpoint import remove_checkpoint


@one_writer
def fit(
    source: str,
    run: str | Path,
    given: Mapping[str, object] | None = None,
    *,
    valid: str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    label: str | None = None,
    key: str | None = None,
    size: tuple[int, int] | int | None = None,
    reading: data.Reading | None = None,
    weight: str | None = None,
    start: str | Path | None = None,
    schema: Schema | None = None,
    model_holes: bool | Literal["self"] = False,
    data_dir: str | Path | None = None,
    called: str | None = None,
    progress: bool = True,
    announce: Callable[[str], object] | None = None,
    callbacks: Sequence[Callback] = (),
) -> History | None:
    """Fit a model to data and save it: what `vaekit fit` does.

    Args:
        source: name or path of the data; of a named set, the training part. The run remembers where a path leads, and
            what the rows were.
        run: folder to write; see `vaekit.saving.artifact` for what it holds.
        given: settings by key; see `recipes.Settings`.
        valid: name or path of validation data; None holds out a fixed tenth.
        overwrite: replace a run that is there; it stays where the new one is refused before its first epoch.
        resume: go on with a run that is there; without a checkpoint from the beginning, a finished one stays as it is.
            What the run remembers (settings, label, key, size, reading, validation data) need not be repeated.
        label: column of a table with labels.
        key: column of a table with the identifiers of the rows.
        size: height and width to which the images of a folder are resized, or one number for both.
        reading: how the file is read; see `data.Reading`. What it leaves open is found out from the file; the run
            remembers both, and reads other files so.
        schema: what the columns of a table are; None finds it out for the file of a table, unless it holds nothing but
            numbers and a transform or another likelihood than `columns` is asked for.
        weight: column of a table that says how much each row counts in the loss, and in the bound that chooses the
            epoch: a row of weight 2 as one that stands twice. The run leaves such a column out of other files. What the
            transform learns, and what the run says of its training rows, counts all rows alike.
        start: folder of a run to go on from: its model, transform, schema and settings, its weights as the first ones,
            and the new rows read as it reads rows. Settings that make the model what it is cannot be changed.
        model_holes: whether the model of a table also describes which cells are empty; "self" where they may be empty
            because of what they hold; see `Schema.with_holes`.
        data_dir: where named sets are looked for first.
        called: what the run remembers of the source instead of it, where that is a copy: "-" is stdin.
        progress: whether to report on stderr.
        announce: called before training with a line that says which likelihood and transform the data got, and what
            log p will be; and with a second where the density has no bound on some columns, which otherwise is a
            warning.
        callbacks: of the trainer, beside its own; of an ensemble, of its first model.

    Returns:
        The history, or None where the run was finished already.

    In a group of processes all of them call this; process 0 alone writes the folder.

    Raises:
        ConfigError: for settings that do not exist or a folder that may not be written.
        BusyError: if another process fits a model into the folder.
        DataError, SupportError, ShapeError, TrainingError, ArtifactError: as the parts raise them.
    """
    folder, source = Path(run), as_source(source)
    is_first = world.rank() == 0
    progress, announce = progress and is_first, announce if is_first else None
    wanted = recipes.settings(given or {})
    stored, is_done, resume, overwrite = _opened(folder, overwrite, resume)
    known = stored.data if stored else DataAbout()
    parent = start_of(start, known, folder)
    if parent is not None:
        if schema is not None or size is not None:
            raise ConfigError(f"schema and size are those of {parent.called}; drop --schema and --size")
        wanted = wanted if stored else settings_from(parent, wanted)
        if announce is not None:
            announce(f"going on from {parent.called}: its settings, schema and transform, and its weights")
    like = known if stored or parent is None else parent.data
    said = label, key
    label, key, size = label or like.label, key or like.key, size or like.size
    data_dir = data_dir or _data_dir(known)
    how = reading or data.Reading()
    how = (how if weight is None else replace(how, weight=weight)).over(known.reading)
    may_code, is_plain = wanted.likelihood in (None, "columns"), wanted.transform is not None
    load = partial(_load, data_dir=data_dir, label=label, key=key, size=size)
    read: Callable[..., Dataset] = partial(load, may_code=may_code, may_be_plain=is_plain, model_holes=model_holes)
    if parent is not None:
        read = _ignoring(reader_from(parent, {"label": said[0], "key": said[1], "data_dir": data_dir, "reading": how}))
    valid_path = _valid_again(valid, known, folder)
    rows = _read(source, valid_path, partial(read, reading=how, schema=schema or known.columns_schema), read, announce)
    if schema is not None and rows.whole.schema is not None:
        refuse_contradictions(rows.whole.schema, rows.whole)
    rows = conditioned(rows, wanted, label, like.context_schema)
    at = locate(called or source, valid_path, folder, data_dir)
    described = _described(rows, called or source, valid or known.valid, at, label=label, key=key, size=size)
    if parent is not None:
        described = described.model_copy(update={"start": origin(parent)})
    if stored:
        _refuse_other_data(folder, known, described, rows.whole)
        wanted = merge(folder, stored, wanted)
    if is_done:
        return None
    begin = partial(prepare, wanted, described=described, start=parent, progress=progress, callbacks=callbacks)
    job = begin(rows, announce=announce)
    try:
        if is_first:
            _begin(folder, job.remembered, overwrite)
        if wanted.trim:
            kept = without_oddest(job.trained(), rows, wanted.trim) or rows
            if announce is not None:
                num = len(rows.train) - len(kept.train)
                announce(f"fitted once; again without the {num:,} oddest of {len(rows.train):,} training rows")
            job = begin(kept, calibrate_on=rows.held_out, announce=silent)
        keep = (lambda metadata: artifact.save(job.model, folder, metadata=metadata)) if is_first else None
        history, _ = job.train(folder, resume, keep)
    finally:
        if is_first:
            settle(folder)
    if is_first:
        remove_checkpoint(folder)
        clear(folder)
    return history


def _opened(folder: Path, overwrite: bool, resume: bool) -> tuple[Stored | None, bool, bool, bool]:
    """What the run remembers, whether it is finished, and whether to go on with it or to replace it.

    Of several processes the first one looks, and tells the others, who may not see the folder. Where a launcher has
    started them anew, they go on with what they have begun.
    """

    def look() -> bytes:
        recover(folder)
        goes_on = has_begun_here(folder)
        replaces, continues = overwrite and not goes_on, resume or goes_on
        claim(folder, overwrite=replaces, resume=continues)
        stored = read_settings(folder) if continues else None
        is_done = continues and is_finished(folder)
        if not is_done:
            create(folder)
            check_place(folder / CHECKPOINT)  # the longest name
        told = None if stored is None else stored.model_dump(mode="json")
        return json.dumps([told, is_done, continues, replaces]).encode()

    told, is_done, continues, replaces = json.loads(world.from_first(look))
    return None if told is None else Stored.model_validate(told), is_done, continues, replaces


def _begin(folder: Path, remembered: Stored, overwrite: bool) -> None:
    """Write what a run is before its first epoch."""
    clear(folder)
    if overwrite:
        set_aside(folder)
    write_atomically(folder / SETTINGS, stored_json(remembered))
    if engine.is_launched():
        mark_begun(folder)


def _ignoring(read: Callable[[str, Part], Dataset]) -> Callable[..., Dataset]:
    """A reader that knows by itself how rows are read."""

    def ignoring(source: str, *, part: Part, **told: object) -> Dataset:
        return read(source, part)

    return ignoring


def _valid_again(valid: str | None, known: DataAbout, folder: Path) -> str | None:
    """The validation data to read: those that were given, or those of the run that is resumed, wherever one is now."""
    if valid is not None or known.valid is None or set_and_part(known.valid) is not None:
        return valid or known.valid
    return find(known, folder, "valid")[0]


def _refuse_other_data(folder: Path, known: DataAbout, described: DataAbout, rows: Dataset) -> None:
    """Refuse to go on with other rows than those that the run began with."""
    differs = in_words(known, rows, again(known, rows))
    pairs = {
        "event_shape": (known.event_shape, described.event_shape),
        "valid_crc32": (known.valid_crc32, described.valid_crc32),
        "weights_crc32": (known.weights_crc32, described.weights_crc32),
    }
    keys = [key for key, (before, now) in pairs.items() if before != now]
    if differs is None and not keys:
        return
    how = differs[0] if differs else f"{', '.join(keys)} differs"
    raise ConfigError(
        f"{as_text(folder)} was fitted to other data: {how}. --resume goes on with the same rows alone: hand over "
        "those, or start anew with --overwrite"
    )


def _data_dir(known: DataAbout) -> str | None:
    here = known.local and known.local.data_dir
    return from_place(here) if here else None


def _read(
    source: str,
    valid: str | None,
    read: Callable[..., Dataset],
    read_valid: Callable[..., Dataset],
    announce: Callable[[str], object] | None,
) -> Divided:
    with once(), shared():
        whole = read(source, part="train")
    if announce is not None and whole.reading.header is False and "header" in whole.reading.guessed:
        announce(
            f"{as_text(source)} has no header: its columns are called f0, f1, ... (--header: its first line is one)"
        )
    if announce is not None and whole.schema is not None:
        announce(_of_schema(source, whole, whole.schema))
    if announce is not None and whole.weights is not None:
        total = f"{whole.weights.sum():,.6g} in all for {len(whole):,} rows"
        announce(f"rows count by column {whole.reading.weight!r}, {total}")
    with shared():
        held_out = None if valid is None else read_valid(valid, part="test", reading=whole.reading, schema=whole.schema)
    return divided(whole, held_out)


def _of_schema(source: str, rows: Dataset, schema: Schema) -> str:
    """What is taken for what, in a line."""
    counts = Counter(column.kind for column in schema.columns)
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    holes = sum(int(np.isnan(block).sum()) for block in rows.blocks())
    observed = f"; {holes:,} cells are empty and count as not observed" if holes else ""
    return f"columns of {as_text(source)}: {kinds} (vaekit schema shows which, and why){observed}"


def _load(
    source: str,
    *,
    part: Part,
    data_dir: str | Path | None,
    label: str | None,
    key: str | None,
    size: tuple[int, int] | int | None,
    reading: data.Reading,
    schema: Schema | None,
    may_code: bool,
    may_be_plain: bool,
    model_holes: bool | Literal["self"],
) -> Dataset:
    """The rows of a source; those of a file of a table by a schema, unless its numbers are to stay as they are."""
    by_schema = partial(load_by_schema, source, schema, label=label, key=key, reading=reading, model_holes=model_holes)
    if schema is not None:
        return by_schema()
    may_code = may_code and set_and_part(source) is None and is_table_file(source)
    if may_code and not may_be_plain and large_table(source) is not None:
        return by_schema()
    try:
        rows = data.load(source, part=part, data_dir=data_dir, label=label, key=key, size=size, reading=reading)
    except WordsError as error:
        # A word among numbers is a hole or a slip of the pen; as a column of words it would be lost.
        if not may_code or error.mark not in (None, *HOLES_AMONG_NUMBERS):
            raise
        return by_schema()
    if not may_code or isinstance(rows, StoredDataset) or len(rows) < 2:
        return rows
    if may_be_plain and not any(np.isnan(block).any() for block in rows.blocks()):
        return rows
    coded = by_schema()
    assert coded.schema is not None
    # Columns of vectors have no kind; all else that was read as numbers has one.
    return rows if any(column.kind == "text" for column in coded.schema.columns) else coded


def _described(rows: Divided, place: str, chosen_by: str | None, at: Local, **asked: Unpack[OfSource]) -> DataAbout:
    """What the run remembers of its data, and of what was asked for."""
    sums = {
        "column_crc32": column_checksums(rows.whole),
        "row_digests": None if set_and_part(place) else row_digests(rows.whole),
    }
    asked["source"], asked["local"] = as_text(place), at.model_copy(update=sums)
    if rows.rule is None and chosen_by is not None:
        asked["valid"], asked["valid_crc32"] = as_text(chosen_by), digest(rows.held_out)
    else:
        asked["held_out"] = rows.rule
    return describe_data(rows.whole, **asked)
