"""From rows and settings to a fitted run, in memory: what `vaekit fit` does between reading data and writing files."""

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from vaekit import data, engine, presets, recipes
from vaekit.columns import RowsAbout
from vaekit.conditional import Conditional
from vaekit.data import Dataset
from vaekit.data.cells import naming_cells
from vaekit.engine import world
from vaekit.errors import TrainingError
from vaekit.evaluation.results import with_article
from vaekit.models.base import GenerativeModel
from vaekit.models.ensemble import Ensemble
from vaekit.models.view import View
from vaekit.recipes import Settings
from vaekit.recipes.contexts import labelled_oftener
from vaekit.runs.calibration import CALIBRATION, calibrated, marks_of, without_nan
from vaekit.runs.classes import about_classes
from vaekit.runs.described import describe_data
from vaekit.runs.detection import calibration_for, draws_for
from vaekit.runs.divided import Divided, conditioned, divided
from vaekit.runs.folder import DataAbout, HeldOut, Stored
from vaekit.runs.places import travelling
from vaekit.runs.run import Run
from vaekit.runs.training_rows import TRAINING_ROWS, about_density, describe_rows, with_log_p
from vaekit.saving import artifact, spec
from vaekit.training import Callback, History
from vaekit.training.checkpoint import has_checkpoint
from vaekit.traits import ModelTraits, told
from vaekit.transforms import Binarize
from vaekit.transforms.base import steps_of

Announce = Callable[[str], object] | None


@dataclass(frozen=True, eq=False)
class Job:
    """A model that has met its rows, before the first epoch.

    Attributes:
        plan: model, objective and trainer.
        views: of the rows to train on and of the held-out rows.
        remembered: settings and data, as `settings.json` holds them.
        metadata: what `config.json` will hold besides the model.
        about: what the training rows are like.
        calibration: a view of the rows on which log p is calibrated.
        marks: elements of a row that say which cells are empty.
        others: plan and views of the other models of an ensemble, each of which is trained for itself.
    """

    plan: recipes.Plan
    views: tuple[View, View]
    remembered: Stored
    metadata: dict[str, object]
    about: RowsAbout
    calibration: View
    marks: tuple[int, ...] = ()
    others: tuple[tuple[recipes.Plan, tuple[View, View]], ...] = ()

    @property
    def model(self) -> GenerativeModel:
        """What is fitted: the model of the plan, or the ensemble of several."""
        others = [plan.model for plan, _ in self.others]
        return Ensemble([self.plan.model, *others]) if others else self.plan.model

    @property
    def has_classes(self) -> bool:
        """Whether the model is one given a single label, which held-out rows have."""
        schema = self.remembered.data.context_schema
        return schema is not None and len(schema.modelled) == 1 and self.views[1].context is not None

    @property
    def learns_unlabelled(self) -> bool:
        """Whether the model learns from rows without a label, and some of the rows have none."""
        context = self.views[0].context
        return presets.find(self.plan.preset).learns_unlabelled and context is not None

    def _first_stage(self, is_done: bool) -> dict[str, object]:
        """Train what comes before the whole, unless a checkpoint of the whole has it; what the metadata say of it."""
        stage = self.plan.stage
        if stage is None:
            return {}
        if is_done:
            stage.freeze()
            return {}
        history = stage.train(*self.views)
        return {"first_stage": {"epochs": len(history), "seconds": sum(history["seconds"])}}

    def train(
        self, folder: Path | None = None, resume: bool = False, keep: Callable[[dict[str, object]], None] | None = None
    ) -> tuple[History, dict[str, object]]:
        """Train; the history, and the metadata with what became of it; of an ensemble, the history of the first model.

        Args:
            folder: where the trainer of the first model writes its epochs and checkpoints, if anywhere.
            resume: whether to go on from the checkpoint there; other models begin anew.
            keep: called with the metadata when the model is to be kept: at the end, and also where training ended
                early, before the exception goes on.
        """
        keep = keep or (lambda metadata: None)
        about = dict(self.metadata)
        seen, held_out = self.views
        if self.learns_unlabelled:
            seen = labelled_oftener(seen)
        try:
            about |= self._first_stage(world.any_of(_goes_on(folder, resume)))
            history = self.plan.trainer.fit(
                self.plan.model, self.plan.objective, seen, held_out, run=folder, resume=resume
            )
            also = [plan.trainer.fit(plan.model, plan.objective, *views) for plan, views in self.others]
        except (KeyboardInterrupt, SystemExit, TrainingError):
            keep(about)
            raise
        finally:
            if self.plan.stage is not None:
                self.plan.stage.freeze(False)
        about |= {"finished": True, "epochs": len(history), "best_epoch": history.best_epoch}
        seconds = [sum(each["seconds"]) for each in (history, *also)]
        about |= {"stopped_early": history.stopped_early, "seconds": sum(seconds)}
        about |= {"computed": history.engine}
        if also:
            about |= {"best_epochs": [each.best_epoch for each in (history, *also)]}
        try:
            model = self.model
            trained, calibration = (
                View.of(model, view) if also else _asked_of(view) for view in (self.views[0], self.calibration)
            )
            about |= {TRAINING_ROWS: asdict(with_log_p(self.about, trained))}
            about |= {CALIBRATION: [asdict(each) for each in calibrated(calibration, trained, self.marks)]}
            if self.has_classes:
                about |= about_classes(self.views[1], self.views[0], self.marks)
        finally:  # an interrupt costs no model
            keep(about)
        return history, about

    def trained(self) -> Run:
        """Train, and give a run without a folder."""
        history, metadata = self.train()
        config, weights = artifact.taken_apart(self.model, metadata)
        return Run(None, config, weights=weights, epochs=history.records)


def prepare(
    wanted: Settings,
    rows: Divided,
    described: DataAbout,
    *,
    calibrate_on: Dataset | None = None,
    start: Run | None = None,
    progress: bool = True,
    announce: Announce = None,
    callbacks: Sequence[Callback] = (),
) -> Job:
    """Let settings and rows make a model, and let it meet the rows.

    Args:
        wanted: the settings.
        rows: the rows; their weights, if they have any, are those of the loss and of the bound that chooses the epoch.
        described: what the run will remember of them.
        calibrate_on: rows on which log p is calibrated; None takes the held-out rows.
        start: a run whose weights and transform training goes on from; None starts afresh.
        progress: whether the trainer reports on stderr.
        announce: see `fitting.fit`, as for `callbacks`.
    """
    data.warn_constant_columns(rows.whole)
    plan, *others = _plans(wanted, rows, start, progress)
    plan = replace(plan, trainer=replace(plan.trainer, callbacks=[*plan.trainer.callbacks, *callbacks]))
    engine.resolve_device(wanted.device)
    views = _views(plan.model, rows)
    seen = views[0]
    if announce is not None:
        announce(_choices(plan, seen, wanted.preset))
    about = describe_rows(rows.train)
    unbounded = about_density(about, seen)
    if unbounded is not None:
        (announce or _warn)(unbounded)
    trainer = {"batch_size": plan.trainer.batch_size, "learning_rate": plan.trainer.learning_rate}
    chosen = {"preset": plan.preset, **trainer} | wanted.model_dump(exclude_none=True)
    remembered = Stored(settings=chosen, data=described)
    metadata = _metadata(plan, remembered, about) | {"quantity": seen.quantity}
    calibration = views[1] if calibrate_on is None else seen.beside(calibrate_on, weight=_some(calibrate_on.weights))
    also = tuple((other, _views(other.model, rows)) for other in others)
    job = Job(plan, views, remembered, metadata, about, calibration, marks_of(rows.train.schema), also)
    artifact.check(job.model, metadata)
    return job


def _views(model: GenerativeModel, rows: Divided) -> tuple[View, View]:
    """The rows to train on and the held-out ones, as a model meets them."""
    with naming_cells(rows.whole, is_whole=True):
        seen = View.of(model, rows.train, where="train", weight=rows.train.weights)
    with naming_cells(rows.whole if rows.rule else rows.held_out, is_whole=True):
        return seen, seen.beside(rows.held_out, "valid", _some(rows.held_out.weights))


def _plans(wanted: Settings, rows: Divided, start: Run | None, progress: bool) -> list[recipes.Plan]:
    """A plan for each model: new ones, or those of a run, which go on by the run's own objective."""
    if start is None:
        return [recipes.plan(each, rows.train, progress=progress) for each in wanted.of_members()]
    model = copy.deepcopy(start.model)
    models: Sequence[GenerativeModel] = model.members if isinstance(model, Ensemble) else [model]
    described = start.config.metadata.get("objective")
    plans = []
    for each, own in zip(wanted.model_copy(update={"num_models": len(models)}).of_members(), models, strict=True):
        # A run of an older version does not describe its objective.
        is_known = isinstance(described, dict)
        objective = spec.build(described) if is_known else recipes.plan(each, rows.train, progress=progress).objective
        plans.append(recipes.onward(each, rows.train, own, objective, progress=progress))
    return plans


def fit_rows(
    rows: Dataset,
    given: Mapping[str, object] | None = None,
    *,
    valid: Dataset | None = None,
    rule: HeldOut | None = None,
    label: str | None = None,
    calibrate_on: Dataset | None = None,
    start: Run | None = None,
    progress: bool = False,
    announce: Announce = None,
) -> Run:
    """Fit a model to rows in memory, by the settings of `vaekit fit`; nothing is written.

    The weights are those that `fit` would save of the same rows, and `Run.save` writes what it would write.

    Args:
        rows: the rows, with their schema where they are a table of more than numbers, and their weights where they do
            not all count alike.
        given: settings by key; see `recipes.Settings`.
        valid: validation rows; None holds out a fixed part of `rows`.
        rule: which part; None is a tenth.
        label: what to call the labels of the rows, on which a conditional model is conditioned.
        calibrate_on: rows that were not trained on, on which log p is calibrated; None takes the held-out rows.
        start: a run whose weights training goes on from; its schema has to be that of the rows.
        progress: whether to report on stderr.
        announce: see `fit`.

    Returns:
        The run, without a folder.

    Raises:
        ConfigError: for settings that do not exist.
        DataError, SupportError, ShapeError, TrainingError: as the parts raise them.

    Example:
        >>> rows = Dataset(np.random.default_rng(0).normal(size=(60, 3)), columns=("a", "b", "c"), kind="table")
        >>> run = fit_rows(rows, {"max_epochs": 2, "hidden": (8,), "latent_dim": 1, "compile": "off"})
        >>> run.score(rows).values.shape
        (60, 3)
    """
    wanted = recipes.settings(given or {})
    known = None if start is None else start.data.context_schema
    parts = conditioned(divided(rows, valid, rule), wanted, label, known)
    begin = partial(prepare, wanted, start=start, progress=progress)
    described = describe_data(parts.whole, held_out=parts.rule, label=label)
    run = begin(parts, described, calibrate_on=calibrate_on, announce=announce).trained()
    kept = without_oddest(run, parts, wanted.trim)
    if kept is None:
        return run
    held_out = calibrate_on or parts.held_out
    again = describe_data(kept.train, label=label)
    return begin(kept, again, calibrate_on=held_out, announce=silent).trained()


def without_oddest(run: Run, rows: Divided, share: float | None) -> Divided | None:
    """The rows of a fit without those that the run which it gave finds oddest; None where none of them is left out.

    A flexible model learns outliers that it is trained on, too. Those that stand out all the same are left out of a
    second fit, of the rows to train on and of those that choose the epoch. Rows are compared as `Run.detect` compares
    them: by log p less what their holes add to it.

    References:
        Merrill and Eskandarian, "Modified autoencoder training and scoring for robust unsupervised anomaly detection
        in deep learning", 2020, https://doi.org/10.1109/ACCESS.2020.2997327.

    Args:
        run: the run of the first fit.
        rows: the rows of that fit.
        share: of each of both parts, rounded down; at least two rows of a part stay. None is 0.
    """
    train, held_out = (_without_oddest(run, part, share or 0.0) for part in (rows.train, rows.held_out))
    if train is rows.train and held_out is rows.held_out:
        return None
    return replace(rows, train=train, held_out=held_out)


def _without_oddest(run: Run, rows: Dataset, share: float) -> Dataset:
    num = min(int(share * len(rows)), len(rows) - 2)
    if num <= 0:
        return rows
    num_samples = draws_for(len(rows))
    log_p = without_nan(run.score(rows, num_samples=num_samples).values[:, 0])
    summed = run.data.context_schema is not None and rows.contexts is None
    bare = calibration_for(run, num_samples, summed).comparable(log_p, rows.x)
    return rows.take(np.sort(np.argsort(bare, kind="stable")[num:]))


def silent(line: str) -> None:
    """Nothing is said of a second fit that was not said of the first."""


def _goes_on(folder: Path | None, resume: bool) -> bool:
    """Whether training goes on from a checkpoint, as process 0 sees it."""
    return resume and folder is not None and world.rank() == 0 and has_checkpoint(folder)


def _some(weights: np.ndarray | None) -> np.ndarray | None:
    """Weights of held-out rows; None where all are 0: a bound is the mean over rows then."""
    return None if weights is None or not weights.any() else weights


def _asked_of(view: View) -> View:
    """Rows as a run is asked of them later: those of which some have no label count as rows without labels."""
    if view.context is None or not told(ModelTraits, view.model).num_labels:
        return view
    return view.without_context() if bool(view.context.isnan().any()) else view


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=4)


def _of_bits(step: Binarize) -> str:
    if step.mode == "threshold":
        return f"say which values are above {step.threshold:g}"
    return "are drawn from the values"


def _choices(plan: recipes.Plan, view: View, asked: str | None) -> str:
    """A line: the preset where the data chose it, likelihood, transform, and what log p will be."""
    steps = steps_of(view.transform)
    names = ", then ".join(type(step).__name__ for step in steps) or "none"
    decoder = told(ModelTraits, plan.model).decoder
    head = type(decoder.head if isinstance(decoder, Conditional) else decoder).__name__
    preset = "" if asked is not None or plan.preset == "vae" else f"preset {plan.preset}; "
    words = f"{preset}likelihood {head}; transform of the data: {names}"
    bits = "".join(f"; bits {_of_bits(step)}" for step in steps if isinstance(step, Binarize))
    return f"{words}{bits}; log p(x) will be {with_article(view.quantity)}"


def _metadata(plan: recipes.Plan, remembered: Stored, rows: RowsAbout) -> dict[str, object]:
    """What `config.json` holds besides the model: nothing of where on this machine the data lie."""
    about: dict[str, object] = {"settings": remembered.settings, "data": travelling(remembered.data)}
    about |= {"finished": False, "max_epochs": plan.trainer.max_epochs}
    about |= {"objective": spec.describe(plan.objective, "objective")}
    return about | {TRAINING_ROWS: asdict(rows)}
