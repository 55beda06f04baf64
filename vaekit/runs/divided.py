"""The rows of a fit: those to train on and those to validate on, with the contexts of both."""

import warnings
from dataclasses import dataclass

from vaekit import data, presets
from vaekit.data import Dataset
from vaekit.data.cells import refuse_infinite
from vaekit.data.contexts import contexts_found, with_contexts
from vaekit.data.schema import Schema
from vaekit.errors import ConfigError, DataError
from vaekit.paths import as_text
from vaekit.recipes import Settings
from vaekit.recipes.defaults import default_preset
from vaekit.runs.division import held_out_rule
from vaekit.runs.folder import HeldOut


@dataclass(frozen=True, eq=False)
class Divided:
    """What a model is fitted to: rows to train on, rows to validate on, and the rule that divided the whole, if any.

    Attributes:
        whole: the rows that were handed over.
        train: rows to train on.
        held_out: rows that choose the epoch, and on which log p is calibrated.
        rule: how the held-out rows were chosen from the whole; None where they are others.
    """

    whole: Dataset
    train: Dataset
    held_out: Dataset
    rule: HeldOut | None


def divided(rows: Dataset, valid: Dataset | None = None, rule: HeldOut | None = None) -> Divided:
    """Rows to train on and rows to validate on: others, or a fixed part of the rows.

    Raises:
        DataError: if one of the rows is infinite, or there are too few to hold one out.
    """
    refuse_infinite(rows)
    if valid is not None:
        refuse_infinite(valid)
        return Divided(rows, rows, valid, None)
    if len(rows) < 2:
        raise DataError(
            f"Fitting needs at least two rows, one of them to validate on; {as_text(rows.source)} has {len(rows)}."
        )
    rule = held_out_rule(len(rows), rule)
    return Divided(rows, *data.holdout(rows, rule.fraction, rule.seed), rule)


def conditioned(rows: Divided, wanted: Settings, label: str | None = None, known: Schema | None = None) -> Divided:
    """The rows with their contexts, where the settings ask for a conditional model.

    Args:
        rows: the rows.
        wanted: the settings.
        label: column with the labels.
        known: what the contexts are, where a run that is resumed or gone on from says so.

    Raises:
        DataError: if there is nothing to condition on, or a label is unknown.
    """
    preset = presets.find(default_preset(wanted, rows.train))
    if rows.whole.beside is not None and (preset.learns_unlabelled or not preset.is_conditional):
        what = "learns from one label" if preset.is_conditional else "is given nothing"
        raise ConfigError(f"--context names what a model is given, and {preset.name} {what}. Take conditional-vae.")
    if not preset.is_conditional:
        return rows
    if (wanted.num_models or 1) > 1:
        raise ConfigError(f"num_models averages models of x alone, and {preset.name} is given labels. Drop num_models.")
    schema = known or contexts_found(rows.whole, label, preset.learns_unlabelled)
    whole, train, held_out = (with_contexts(part, schema) for part in (rows.whole, rows.train, rows.held_out))
    _warn_of_lost_classes(train, schema)
    return Divided(whole, train, held_out, rows.rule)


def _warn_of_lost_classes(train: Dataset, schema: Schema) -> None:
    """Warn of classes of which no row is left to train on: nothing is known of them."""
    if train.contexts is None or len(schema.modelled) != 1 or not schema.modelled[0].levels:
        return
    levels, met = schema.modelled[0].levels, set(train.contexts[:, 0].tolist())
    lost = [level for code, level in enumerate(levels) if code not in met]
    if lost:
        some = ", ".join(map(repr, lost[:5])) + (", ..." if len(lost) > 5 else "")
        warnings.warn(f"{some}: these classes have no row to train on, for theirs are held out", stacklevel=4)
