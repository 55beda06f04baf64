"""Classes by Bayes' rule: densities of each class as a classifier of scikit-learn."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self, Unpack

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from vaekit.data import Dataset, split
from vaekit.errors import ConfigError, DataError
from vaekit.estimators.base import VAEEstimator
from vaekit.estimators.shared import Shared, spelled_out
from vaekit.estimators.tables import given_back
from vaekit.queries import Classification
from vaekit.runs import Calibration, Run
from vaekit.runs.calibration import nearest
from vaekit.runs.classes import classes_of, classified
from vaekit.runs.folder import HeldOut
from vaekit.runs.rows import of_new_cells

_SEEDS = 50  # of rules that hold rows out, of which the fairest to the classes is taken
_MOST_ROWS = 20_000  # beyond which any rule is fair
Priors = Sequence[float] | Mapping[Any, float] | np.ndarray | None


class VAEClassifier(ClassifierMixin, VAEEstimator):  # type: ignore[misc]
    r"""Classes by Bayes' rule: \( p(y|x) = p(x|y)\, p(y) / \sum_{y'} p(x|y')\, p(y') \) (equation 13.1).

    One conditional VAE has the densities of all classes. Beside p(y|x) it knows log p(x), by which a row is seen that
    is like no class (`is_unlike`), draws rows of a class (`sample`), takes other shares of the classes without a new
    fit (`set_priors`), and bears words and holes. Where classes are all that is asked for and rows are many, a
    discriminative classifier is often ahead.

    `calibrate` divides log p(x|y) by one temperature, which the held-out rows chose: a density that is a little off in
    each of many columns is far too sure of its classes.

    References:
        Kingma et al., "Semi-supervised learning with deep generative models", 2014, https://arxiv.org/abs/1406.5298.
        Ng & Jordan, "On discriminative vs. generative classifiers", 2001,
        https://papers.nips.cc/paper/2020 (when which is ahead).
        Guo et al., "On calibration of modern neural networks", 2017, https://arxiv.org/abs/1706.04599 (temperature).
        Saerens et al., "Adjusting the outputs of a classifier to new a priori probabilities", 2002,
        https://doi.org/10.1162/089976602753284446 (label shift).

    Args:
        priors: p(y), in the order of `classes_` or by class; None takes the shares of the rows of the fit, one row
            added to each class. It may be changed after `fit`.
        calibrate: whether probabilities are those of the temperature; it may be changed after `fit`.
        conditions: where the class enters, of "prior", "posterior" and "likelihood"; None is the last two.
        conditioning: "concat" or "film"; None is "concat".
        **shared: see `VAEEstimator`, which names them all. `preset` is a conditional one; None is "conditional-vae".

    Attributes:
        classes_: the classes, ascending, shape (L,).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> y = np.repeat(["u", "v"], [90, 30])
        >>> X = rng.normal(size=(120, 2)) + 4 * (y == "v")[:, None]
        >>> model = VAEClassifier(hidden=8, max_epochs=2, random_state=0).fit(X, y)
        >>> model.predict([[0.0, 0.3], [4.0, 3.5]]).tolist(), model.score(X, y) > 0.95
        (['u', 'v'], True)
        >>> model.is_unlike([[0.0, 0.3], [40.0, -40.0]]).tolist()
        [False, True]
        >>> model.sample(["u", "v"]).shape
        (2, 2)
    """

    classes_: np.ndarray
    _own_settings = ("conditions", "conditioning")
    _default_preset = "conditional-vae"

    @spelled_out
    def __init__(
        self,
        *,
        priors: Priors = None,
        calibrate: bool = True,
        conditions: tuple[str, ...] | None = None,
        conditioning: str | None = None,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(**shared)
        self.priors, self.calibrate = priors, calibrate
        self.conditions, self.conditioning = conditions, conditioning

    # --- Fitting -----------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # type: ignore[override]
        """Fit the densities of the classes.

        Args:
            X: as in the other estimators.
            y: the class of each row, shape (N,): integers, words or bools, two classes or more.
            sample_weight: weight of each row in the loss, shape (N,), not negative; the shares of the classes count
                rows, not weights.

        Raises:
            ValueError: if labels are fractions, some are missing, all are alike, or there are more or fewer than rows.
            ConfigError: if `priors` are no shares of these classes.

        Warns:
            UserWarning: A class has no row to train on, as all of them are held out.
        """
        return self._fit_labelled(X, y, sample_weight, self._known if self.warm_start else None)

    def partial_fit(  # type: ignore[override]
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> Self:
        """Fit the densities of the classes, or go on from the fitted ones with further rows; see the other estimators.

        Args:
            X: as in `fit`, with the columns of the first call.
            y: the class of each row; later calls may have some of the classes of the first one, and no other.
            classes: the classes, which the rows of the first call have to show; of no use in later ones.
            sample_weight: as in `fit`.

        Raises:
            ValueError: as in `fit`; also if the first call has no row of a class, or a later one a row of another.
        """
        start = self._known
        if start is None and classes is not None:
            lacking = sorted(set(np.asarray(classes).tolist()) - set(np.unique(y).tolist()))
            if lacking:
                raise DataError(f"the first call has no row of the class {lacking[0]!r}, whose density it is to learn")
        return self._fit_labelled(X, y, sample_weight, start)

    def _fit_labelled(self, X: Any, y: Any, sample_weight: Any, start: Run | None) -> Self:
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        self._labels = self._read_labels(y) if start is None else self._known_labels(y)
        try:
            return self._fit(X, sample_weight, start)
        finally:
            del self._labels

    def _known_labels(self, y: Any) -> np.ndarray:
        """The labels of further rows, which are of the classes of the fit."""
        values = column_or_1d(y.to_numpy() if hasattr(y, "to_numpy") else y, warn=True)
        known = self.classes_.tolist()
        strange = [value for value in values.tolist() if value not in known]
        if strange:
            raise DataError(f"a row has the class {strange[0]!r}, and the fit knows {', '.join(map(repr, known))}")
        kind = self.classes_.dtype.kind
        return np.asarray(values).astype(np.int64 if kind in "biuf" else np.str_)

    def _read_labels(self, y: Any) -> np.ndarray:
        """The labels as a data set takes them; `classes_` are set."""
        values = column_or_1d(y.to_numpy() if hasattr(y, "to_numpy") else y, warn=True)
        missing = _missing(values)
        if missing.any():
            raise DataError(
                f"row {int(missing.argmax())} has no label, and {int(missing.sum())} are without one in all: a "
                "conditional model is fitted to labelled rows. Leave out the others."
            )
        if values.dtype.kind == "f" and np.isinf(values).any():
            raise DataError(f"row {int(np.isinf(values).argmax())} has the label inf; labels are integers or words")
        check_classification_targets(values)
        classes, codes = np.unique(values, return_inverse=True)
        if len(classes) < 2:
            what = f"one class, {classes[0]!r}" if len(classes) else "no class and no row"
            raise DataError(f"y has {what}: a classifier needs two classes or more to tell apart")
        if len(classes) > 2 and classes.dtype.kind in "if" and classes[0] == -1:
            raise DataError(
                f"y has the label -1 beside {len(classes) - 1} classes, which marks rows without a label where labels "
                "are few; this model is fitted to labelled rows. Leave those rows out, or give the class another name."
            )
        self.classes_ = classes
        kind = classes.dtype.kind
        named = classes.astype(np.int64) if kind in "biuf" else classes.astype(np.str_)
        return named[codes]

    def _rows_to_fit(self, X: Any, sample_weight: Any, start: Run | None) -> Dataset:
        rows = super()._rows_to_fit(X, sample_weight, start)
        if len(rows) != len(self._labels):
            raise ValueError(
                f"Found input variables with inconsistent numbers of samples: {len(rows)} rows and "
                f"{len(self._labels)} labels"
            )
        return replace(rows, labels=self._labels)

    def _fitted(self, rows: Dataset, start: Run | None) -> Run:
        self._shares(len(self.classes_))
        run = super()._fitted(rows, start)
        classes_of(run.data.context_schema)
        return run

    def _rule(self, rows: Dataset) -> HeldOut:
        return _fair(super()._rule(rows), np.unique(self._labels, return_inverse=True)[1])

    def _settle(self, rows: Dataset | None) -> None:
        levels = classes_of(self.run_.data.context_schema)
        if not hasattr(self, "classes_") or len(self.classes_) != len(levels):
            self.classes_ = np.array(levels)
        self._shares(len(levels))

    @classmethod
    def from_fitted(cls, other: Any, **params: Any) -> Self:
        """An estimator of this kind over a model that is fitted already; see `VAEEstimator.from_fitted`.

        Raises:
            ConfigError: if the run is not one of a table whose model is conditioned on a single label.
        """
        made = super().from_fitted(other, **params)
        if isinstance(other, VAEClassifier):
            made.classes_ = other.classes_
        return made

    # --- Answers -----------------------------------------------------------------------------------------------------

    def set_priors(self, priors: Priors = None) -> Self:
        """Take other shares of the classes, as after a shift of labels, without a fit; None takes those of the fit.

        Raises:
            ConfigError: unless they are a share of each class that is not negative, and sum to 1.
        """
        check_is_fitted(self, "run_")
        before, self.priors = self.priors, priors
        try:
            self._shares(len(self.classes_))
        except ConfigError:
            self.priors = before
            raise
        return self

    @property
    def class_priors_(self) -> np.ndarray:
        """p(y) in the order of `classes_`, shape (L,)."""
        check_is_fitted(self, "run_")
        own = self._shares(len(self.classes_))
        fitted: np.ndarray = self.run_.model.log_proportions.double().exp().cpu().numpy()
        return fitted / fitted.sum() if own is None else own

    @property
    def temperature_(self) -> float:
        """What log p(x|y) is divided by in p(y|x)."""
        check_is_fitted(self, "run_")
        return self.run_.temperature if self.calibrate else 1.0

    def _shares(self, num_classes: int) -> np.ndarray | None:
        """The parameter `priors` as shares in the order of the classes."""
        given = self.priors
        if given is None:
            return None
        if isinstance(given, Mapping):
            known = self.classes_.tolist()
            if set(given) != set(known):
                raise ConfigError(f"priors have a share for each of the classes {known}; got {list(given)}")
            given = [given[name] for name in known]
        shares = np.asarray(given, dtype=np.float64)
        if shares.shape != (num_classes,) or not (shares >= 0).all() or abs(shares.sum() - 1) > 1e-6:
            raise ConfigError(
                f"priors are the shares of {num_classes} classes, not negative, and sum to 1; got {shares.tolist()}"
            )
        return shares

    def _classified(self, rows: Dataset) -> Classification:
        how: dict[str, Any] = {"temperature": self.temperature_, "proportions": self.class_priors_}
        return classified(self._run.model, rows, num_samples=self._num_draws(len(rows)), **how)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """log p(y|x) of each row and class, in the order of `classes_`: shape (N, L), nats."""
        return self._classified(self._rows(X)).log_probabilities.numpy()

    def predict_proba(self, X: Any) -> np.ndarray:
        """p(y|x) of each row and class, in the order of `classes_`: shape (N, L).

        The noise of a row is a function of its content: a row has the same probabilities alone and among others.
        """
        return self._classified(self._rows(X)).probabilities.numpy()

    def predict_proba_stderr(self, X: Any) -> np.ndarray:
        """Monte Carlo standard error of each p(y|x), to first order: shape (N, L)."""
        stderr: np.ndarray = self._classified(self._rows(X)).stderr.numpy()
        return stderr

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row, shape (N,)."""
        codes = self._classified(self._rows(X)).codes.numpy()
        predicted: np.ndarray = self.classes_[codes]
        return predicted

    def _score(self, rows: Dataset) -> np.ndarray:
        """log p(x) = log sum_y p(x|y) p(y) of each row."""
        scores = self._classified(rows).log_p.numpy() + of_new_cells(rows, self.run_.data.num_rows or 0)[0]
        return np.where(np.isnan(scores), -np.inf, scores)

    @property
    def calibration_(self) -> Calibration:
        """log p(x) of the held-out rows, under the shares of the fit.

        Raises:
            ConfigError: if the run does not say, as those of older versions.
        """
        check_is_fitted(self, "run_")
        known = self.run_.class_calibrations
        if not known:
            raise ConfigError("the run does not say what log p(x) is of rows that were not trained on; fit anew")
        return nearest(known, self._num_draws(self.run_.data.num_rows or 0))

    def p_values(self, X: Any) -> np.ndarray:
        """The conformal p-value of each row, shape (N,): its rank among held-out rows by log p(x); see `Calibration`.

        log p(x) is taken under the shares of the classes in the fit, whatever `priors` are.
        """
        rows, calibration = self._rows(X), self.calibration_
        found = self._classified(rows)
        own = found.under(self.run_.model.log_proportions.double().exp().cpu())
        log_p = own.log_p.numpy() + of_new_cells(rows, self.run_.data.num_rows or 0)[0]
        return calibration.p_values(calibration.comparable(log_p, rows.x))

    def is_unlike(self, X: Any, rate: float | None = None) -> np.ndarray:
        """Whether a row is unlike all classes, shape (N,), bool: its conformal p-value is at most `rate`.

        Args:
            X: rows.
            rate: share of rows like those of the fit that may be called so; None is 5%, or 1 / (n + 1) where fewer than
                n = 19 rows were held out.

        Raises:
            ConfigError: if the rate is none.
        """
        if rate is not None and not 0 < rate < 1:
            raise ConfigError(f"rate is a share above 0 and below 1; got {rate}")
        stands_for = self.calibration_.threshold(rate)[1]
        return np.asarray(self.p_values(X) <= stands_for + 1e-12)

    def sample(self, n: Any = 1, y: Any = None, *, random_state: Any = None) -> Any:
        """Rows drawn from p(x|y), or from p(x) where no class is given.

        Args:
            n: number of rows; or the class of each row, in the place of y.
            y: the class of all n rows, or of each of them, shape (n,).
            random_state: source of the noise; None is that of the estimator.

        Returns:
            The rows in the form of X.

        Raises:
            ConfigError: if a class is none of `classes_`, or there are more or fewer than rows.
        """
        check_is_fitted(self, "run_")
        if y is None and np.ndim(n):
            y, n = n, len(n)
        seed = self._seed(random_state)
        drawn = self.run_.sample_under(self._codes_of(y, n, seed)[:, None], seed=seed)
        return given_back(replace(drawn, front={}), self.layout_)

    def _codes_of(self, y: Any, n: int, seed: int) -> np.ndarray:
        """The codes of the classes of n rows, shape (n,)."""
        if y is None:
            rng = np.random.default_rng([seed, 1])
            return np.asarray(rng.choice(len(self.classes_), n, p=self.class_priors_), dtype=np.float64)
        wanted = np.asarray(y) if np.ndim(y) else np.repeat(np.asarray([y]), n)
        if len(wanted) != n:
            raise ConfigError(f"y is the class of all {n} rows, or of each of them; got {len(wanted)}")
        known = self.classes_.tolist()
        strange = [name for name in wanted.tolist() if name not in known]
        if strange:
            raise ConfigError(f"there is no class {strange[0]!r}; the fit knows {', '.join(map(repr, known))}")
        return np.array([known.index(name) for name in wanted.tolist()], dtype=np.float64)


def _missing(y: np.ndarray) -> np.ndarray:
    """Which labels are None or NaN, shape (N,), bool."""
    if y.dtype.kind == "f":
        return np.asarray(np.isnan(y))
    if y.dtype.kind != "O":
        return np.zeros(len(y), dtype=bool)
    return np.array([value is None or type(value).__name__ == "NAType" or value != value for value in y.tolist()])


def _fair(rule: HeldOut, codes: np.ndarray) -> HeldOut:
    """The rule under whose seed each class is trained on, and has its share of the held-out rows, as far as can be."""
    num_rows, counts = len(codes), np.bincount(codes)
    expected = counts * rule.fraction

    def unfairness(seed: int) -> tuple[int, float]:
        train, held_out = split(num_rows, (1 - rule.fraction, rule.fraction), seed)
        lost = int((np.bincount(codes[train], minlength=len(counts)) == 0).sum())
        return lost, float(np.abs(np.bincount(codes[held_out], minlength=len(counts)) - expected).sum())

    seeds = range(rule.seed, rule.seed + (_SEEDS if num_rows <= _MOST_ROWS else 1))
    return rule.model_copy(update={"seed": min(seeds, key=unfairness)})
