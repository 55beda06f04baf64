"""Fitting a model to data and saving it as a run."""

import json
import warnings
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from vaekit import data, engine, recipes
from vaekit.columns import RowsAbout
from vaekit.data.cells import naming_cells, refuse_infinite
from vaekit.errors import DataError, TrainingError
from vaekit.evaluation.results import with_article
from vaekit.models.view import View
from vaekit.runs.division import held_out_rule
from vaekit.runs.folder import (
    SETTINGS,
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
)
from vaekit.runs.training_rows import TRAINING_ROWS, about_density, describe_rows, with_log_p
from vaekit.saving import artifact, spec
from vaekit.saving.files import write_atomically
from vaekit.training import History
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
    size: int | None = None,
    reading: data.Reading | None = None,
    data_dir: str | Path | None = None,
    progress: bool = True,
    announce: Callable[[str], object] | None = None,
) -> History | None:
    """Fit a model to data and save it: what `vaekit fit` does.

    Args:
        source: name or path of the data; of a named set, the training part.
        run: folder to write; see `vaekit.saving.artifact` for what it holds.
        given: settings by key; see `recipes.Settings`.
        valid: name or path of validation data; None holds out a fixed tenth.
        overwrite: replace a run that is there; it stays where the new one is refused before its first epoch.
        resume: go on with a run that is there; without a checkpoint from the beginning, a finished one stays as it is.
            What the run remembers (settings, label, key, size, reading, validation data) need not be repeated.
        label: column of a table with labels.
        key: column of a table with the identifiers of the rows.
        size: side to which the images of a folder are resized.
        reading: how the file is read; see `data.Reading`. What it leaves open is found out from the file; the run
            remembers both, and reads other files so.
        data_dir: where named sets are looked for first.
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
    folder = Path(run)
    wanted = recipes.settings(given or {})
    recover(folder)
    claim(folder, overwrite=overwrite, resume=resume)
    stored = read_settings(folder) if resume else None
    if stored:
        known = stored.data
        valid, label, key, size = valid or known.valid, label or known.label, key or known.key, size or known.size
        reading = (reading or data.Reading()).over(known.reading)
    read = partial(data.load, data_dir=data_dir, label=label, key=key, size=size)
    dataset = read(source, part="train", reading=reading)
    if announce is not None and dataset.reading.header is False and "header" in dataset.reading.guessed:
        announce(f"{source} has no header: its columns are called f0, f1, ... (--header: its first line is one)")
    refuse_infinite(dataset)
    if valid is None:
        if len(dataset) < 2:
            raise DataError(
                f"Fitting needs at least two rows, one of them to validate on; {source} has {len(dataset)}."
            )
        rule = held_out_rule(len(dataset))
        train, held_out = data.holdout(dataset, rule.fraction, rule.seed)
        parts: dict[str, Any] = {"held_out": rule}
    else:
        train, held_out = dataset, read(valid, part="test", reading=dataset.reading)
        refuse_infinite(held_out)
        parts = {"valid": valid, "valid_crc32": digest(held_out)}
    described = describe_data(dataset, source, label=label, key=key, size=size, **parts)
    if stored:
        wanted = merge(folder, stored, wanted, described)
    if resume and is_finished(folder):
        return None
    data.warn_constant_columns(dataset)
    plan = recipes.plan(wanted, train, progress=progress)
    engine.resolve_device(wanted.device)
    with naming_cells(dataset, is_whole=True):
        seen = View.of(plan.model, train, where="train")
    with naming_cells(dataset if valid is None else held_out, is_whole=True):
        views = seen, seen.beside(held_out, "valid")
    if announce is not None:
        announce(_choices(plan, seen))
    rows = describe_rows(train)
    unbounded = about_density(rows, seen)
    if unbounded is not None:
        (announce or partial(warnings.warn, stacklevel=2))(unbounded)
    create(folder)
    clear(folder)
    remembered = {"settings": wanted.model_dump(exclude_none=True), "data": described.model_dump()}
    try:
        if overwrite:
            set_aside(folder)
        write_atomically(folder / SETTINGS, (json.dumps(remembered, indent=2) + "\n").encode())
        history = _trained(plan, views, folder, resume, remembered, rows)
    finally:
        settle(folder)
    remove_checkpoint(folder)
    return history


def _of_bits(step: Binarize) -> str:
    if step.mode == "threshold":
        return f"say which values are above {step.threshold:g}"
    return "are drawn from the values"


def _choices(plan: recipes.Plan, view: View) -> str:
    """Likelihood, transform, and what log p will be, in a line."""
    steps = steps_of(view.transform)
    names = ", then ".join(type(step).__name__ for step in steps) or "none"
    words = f"likelihood {type(told(ModelTraits, plan.model).decoder.head).__name__}; transform of the data: {names}"
    bits = "".join(f"; bits {_of_bits(step)}" for step in steps if isinstance(step, Binarize))
    return f"{words}{bits}; log p(x) will be {with_article(view.quantity)}"


def _trained(
    plan: recipes.Plan,
    views: tuple[View, View],
    folder: Path,
    resume: bool,
    remembered: dict[str, Any],
    rows: RowsAbout,
) -> History:
    """Train and save the model; also where training ended early, as long as there is something to save."""
    model, objective, trainer = plan.model, plan.objective, plan.trainer
    about = {**remembered, "finished": False, "max_epochs": trainer.max_epochs}
    about |= {"objective": spec.describe(objective, "objective")}
    about |= {TRAINING_ROWS: asdict(rows)}
    try:
        history = trainer.fit(model, objective, *views, run=folder, resume=resume)
    except (KeyboardInterrupt, SystemExit, TrainingError):
        artifact.save(model, folder, metadata=about)
        raise
    about |= {"finished": True, "epochs": len(history), "best_epoch": history.best_epoch}
    about |= {"stopped_early": history.stopped_early, "seconds": sum(history["seconds"])}
    about |= {"computed": history.engine, TRAINING_ROWS: asdict(with_log_p(rows, views[0]))}
    artifact.save(model, folder, metadata=about)
    return history
