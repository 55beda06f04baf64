"""Which rows are odd: log p held against that of rows that were not trained on."""

from contextlib import suppress
from typing import TYPE_CHECKING, TypedDict, Unpack

import numpy as np

from vaekit.data import Dataset
from vaekit.errors import ConfigError
from vaekit.models.view import View
from vaekit.runs.calibration import DRAWS, Calibration, calibrated, marks_of, nearest, without_nan
from vaekit.runs.reasons import MOST_ROWS, new_cells, reasons
from vaekit.runs.table import Table, check_key, element_names

if TYPE_CHECKING:
    from vaekit.runs.run import Run

COLUMNS = ("log_p", "p_value", "outlier", "reason")
MANY_ROWS = 100_000


def draws_for(num_rows: int) -> int:
    """K, draws of z per row where none are asked for: 100 up to 100,000 rows, 10 beyond."""
    return DRAWS[0] if num_rows <= MANY_ROWS else DRAWS[1]


def calibration_for(run: "Run", num_samples: int, summed: bool = False) -> Calibration:
    """The calibration of a run for so many draws; that of the nearest number where there is none of this one.

    Args:
        run: the run.
        num_samples: K.
        summed: of log p(x) summed over the labels, of a run whose model is given one, instead of log p(x | label).

    Raises:
        ConfigError: if the run has none, and its held-out rows cannot be read again.
    """
    known = run.class_calibrations if summed else run.calibrations
    if not known and not summed:
        parts = run.parts()
        held_out, trained = parts.held_out, None if parts.train is None else View.of(run.model, parts.train)
        known = [] if held_out is None else calibrated(View.of(run.model, held_out), trained, marks_of(held_out.schema))
    if not known:
        raise ConfigError(
            f"{run.called} does not say what log p is of rows that were not trained on, so that no row can be called "
            "odd beside them: it is of an older version, or its rows are no vectors. Fit anew, or use score."
        )
    return nearest(known, num_samples)


class Noise(TypedDict, total=False):
    """Keywords of `Run.score`, for the noise of a question."""

    seed: int
    progress: bool
    transform_seed: int


def detect(
    run: "Run", rows: Dataset, *, rate: float | None = None, num_samples: int | None = None, **how: Unpack[Noise]
) -> Table:
    """Flag odd rows: columns `log_p`, `p_value`, `outlier` and `reason`.

    A row's p-value is the conformal one (`Calibration`): of rows like those that were held out of the fit, a share of
    at most a has p <= a. Outliers are rows with p <= rate. Rows that were trained on have larger p-values than they
    would have had otherwise.

    Args:
        run: the run.
        rows: the rows, as `run.rows` gives them.
        rate: share of rows like the held-out ones that may be called outliers; None takes 5%, or 1 / (n + 1) where
            fewer than n = 19 rows were held out.
        num_samples: K; None takes 100 up to 100,000 rows, and 10 beyond.
        **how: see `Run.score`.

    Raises:
        ConfigError: if the rate is none, or nothing is known of held-out rows.
    """
    if rate is not None and not 0 < rate < 1:
        raise ConfigError(f"rate is a share of the rows above 0 and below 1, such as 0.01; got {rate}")
    check_key(rows.key, COLUMNS)
    num_samples = num_samples or draws_for(len(rows))
    calibration = calibration_for(run, num_samples, run.data.context_schema is not None and rows.contexts is None)
    scores = run.score(rows, num_samples=num_samples, **how)
    log_p = without_nan(scores.values[:, 0])
    bare = calibration.comparable(log_p, rows.x)
    outlier = bare < calibration.threshold(rate)[0]
    values = np.stack([scores.values[:, 0], calibration.p_values(bare)], axis=1)
    reason = _reasons(run, rows, np.where(outlier, bare, np.inf), num_samples, how.get("seed", 0))
    for text, bad in scores.reasons.items():
        reason[bad & outlier & scores.without_number] = text
    for i in np.flatnonzero(outlier & (False if rows.excluded is None else rows.excluded.any(axis=1))):
        own = [reason[i]] if reason[i] and np.isfinite(log_p[i]) else []
        reason[i] = "; ".join([*new_cells(rows, int(i)), *own])
    taken = ("what empty cells add to log_p on average is taken off before rows are compared",)
    notes = (*scores.notes, *(taken if calibration.holes else ()), *_in_words(calibration, rate, outlier))
    if calibration.num_samples != num_samples:
        notes += (
            f"calibrated with K = {calibration.num_samples} draws of z per row, scored with {num_samples}: p-values "
            "are valid only up to how much log_p grows with K",
        )
    beside = {"outlier": outlier, "reason": reason.astype(np.str_)}
    return Table(values, COLUMNS[:2], rows.key, rows.row_keys, scores.reasons, notes, scores.quantity, beside=beside)


def _reasons(run: "Run", rows: Dataset, log_p: np.ndarray, num_samples: int, seed: int) -> np.ndarray:
    """Why rows are odd, shape (N,), Python objects: of the oddest of those whose log p is finite, "" for others."""
    said = np.full(len(rows), "", dtype=object)
    order = np.argsort(log_p, kind="stable")
    flagged = np.sort(order[np.isfinite(log_p[order])][:MOST_ROWS])
    if not len(flagged):
        return said
    names = rows.columns or element_names(rows.event_shape, "x")
    with suppress(ConfigError):  # a model that knows no density of single cells
        said[flagged] = reasons(run.model, rows.take(flagged), names, num_samples=num_samples, seed=seed)
    return said


def _in_words(calibration: Calibration, rate: float | None, outlier: np.ndarray) -> list[str]:
    """The threshold, what it stands for, and what it rests on, in a sentence."""
    threshold, stands_for = calibration.threshold(rate)
    on = f"calibrated on {len(calibration):,} rows that were not trained on"
    if stands_for == 0:
        least = 1 / (len(calibration) + 1)
        return [f"no row is called an outlier at a rate of {rate:g}: {on}, whose least p-value is {least:.2g}"]
    return [
        f"{int(outlier.sum()):,} of {len(outlier):,} rows are outliers: log_p below {threshold:.4g}, as at most "
        f"{100 * stands_for:.3g}% of rows like those of the fit are ({on})"
    ]
