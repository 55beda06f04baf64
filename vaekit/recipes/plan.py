"""From settings and data to what is trained: model, objective and trainer."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch

from vaekit import engine, presets
from vaekit.data import Dataset, kinds
from vaekit.errors import ConfigError, ShapeError, SupportError
from vaekit.models import VAE, ConditionalVAE
from vaekit.models.base import GenerativeModel
from vaekit.objectives import ELBO, HideCells, Objective
from vaekit.presets import Preset
from vaekit.priors import StandardNormal
from vaekit.recipes.after import FitPrior
from vaekit.recipes.budget import table_trainer
from vaekit.recipes.contexts import of_contexts
from vaekit.recipes.defaults import (
    default_latent_dim,
    default_likelihood,
    default_preset,
    make_likelihood,
    make_transform,
)
from vaekit.recipes.settings import Settings
from vaekit.recipes.stages import Stage, first_stage
from vaekit.recipes.start import Start, find_start, start_from
from vaekit.recipes.start_given import GivenStart, find_start_given, start_from_given
from vaekit.saving import spec
from vaekit.training import CollapseWarning, Trainer

_BATCH_SIZE, _LEARNING_RATE = 128, 1e-3
_UPDATES = 30_000  # default length of a run; enough for MNIST, patience ends small sets earlier


@dataclass(frozen=True)
class Plan:
    """What settings and data make; `preset` is the name of the one that was taken, `stage` what is trained first."""

    model: GenerativeModel
    objective: Objective
    trainer: Trainer
    preset: str
    stage: Stage | None = None


def plan(settings: Settings, data: Dataset, *, progress: bool = True) -> Plan:
    """A model for the data with its first weights, a function of the seed; its objective; and a trainer.

    Args:
        settings: the settings.
        data: the training rows; a transform that learns constants is fitted to them.
        progress: whether the trainer reports on stderr.

    Raises:
        ConfigError: for names and combinations that do not exist, and settings that the preset does not take.
    """
    preset = presets.find(default_preset(settings, data))
    _refuse_unsuitable(settings, preset)
    with engine.seeded(engine.block_seed(settings.seed, 0)):
        parts, start = _parts(settings, preset, data)
        try:
            model, objective = preset.make(data.event_shape, **parts)
        except (ShapeError, SupportError) as error:
            raise ConfigError(f"the parts of the preset {preset.name} do not go together: {error}") from error
        if isinstance(start, GivenStart):
            if isinstance(model, ConditionalVAE):
                start_from_given(model, start)
        elif start is not None and isinstance(model, VAE | ConditionalVAE):
            start_from(model, start)
        objective = _objective(objective, settings)
    trainer = _suited(settings, preset, data, model, progress)
    if preset.begins is not None:
        trainer = dataclasses.replace(trainer, callbacks=[preset.begins(), *trainer.callbacks])
    return Plan(model, objective, trainer, preset.name, first_stage(model, trainer))


def _suited(settings: Settings, preset: Preset, data: Dataset, model: GenerativeModel, progress: bool) -> Trainer:
    """The trainer of a preset."""
    of_table = preset.starts_linear or (preset.is_conditional and data.schema is not None)
    trainer = table_trainer(settings, len(data), model) if of_table else _trainer(settings, data)
    callbacks = [*trainer.callbacks, *_after(settings, preset, model)]
    return dataclasses.replace(trainer, callbacks=callbacks, progress=progress)


def _after(settings: Settings, preset: Preset, model: GenerativeModel) -> list[FitPrior]:
    """The fit of a prior after training: of tables, and where it is asked for.

    Raises:
        ConfigError: if it is asked for, and the model has another prior than N(0, I).
    """
    can = isinstance(model, VAE) and isinstance(model.prior, StandardNormal)
    if settings.fit_prior and not can:
        raise ConfigError(
            "fit_prior=true puts a mixture in the place of the prior standard-normal after training, which this model "
            "does not have. Leave out prior or fit_prior."
        )
    wanted = preset.starts_linear if settings.fit_prior is None else settings.fit_prior
    return [FitPrior(always=bool(settings.fit_prior))] if can and wanted else []


def onward(
    settings: Settings, data: Dataset, model: GenerativeModel, objective: Objective, *, progress: bool = True
) -> Plan:
    """A plan that goes on with a fitted model, its transform included: nothing is made anew but the trainer.

    Args:
        settings: the settings of the model, and what is told anew of its training.
        data: the training rows.
        model: the model; it is trained in place.
        objective: the one that it was trained by, which `settings` may change.
        progress: whether the trainer reports on stderr.
    """
    preset = presets.find(default_preset(settings, data))
    trainer = _suited(settings, preset, data, model, progress)
    return Plan(model, _objective(objective, settings), trainer, preset.name)


def _refuse_unsuitable(settings: Settings, preset: Preset) -> None:
    asked = settings.model_dump(exclude_none=True)
    unsuitable = [key for key in asked if key in (presets.SETTINGS | presets.OF_CONTEXTS) - preset.takes]
    if unsuitable:
        raise ConfigError(
            f"the preset {preset.name} takes no {' or '.join(unsuitable)}; of a model's settings it takes "
            f"{', '.join(sorted(preset.takes))}. Drop {' and '.join(unsuitable)}, or use --preset vae."
        )


def _parts(settings: Settings, preset: Preset, data: Dataset) -> tuple[dict[str, Any], Start | GivenStart | None]:
    """The arguments of a preset, and where its model is to start."""
    head = make_likelihood(data, settings.likelihood or preset.likelihood or default_likelihood(data))
    transform = make_transform(data, head, settings.transform)
    asked = settings.latent_dim or preset.latent_dim
    given: dict[str, Any] = {}
    if preset.is_conditional:
        given = of_contexts(data) | settings.model_dump(include=set(presets.OF_CONTEXTS), exclude_none=True)
    seen = (data, head, transform, asked, settings.seed)
    start: Start | GivenStart | None = None
    if preset.is_conditional and "likelihood" in given.get("conditions", ("likelihood",)):
        start = find_start_given(*seen, given["context"])
    elif preset.is_conditional or preset.starts_linear:
        start = find_start(*seen)
    latent_dim = asked or (default_latent_dim(data) if start is None else start.factors.latent_dim)
    parts: dict[str, Any] = {"likelihood": head, "latent_dim": latent_dim, "transform": transform} | given
    if settings.hidden is not None:
        parts["hidden"] = settings.hidden
    shape = {"event_shape": latent_dim, "code_shape": latent_dim}  # codes have classes as one more dimension
    if settings.posterior is not None:
        parts["posterior"] = spec.from_words("posteriors", settings.posterior, **shape)
    if settings.prior is not None:
        parts["prior"] = spec.from_words("priors", settings.prior, **shape)
    return parts, start


def _objective(default: Objective, settings: Settings) -> Objective:
    """The preset's objective, or the one asked for, with the arguments asked for.

    What hides cells goes on hiding them from the objective that is asked for.
    """
    if isinstance(default, HideCells) and spec.normalized((settings.objective or "").partition(":")[0]) != "hidecells":
        weighs = settings.beta is not None and settings.objective is None  # the KL, which IWAE has not apart
        inner = _objective(ELBO() if weighs else default.objective, settings)
        return HideCells(inner, default.rows, default.most)
    asked = {"beta": settings.beta, "num_samples": settings.num_samples}
    given = {key: value for key, value in asked.items() if value is not None}
    if settings.objective is None and not given:
        return default
    own = type(default).__name__
    words = settings.objective or spec.hyphened(own)
    kind = spec.resolve("objectives", words.partition(":")[0])
    known = spec.parameters(kind)
    for key in given:
        if key not in known:
            raise ConfigError(
                f"the objective {spec.hyphened(kind.__name__)} has no {key}; it has {', '.join(known)}. Drop {key}, or "
                "choose another objective"
            )
    kept = spec.arguments_of(default) if kind is type(default) else {}
    objective: Objective = spec.from_words("objectives", words, **{**kept, **given})
    return objective


def _trainer(settings: Settings, data: Dataset) -> Trainer:
    """A trainer with the settings' values; the defaults that depend on the training rows are filled in."""
    batch_size = settings.batch_size or _BATCH_SIZE
    updates_per_epoch = math.ceil(len(data) / batch_size)
    max_epochs = settings.max_epochs or min(kinds.of(data).max_epochs, math.ceil(_UPDATES / updates_per_epoch))

    def cosine(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max_epochs)

    return Trainer(
        max_epochs=max_epochs,
        patience=settings.patience or (None if settings.keep == "last" else max(10, max_epochs // 5)),
        batch_size=batch_size,
        learning_rate=settings.learning_rate or _LEARNING_RATE,
        scheduler=cosine,
        callbacks=[CollapseWarning()],
        **settings.of_trainer(),
    )
