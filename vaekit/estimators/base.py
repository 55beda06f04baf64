"""What all estimators are: a fitted run with the manners of scikit-learn."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, Unpack

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from vaekit import runs
from vaekit.data import Dataset
from vaekit.data.schema import Schema
from vaekit.errors import ConfigError, ReadingWarning
from vaekit.estimators.shared import DEFAULTS, KEYS, Shared, spelled_out
from vaekit.estimators.tables import Layout, as_dataset, as_table, columns_of, found_schema
from vaekit.frames import as_frame
from vaekit.runs import Run
from vaekit.runs.detection import draws_for
from vaekit.runs.folder import HeldOut
from vaekit.runs.rows import rows_like

_LEAST_HELD_OUT = 20


class VAEEstimator(BaseEstimator):  # type: ignore[misc]
    """The base of the estimators. Each is a thin face over `run_`, and `from_fitted` makes one of another.

    Parameters have the names and the meaning of the keys of `vaekit fit`; None leaves a choice to the data.

    Args:
        preset: named model; see `vaekit list`.
        max_epochs: passes over the data.
        batch_size: rows per update.
        learning_rate: of Adam.
        latent_dim: dimensions of z.
        hidden: widths of the hidden layers; one number is one layer.
        likelihood: p(x|z), such as "normal:scale=network"; None has a head for each kind of column.
        posterior: q(z|x), such as "diagonal-normal".
        prior: p(z), such as "standard-normal".
        objective: what is minimised, such as "iwae".
        beta: weight of the KL.
        num_samples: draws of z per row while training.
        data_transform: data to model space, such as "standardize"; the key `transform`.
        num_models: models that are fitted, each with a seed of its own; p(x) is the mean of theirs (`models.Ensemble`).
            None is 1.
        precision: "auto", "float32" or "bf16".
        compile: "auto", "on" or "off".
        device: "auto", "cpu", "cuda", ...
        patience: epochs without a better bound on the held-out rows.
        em_steps: updates of the encoder alone and of the rest, in turn.
        keep: "best" or "last" weights.
        fit_prior: whether a mixture fitted to the codes takes the place of p(z) = N(0, I) after training, where
            held-out rows gain by it; None is True from 300 rows on, and False of a detector, whose training rows hold
            outliers: groups of them would become components.
        schema: what the columns are: a `Schema`, the file of one, or kinds by column ({"age": "count"}) that go before
            what is found; None finds all out.
        model_holes: whether the model also describes which cells are empty; see `Schema.with_holes`. None is True for
            `VAEDetector`, to which a rare pattern of holes would look ordinary. "self" where a cell may be empty
            because of what it holds: fills are then what the model makes of such cells.
        validation_fraction: share of the rows that are held out to choose the epoch and to calibrate log p; None is a
            tenth, but 20 rows where there are as few as that, and a third at most.
        num_importance_samples: K, draws of z per row behind log p(x) and fills; None is 100 up to 100,000 rows, and 10
            beyond.
        warm_start: whether another `fit` goes on from the weights of the one before, by its schema, as `partial_fit`
            does.
        verbose: whether to report the epochs on stderr.
        random_state: source of all noise of the fit, an int for fits that repeat bit for bit (the same as `seed=` of
            `vaekit fit`); global streams are left alone.

    Attributes:
        run_: the fitted `vaekit.runs.Run`.
        n_features_in_: number of columns of X.
        feature_names_in_: their names, where X had any.
    """

    run_: Run
    layout_: Layout
    n_features_in_: int
    feature_names_in_: np.ndarray
    _models_holes: ClassVar[bool] = False
    _own_settings: ClassVar[tuple[str, ...]] = ()
    _default_preset: ClassVar[str | None] = None

    @spelled_out
    def __init__(self, **shared: Unpack[Shared]) -> None:
        unknown = sorted(set(shared) - set(DEFAULTS))
        if unknown:
            raise TypeError(f"{type(self).__name__} has no parameter {', '.join(unknown)}")
        for name, default in DEFAULTS.items():
            setattr(self, name, shared.get(name, default))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    # --- Fitting -----------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit a model to the rows of X.

        Args:
            X: array of shape (N, D), list of rows, or data frame of any library that narwhals knows, N >= 3; words,
                dates and bools are columns too, NaN and null are holes.
            y: ignored.
            sample_weight: weight of each row in the loss, shape (N,), not negative.
        """
        return self._fit(X, sample_weight, self._known if self.warm_start else None)

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit a model to the rows of X, or go on from the fitted one with them: its weights are the first ones.

        Schema, transform and what they have learned stay those of the first call. Levels that it did not meet count as
        its "other" ones, and as holes, with a warning, in columns that have none; so do numbers out of bounds. Rows of
        earlier calls are not kept: a part of X alone is held out and says which weights are the best, and whether they
        are better than those before.

        Args:
            X: as in `fit`, with the columns of the first call.
            y: ignored.
            sample_weight: as in `fit`.
        """
        return self._fit(X, sample_weight, self._known)

    @property
    def _known(self) -> Run | None:
        """The run that is there already, to go on from."""
        return getattr(self, "run_", None)

    def _fit(self, X: Any, sample_weight: Any, start: Run | None) -> Self:
        rows = self._rows_to_fit(X, sample_weight, start)
        self.run_ = self._fitted(rows, start)
        self._settle(rows)
        return self

    def _rows_to_fit(self, X: Any, sample_weight: Any, start: Run | None) -> Dataset:
        frame, layout = as_table(self, self._prepared(X), None if start is None else columns_of(start))
        self.layout_ = layout if start is None else self.layout_
        schema = self._schema(frame) if start is None else start.data.columns_schema
        if schema is None:
            raise ConfigError(f"{start} was fitted without a schema, and cannot go on from there; fit anew")
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, np.empty((len(frame), 1)), ensure_non_negative=True)
        wants_holes = self._models_holes if self.model_holes is None else self.model_holes
        if wants_holes not in (True, False, "self"):
            raise ConfigError(f'model_holes is True, False, "self" or None; got {wants_holes!r}')
        if start is None:
            return as_dataset(frame, schema, weights, model_holes=wants_holes)
        rows = as_dataset(frame, schema, weights, lenient=True)
        _tell_new_cells(rows, frame)
        return rows

    def _schema(self, frame: Any) -> Schema:
        if isinstance(self.schema, Schema):
            return self.schema
        if isinstance(self.schema, str | Path):
            return Schema.load(self.schema)
        if self.schema is not None and not isinstance(self.schema, Mapping):
            raise ConfigError(
                f"schema is a Schema, the path of one, or kinds by column; got {type(self.schema).__name__}"
            )
        return found_schema(frame, self.layout_, dict(self.schema or {}))

    def _fitted(self, rows: Dataset, start: Run | None) -> Run:
        given = self._settings() | {"seed": self._seed()}
        return runs.fit_rows(rows, given, rule=self._rule(rows), start=start, progress=self.verbose)

    def _settings(self) -> dict[str, Any]:
        """The settings of `vaekit fit` that the parameters are; estimators with further ones override it."""
        keys = KEYS | dict(zip(self._own_settings, self._own_settings, strict=True))
        given = {key: getattr(self, name) for name, key in keys.items() if getattr(self, name) is not None}
        if self._default_preset is not None:
            given.setdefault("preset", self._default_preset)
        if isinstance(given.get("hidden"), int | np.integer):
            given["hidden"] = (int(given["hidden"]),)
        return given

    def _seed(self, random_state: Any = None) -> int:
        """A seed: an int as it is, one drawn from a stream otherwise."""
        state = self.random_state if random_state is None else random_state
        return int(state) if isinstance(state, int | np.integer) else int(check_random_state(state).randint(2**31 - 1))

    def _rule(self, rows: Dataset) -> HeldOut:
        if self.validation_fraction is not None:
            return HeldOut(fraction=self.validation_fraction)
        return HeldOut(fraction=min(max(0.1, _LEAST_HELD_OUT / len(rows)), 1 / 3))

    def _settle(self, rows: Dataset | None) -> None:
        """Set what follows from a run; `rows` are those of the fit, None where the run came from elsewhere."""

    # --- Runs --------------------------------------------------------------------------------------------------------

    @classmethod
    def from_fitted(cls, other: "VAEEstimator | Run | str | Path", **params: Any) -> Self:
        """An estimator of this kind over a model that is fitted already.

        Args:
            other: an estimator, a run, or the folder of one.
            **params: parameters; the shared ones are those of `other` where they are not given.

        Raises:
            ConfigError: if the run is one of something else than tables.
            sklearn.exceptions.NotFittedError: if `other` is an estimator that was not fitted.
        """
        if isinstance(other, VAEEstimator):
            check_is_fitted(other, "run_")
            made = cls(**{name: getattr(other, name) for name in DEFAULTS} | params)
            made.run_, made.layout_, made.n_features_in_ = other.run_, other.layout_, other.n_features_in_
            if hasattr(other, "feature_names_in_"):
                made.feature_names_in_ = other.feature_names_in_
        else:
            run = other if isinstance(other, Run) else runs.open(other).in_memory()
            if len(run.data.event_shape or ()) != 1:
                raise ConfigError(f"estimators take tables; {run.called} was fitted to rows of another shape")
            made = cls(**_params_of(run) | params)
            names = columns_of(run)
            made.run_, made.layout_, made.n_features_in_ = run, Layout(run.data.columns is not None), len(names)
            if run.data.columns is not None:
                made.feature_names_in_ = np.array(names, dtype=object)
        made._settle(None)
        return made

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the fitted run to a folder, as `vaekit fit` does; `from_fitted(folder)` reads it.

        Raises:
            ConfigError: if the folder holds something else, or a run that is not to be replaced.
        """
        check_is_fitted(self, "run_")
        self.run_.save(folder, overwrite=overwrite)

    # --- Answers -----------------------------------------------------------------------------------------------------

    @property
    def _run(self) -> Run:
        """The run that answers: in float64, so that a row's answer does not depend on the rows beside it."""
        check_is_fitted(self, "run_")
        return self.run_.in_float64

    def _read(self, X: Any) -> tuple[Dataset, Layout]:
        """Rows of X as the fit read them, and how X came."""
        check_is_fitted(self, "run_")
        frame, layout = as_table(self, self._prepared(X), columns_of(self.run_))
        rows = rows_like(self.run_.data, frame, lenient=True)  # as `run_.rows` reads them, without a notice of drift
        _tell_new_cells(rows, rows.frame)
        return rows, layout

    def _rows(self, X: Any) -> Dataset:
        return self._read(X)[0]

    def _prepared(self, X: Any) -> Any:
        """X before it is read; an estimator with marks of its own for holes overrides it."""
        return X

    def _num_draws(self, num_rows: int) -> int:
        return self.num_importance_samples or draws_for(num_rows)

    def score_samples(self, X: Any) -> np.ndarray:
        """log p(x) of each row in nats, in the units of X: shape (N,), float64; -inf where a row has no number.

        The noise of a row is a function of its content: a row has the same score alone and among others, always.
        """
        return self._score(self._rows(X))

    def _score(self, rows: Dataset) -> np.ndarray:
        scores = self._run.score(rows, num_samples=self._num_draws(len(rows))).values[:, 0]
        return np.where(np.isnan(scores), -np.inf, scores)

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of `score_samples`: what a grid search makes as large as it can."""
        return float(self.score_samples(X).mean())


def _tell_new_cells(rows: Dataset, frame: Any) -> None:
    """Warn of cells that count as holes, for the fit did not meet them."""
    if rows.excluded is None:
        return
    i, j = (int(place[0]) for place in np.nonzero(rows.excluded))
    name = (rows.columns or ())[j]
    warnings.warn(
        f"{int(rows.excluded.sum())} cells of X are levels that the fit never met, or numbers out of bounds, and count "
        f"as holes: the first is {as_frame(frame)[name][i]!r} in row {i}, column {name!r}",
        ReadingWarning,
        stacklevel=5,
    )


def _params_of(run: Run) -> dict[str, Any]:
    """The parameters of an estimator whose fit would be that of the run."""
    settings = run.settings
    if settings is None:
        return {}
    given = settings.model_dump(exclude_defaults=True)
    return {name: given[key] for name, key in KEYS.items() if key in given} | {"random_state": settings.seed}
