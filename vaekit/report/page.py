"""The page: contents in, HTML out."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaekit import __version__, engine
from vaekit.bounds import LatentVariableModel
from vaekit.columns import RowsAbout
from vaekit.data.schema import Schema
from vaekit.evaluation.results import Results
from vaekit.models.rows import chosen
from vaekit.models.view import View
from vaekit.plots import access
from vaekit.report import numbers, words
from vaekit.report.classes import Classes, of_classes
from vaekit.report.clusters import of_clusters
from vaekit.report.figures import Gallery
from vaekit.report.tables import OfTable, of_table
from vaekit.runs.calibration import Calibration
from vaekit.saving.files import write_atomically
from vaekit.traits import Data, RowTraits, told

_PICTURED_ROWS = 2000


@cache
def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("vaekit.report", "templates")
    return Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template("report.html.j2")


def build(
    model: LatentVariableModel,
    *,
    title: str,
    config: dict[str, Any],
    records: list[dict[str, float]],
    x: Data,
    labels: Data = None,
    evaluation: Results | None = None,
    generator: torch.Generator | None = None,
    num_samples: int = 100,
    columns: Sequence[str] | None = None,
    value_range: tuple[float, float] | None = None,
    described: RowsAbout | None = None,
    learned: np.ndarray | None = None,
    keys: Sequence[Any] | None = None,
    schema: Schema | None = None,
    classes: Classes | None = None,
    calibration: Calibration | None = None,
) -> str:
    """A self-contained page about a fitted model: no link, no script, pictures inside.

    Args:
        model: any latent-variable model.
        title: heading of the page.
        config: settings of the run, shown as a table; may be nested.
        records: one dict per epoch, as in `History.records`; may be empty.
        x: data that the model was not fitted to, in their own units, shape (N, *X).
        labels: one per row, for colours; None takes those of x.
        evaluation: what `vaekit.evaluation.evaluate` found; None computes it on at most 10,000 rows.
        generator: source of the noise; None is the seed 0.
        num_samples: K, where the evaluation is computed here.
        columns: names of the columns of a table; None takes those of x.
        value_range: what is black and white in images; None takes that of x, or reads it off the values.
        described: the training rows, as `Run.training_rows` has them, where the evaluation is computed here.
        learned: of a table: the rows that the model was fitted to, shape (N', D). Simple tools learn from them too, and
            the page says where one of these is better.
        keys: of a table: what its rows are called, where the oddest are named; None numbers them.
        schema: of a table: how its rows are written as cells.
        classes: of a model that is conditioned on a label: its classes, and the labels of `learned`.
        calibration: of a table: what empty cells add to log p, which is taken off where the oddest rows are chosen.

    Returns:
        HTML.

    Raises:
        ShapeError, DataError, SupportError: if x does not fit the model.
    """
    generator = access.fixed(generator)
    view = access.view_of(model, x)
    known = told(RowTraits, x)
    labels = (known.labels if known.shown_labels is None else known.shown_labels) if labels is None else labels
    columns = known.columns if columns is None else columns
    value_range = known.value_range if value_range is None else value_range
    if evaluation is None:
        evaluation = numbers.evaluate(model, view, num_samples=num_samples, described=described, generator=generator)
    keep = chosen(len(view), _PICTURED_ROWS)
    labels = None if labels is None else np.asarray(labels)[keep.numpy()]
    options = {"columns": columns, "value_range": value_range}
    gallery = Gallery(view.take(keep), labels, options, engine.draw_seed(generator))
    bars, sentence = gallery.divergence(evaluation)
    own = OfTable([], [], [], [])
    # Questions about x alone: of a model with labels those are summed over, and other contexts have no sum.
    has_sum = view.context is None or classes is not None
    alone = view if view.context is None else View.of(view.model, view.rows)
    if columns is not None and len(view.event_shape) == 1 and has_sum:
        seed = engine.draw_seed(generator)
        of_rows: dict[str, Any] = {"learned": learned, "keys": keys, "schema": schema, "calibration": calibration}
        own = of_table(alone, columns, seed=seed, **of_rows)
    found = of_classes(view, classes, learned, engine.draw_seed(torch.Generator().manual_seed(0)))
    health = [row for row in evaluation.table if "diagnostics." in row.name]
    table = [row for row in evaluation.table if "diagnostics." not in row.name]
    result: str = _template().render(
        title=title,
        version=__version__,
        parts=words.parts(model),
        settings=words.settings(config),
        epochs=len(records),
        judged=numbers.judged(evaluation),
        table=numbers.cells(table),
        headline=numbers.headline(evaluation),
        what_it_is=numbers.QUANTITIES[evaluation.quantity],
        transform_noise=evaluation.transform_noise,
        about_weights=numbers.about_weights(evaluation),
        health=numbers.cells(health),
        findings=numbers.findings(evaluation),
        reasons=[f"{row.label}: {row.reason}" for row in evaluation.reasons],
        bars=bars,
        bars_sentence=sentence,
        contests=own.contests,
        classes=found,
        margins=own.margins,
        pairs=own.pairs,
        odd=own.odd,
        clusters=of_clusters(gallery, engine.draw_seed(generator)),
        takes_holes_off=calibration is not None and bool(calibration.holes),
        two_dimensional=access.num_latents(view) == 2,
        **gallery.all(records),
    )
    return result


def write(path: str | Path, html: str) -> None:
    """Write a page; the file is replaced as a whole.

    Raises:
        ArtifactError: if it cannot be written.
    """
    write_atomically(path, html.encode())
