"""Outliers: log p(x) as a detector of scikit-learn, with p-values that are valid."""

from typing import Any, Literal, Self, Unpack

import numpy as np
import torch
from sklearn.base import OutlierMixin
from sklearn.utils.validation import check_is_fitted

from vaekit.data import Dataset
from vaekit.errors import ConfigError
from vaekit.estimators.base import VAEEstimator
from vaekit.estimators.shared import Shared, spelled_out
from vaekit.estimators.tables import columns_of
from vaekit.queries import score_elements
from vaekit.runs import Calibration
from vaekit.runs.detection import calibration_for


class VAEDetector(OutlierMixin, VAEEstimator):  # type: ignore[misc]
    r"""Rows unlike the others: outliers are rows of low log p(x).

    A share of the rows is held out of training (`validation_fraction`), and a row's conformal p-value is its rank among
    them: of rows like those of the fit at most a share of a has p <= a, whatever the model is worth. With
    `contamination="auto"` outliers are rows with p <= 5% (or p <= 1 / (n + 1) where fewer than n = 19 rows were held
    out). A rate instead calls that share of the rows of the fit outliers, as other detectors of scikit-learn do.

    Training sets hold outliers themselves, and a flexible model learns them. So the fit is done twice: the second one
    leaves out the share `trim` of the rows that the first one found oddest, as the key `trim` of `vaekit fit` does.
    Rows are calibrated on all held-out rows, trimmed ones too: p-values are valid beside rows that are as contaminated
    as those.

    References:
        Bates et al., "Testing for outliers with conformal p-values", 2023, https://arxiv.org/abs/2104.08279.
        Merrill and Eskandarian, "Modified autoencoder training and scoring for robust unsupervised anomaly detection
        in deep learning", 2020, https://doi.org/10.1109/ACCESS.2020.2997327 (leaving out the oddest rows).

    Args:
        contamination: "auto", or the share of outliers among the rows of the fit, above 0 and at most 0.5.
        trim: share of the rows that the second fit leaves out; 0 fits once.
        **shared: see `VAEEstimator`, which names them all.

    Attributes:
        offset_: the log p below which a row is an outlier, nats.
        calibration_: `vaekit.runs.Calibration`: log p of the held-out rows.

    Example:
        >>> X = np.random.default_rng(0).normal(size=(200, 3))
        >>> detector = VAEDetector(hidden=8, max_epochs=5, compile="off", random_state=0).fit(X)
        >>> detector.predict([[0.0, 0.1, -0.2], [9.0, -9.0, 9.0]]).tolist()
        [1, -1]
        >>> detector.p_values([[9.0, -9.0, 9.0]]).round(3).tolist()  # 1 / (20 + 1)
        [0.048]
    """

    offset_: float
    calibration_: Calibration
    _models_holes = True

    @spelled_out
    def __init__(
        self, *, contamination: float | Literal["auto"] = "auto", trim: float = 0.1, **shared: Unpack[Shared]
    ) -> None:
        super().__init__(**shared)
        self.contamination, self.trim = contamination, trim

    def _settings(self) -> dict[str, Any]:
        self._check_rates()
        # A mixture in the place of N(0, I) would give groups of outliers components of their own.
        prior = {"fit_prior": False} if self.fit_prior is None else {}
        return super()._settings() | prior | ({"trim": self.trim} if self.trim else {})

    def _check_rates(self) -> None:
        rate = self.contamination
        if rate != "auto" and not (isinstance(rate, float | int) and 0 < rate <= 0.5):
            raise ConfigError(f'contamination is "auto" or a share above 0 and at most 0.5; got {rate!r}')
        if not 0 <= self.trim < 1:
            raise ConfigError(f"trim is a share of the rows, 0 or more and below 1; got {self.trim!r}")

    def _settle(self, rows: Dataset | None) -> None:
        self._check_rates()
        num_rows = self.run_.data.num_rows or 0
        self.calibration_ = calibration_for(self.run_, self._num_draws(num_rows))
        if self.contamination == "auto" or rows is None:
            self.set_threshold(None if self.contamination == "auto" else float(self.contamination))
        else:
            self.offset_ = float(np.percentile(self._comparable(rows), 100 * self.contamination))

    def _comparable(self, rows: Dataset) -> np.ndarray:
        """log p of rows less what their holes add to it, shape (N,)."""
        return self.calibration_.comparable(self._score(rows), rows.x)

    def set_threshold(self, rate: float | None = None, *, log_p: float | None = None) -> Self:
        """Another threshold for the same model.

        Args:
            rate: share of rows like the held-out ones that may be called outliers, by their p-values; None is that of
                `contamination="auto"`.
            log_p: the log p, less what holes add, below which a row is an outlier, instead.

        Raises:
            ConfigError: if the rate is none, or both are given.
        """
        check_is_fitted(self, "calibration_")
        if rate is not None and (log_p is not None or not 0 < rate < 1):
            raise ConfigError(f"rate is a share above 0 and below 1, and stands without log_p; got {rate}")
        self.offset_ = self.calibration_.threshold(rate)[0] if log_p is None else float(log_p)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """log p(x) above the threshold, nats, shape (N,): negative for outliers.

        What the holes of a row add to log p on average is taken off; see `Calibration`.
        """
        scores = self._comparable(self._rows(X))
        return scores - self.offset_ if np.isfinite(self.offset_) else np.full(len(scores), np.inf)

    def predict(self, X: Any) -> np.ndarray:
        """-1 for outliers, 1 for other rows, shape (N,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X: Any) -> np.ndarray:
        """The conformal p-value of each row, shape (N,); see `Calibration`. It does not depend on the threshold."""
        return self.calibration_.p_values(self._comparable(self._rows(X)))

    def score_features(self, X: Any) -> np.ndarray:
        """-log p(x_j | the other cells) of each cell, nats, shape (N, D): what made a row odd.

        NaN in holes, and in columns that are no part of the model (constants, identifiers, free text). Densities have
        units; `vaekit.queries.score_elements` has the expected value and an interval beside each cell, and
        `run_.detect` says it in words.
        """
        rows, run = self._rows(X), self._run
        noise = torch.Generator().manual_seed(0)
        found = score_elements(run.model, rows, self._num_draws(len(rows)), generator=noise)
        names = columns_of(run)
        result = np.full((len(rows), len(names)), np.nan)
        for name, surprisal in zip(rows.columns or names, found.surprisal.numpy().T, strict=True):
            if name in names:  # all but the marks of holes
                result[:, names.index(name)] = surprisal
        return result
