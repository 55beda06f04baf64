"""Fitting a model to data and saving it as a run."""

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vaekit import data, engine, recipes
from vaekit.columns import RowsAbout
from vaekit.data import Dataset, StoredDataset
from vaekit.data.by_schema import is_table_file, load_by_schema
from vaekit.data.cells import naming_cells, refuse_infinite
from vaekit.data.readers.frames import HOLES_AMONG_NUMBERS
from vaekit.data.schema import Schema
from vaekit.data.sources import set_and_part
from vaekit.errors import ConfigError, DataError, TrainingError, WordsError
from vaekit.evaluation.results import with_article
from vaekit.models.view import View
from vaekit.paths import as_text, from_place
from vaekit.runs.changes import column_checksums, in_words, row_digests
from vaekit.runs.division import again, held_out_rule
from vaekit.runs.folder import (
    SETTINGS,
    DataAbout,
    HeldOut,
    Local,
    Stored,
    claim,
    clear,
    create,
    describe_data,
    digest,
    is_finished,
    merge,
    one_writer,
    read_settings,
    recover,
    set_aside,
    settle,
    stored_json,
)
from vaekit.runs.places import as_source, find, locate, travelling
from vaekit.runs.training_rows import TRAINING_ROWS, about_density, describe_rows, with_log_p
from vaekit.saving import artifact, spec
from vaekit.saving.files import check_place, write_atomically
from vaekit.training import History
from vaekit.training.checkpoint import FILE_NAME as CHECKPOINT
from vaekit.training.checkpoint import remove_checkpoint
from vaekit.traits import ModelTraits, told
from vaekit.transforms import Binarize
from vaekit.transforms.base import steps_of


@one_writer
def fit(
    source: str,
    run: str | Path,
    given: dict[str, Any] | None = None,
    *,
    valid: str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    label: str | None = None,
    key: str | None = None,
    size: tuple[int, int] | int | None = None,
    reading: data.Reading | None = None,
    schema: Schema | None = None,
    data_dir: str | Path | None = None,
    called: str | None = None,
    progress: bool = True,
    announce: Callable[[str], object] | None = None,
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
        data_dir: where named sets are looked for first.
        called: what the run remembers of the source instead of it, where that is a copy: "-" is stdin.
        progress: whether to report on stderr.
        announce: called before training with a line that says which likelihood and transform the data got, and what
            log p will be; and with a second where the density has no bound on some columns, which otherwise is a
            warning.

    Returns:
        The history, or None where the run was finished already.

    Raises:
        ConfigError: for settings that do not exist or a folder that may not be written.
        BusyError: if another process fits a model into the folder.
        DataError, SupportError, ShapeError, TrainingError, ArtifactError: as the parts raise them.
    """
    folder, source = Path(run), as_source(source)
    wanted = recipes.settings(given or {})
    recover(folder)
    claim(folder, overwrite=overwrite, resume=resume)
    stored = read_settings(folder) if resume else None
    is_done = resume and is_finished(folder)
    if not is_done:
        create(folder)
        check_place(folder / CHECKPOINT)  # the longest name
    known = stored.data if stored else DataAbout()
    asked: dict[str, Any] = {"label": label or known.label, "key": key or known.key, "size": size or known.size}
    data_dir = data_dir or _data_dir(known)
    how = (reading or data.Reading()).over(known.reading)
    may_code = wanted.likelihood in (None, "columns")
    is_plain = wanted.transform is not None
    read = partial(_load, data_dir=data_dir, may_code=may_code, may_be_plain=is_plain, **asked)
    valid_path = _valid_again(valid, known, folder)
    rows = _read(source, valid_path, partial(read, reading=how, schema=schema or known.columns_schema), read, announce)
    at = locate(called or source, valid_path, folder, data_dir)
    described = _described(rows, called or source, valid or known.valid, at, asked)
    if stored:
        _refuse_other_data(folder, known, described, rows.whole)
        wanted = merge(folder, stored, wanted)
    if is_done:
        return None
    data.warn_constant_columns(rows.whole)
    plan = recipes.plan(wanted, rows.train, progress=progress)
    engine.resolve_device(wanted.device)
    with naming_cells(rows.whole, is_whole=True):
        seen = View.of(plan.model, rows.train, where="train")
    with naming_cells(rows.whole if rows.rule else rows.held_out, is_whole=True):
        views = seen, seen.beside(rows.held_out, "valid")
    if announce is not None:
        announce(_choices(plan, seen, wanted.preset))
    about = describe_rows(rows.train)
    unbounded = about_density(about, seen)
    if unbounded is not None:
        (announce or partial(warnings.warn, stacklevel=2))(unbounded)
    trainer = {name: getattr(plan.trainer, name) for name in ("batch_size", "learning_rate")}
    chosen = {"preset": plan.preset} | trainer | wanted.model_dump(exclude_none=True)
    remembered = Stored(settings=chosen, data=described)
    metadata = _metadata(plan, remembered, about) | {"quantity": seen.quantity}
    artifact.check(plan.model, metadata)
    clear(folder)
    try:
        if overwrite:
            set_aside(folder)
        write_atomically(folder / SETTINGS, stored_json(remembered))
        history = _trained(plan, views, folder, resume, metadata, about)
    finally:
        settle(folder)
    remove_checkpoint(folder)
    return history


@dataclass(frozen=True, eq=False)
class _Rows:
    """What a model is fitted to: rows to train on, rows to validate on, and the rule that divided the whole, if any."""

    whole: Dataset
    train: Dataset
    held_out: Dataset
    rule: HeldOut | None


def _valid_again(valid: str | None, known: DataAbout, folder: Path) -> str | None:
    """The validation data to read: those that were given, or those of the run that is resumed, wherever one is now."""
    if valid is not None or known.valid is None or set_and_part(known.valid) is not None:
        return valid or known.valid
    return find(known, folder, "valid")[0]


def _refuse_other_data(folder: Path, known: DataAbout, described: DataAbout, rows: Dataset) -> None:
    """Refuse to go on with other rows than those that the run began with."""
    differs = in_words(known, rows, again(known, rows))
    keys = [key for key in ("event_shape", "valid_crc32") if getattr(known, key) != getattr(described, key)]
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
) -> _Rows:
    whole = read(source, part="train")
    if announce is not None and whole.reading.header is False and "header" in whole.reading.guessed:
        announce(
            f"{as_text(source)} has no header: its columns are called f0, f1, ... (--header: its first line is one)"
        )
    if announce is not None and whole.schema is not None:
        announce(_of_schema(source, whole, whole.schema))
    refuse_infinite(whole)
    if valid is not None:
        held_out = read_valid(valid, part="test", reading=whole.reading, schema=whole.schema)
        refuse_infinite(held_out)
        return _Rows(whole, whole, held_out, None)
    if len(whole) < 2:
        raise DataError(
            f"Fitting needs at least two rows, one of them to validate on; {as_text(source)} has {len(whole)}."
        )
    rule = held_out_rule(len(whole))
    return _Rows(whole, *data.holdout(whole, rule.fraction, rule.seed), rule)


def _of_schema(source: str, rows: Dataset, schema: Schema) -> str:
    """What is taken for what, in a line."""
    counts = Counter(column.kind for column in schema.columns)
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    holes = sum(int(np.isnan(block).sum()) for block in rows.blocks())
    observed = f"; {holes:,} cells are empty and count as not observed" if holes else ""
    return f"columns of {as_text(source)}: {kinds} (vaekit schema shows which, and why){observed}"


def _load(source: str, *, schema: Schema | None, may_code: bool, may_be_plain: bool, **options: Any) -> Dataset:
    """The rows of a source; those of a file of a table by a schema, unless its numbers are to stay as they are."""
    by_schema = partial(load_by_schema, source, schema, **{name: options[name] for name in ("label", "key", "reading")})
    if schema is not None:
        return by_schema()
    may_code = may_code and is_table_file(source)
    try:
        rows = data.load(source, **options)
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


def _described(rows: _Rows, source: str, valid: str | None, at: Local, asked: dict[str, Any]) -> DataAbout:
    """What the run remembers of its data."""
    sums: dict[str, Any] = {"column_crc32": column_checksums(rows.whole)}
    sums["row_digests"] = None if set_and_part(source) else row_digests(rows.whole)
    parts: dict[str, Any] = {"held_out": rows.rule}
    if rows.rule is None and valid is not None:
        parts = {"valid": as_text(valid), "valid_crc32": digest(rows.held_out)}
    return describe_data(rows.whole, source=as_text(source), local=at.model_copy(update=sums), **parts, **asked)


def _of_bits(step: Binarize) -> str:
    if step.mode == "threshold":
        return f"say which values are above {step.threshold:g}"
    return "are drawn from the values"


def _choices(plan: recipes.Plan, view: View, asked: str | None) -> str:
    """A line: the preset where the data chose it, likelihood, transform, and what log p will be."""
    steps = steps_of(view.transform)
    names = ", then ".join(type(step).__name__ for step in steps) or "none"
    head = type(told(ModelTraits, plan.model).decoder.head).__name__
    preset = "" if asked is not None or plan.preset == "vae" else f"preset {plan.preset}; "
    words = f"{preset}likelihood {head}; transform of the data: {names}"
    bits = "".join(f"; bits {_of_bits(step)}" for step in steps if isinstance(step, Binarize))
    return f"{words}{bits}; log p(x) will be {with_article(view.quantity)}"


def _metadata(plan: recipes.Plan, remembered: Stored, rows: RowsAbout) -> dict[str, Any]:
    """What `config.json` holds besides the model: nothing of where on this machine the data lie."""
    about: dict[str, Any] = {"settings": remembered.settings, "data": travelling(remembered.data)}
    about |= {"finished": False, "max_epochs": plan.trainer.max_epochs}
    about |= {"objective": spec.describe(plan.objective, "objective")}
    return about | {TRAINING_ROWS: asdict(rows)}


def _trained(
    plan: recipes.Plan,
    views: tuple[View, View],
    folder: Path,
    resume: bool,
    about: dict[str, Any],
    rows: RowsAbout,
) -> History:
    """Train and save the model; also where training ended early, as long as there is something to save."""
    model, objective, trainer = plan.model, plan.objective, plan.trainer
    try:
        history = trainer.fit(model, objective, *views, run=folder, resume=resume)
    except (KeyboardInterrupt, SystemExit, TrainingError):
        artifact.save(model, folder, metadata=about)
        raise
    about |= {"finished": True, "epochs": len(history), "best_epoch": history.best_epoch}
    about |= {"stopped_early": history.stopped_early, "seconds": sum(history["seconds"])}
    about |= {"computed": history.engine}
    try:
        about |= {TRAINING_ROWS: asdict(with_log_p(rows, views[0]))}
    finally:  # an interrupt costs no model
        artifact.save(model, folder, metadata=about)
    return history
