"""Missing values: what the observed cells of a row say of the others."""

from dataclasses import replace
from typing import Any, Literal, Unpack

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from vaekit.data import Dataset
from vaekit.estimators.base import VAEEstimator
from vaekit.estimators.shared import Shared, spelled_out
from vaekit.estimators.tables import Layout, columns_of, given_back, with_holes
from vaekit.frames import as_frame
from vaekit.runs import Table


class VAEImputer(TransformerMixin, VAEEstimator):  # type: ignore[misc]
    r"""Fills of missing values: \( E[x_j | \text{observed cells}] \), and draws where several are wanted.

    Fills rest on importance-weighted draws from q(z|x_observed): means of numbers, or medians, and the most probable
    levels; of grades that are numbers the level nearest to the mean. Observed cells stay bit for bit. `impute(X,
    num_draws=m)` gives m tables that are draws, for statistics of filled tables: fills have too little spread.
    `vaekit.queries.pool` combines these (Rubin's rules). Missing at random is assumed: given the observed cells, it
    must not depend on a hidden value whether it is hidden.

    Unlike other imputers of scikit-learn it gives back data frames for data frames, since cells may hold words, unless
    `set_output` says otherwise. A column without a single value stays empty, and so do holes in free text.

    References:
        Mattei and Frellsen, "MIWAE: deep generative modelling and imputation of incomplete data sets", 2019,
        https://arxiv.org/abs/1812.02633.

    Args:
        missing_values: a cell that means "not observed", beside NaN and null.
        statistic: "mean" or "median" of numbers.
        add_indicator: whether to add a column for each column that had holes in the fit: 1 where a cell was empty.
        **shared: see `VAEEstimator`, which names them all.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(200, 1))
        >>> X = np.hstack([x, 2 * x]) + 5.0
        >>> X[::5, 1] = np.nan
        >>> imputer = VAEImputer(latent_dim=1, max_epochs=200, compile="off", random_state=0).fit(X)
        >>> bool(np.isnan(imputer.transform(X)).any()), len(imputer.impute(X, num_draws=3))
        (False, 3)
    """

    indicated_: tuple[str, ...]

    @spelled_out
    def __init__(
        self,
        *,
        missing_values: Any = np.nan,
        statistic: Literal["mean", "median"] = "mean",
        add_indicator: bool = False,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(**shared)
        self.missing_values, self.statistic, self.add_indicator = missing_values, statistic, add_indicator

    def _prepared(self, X: Any) -> Any:
        return with_holes(X, self.missing_values)

    def _settle(self, rows: Dataset | None) -> None:
        about = self.run_.training_rows
        if rows is not None:
            holes = np.isnan(rows.x).any(axis=0)
            self.indicated_ = tuple(name for name, has in zip(rows.columns or (), holes, strict=True) if has)
        else:
            known = about.columns if about is not None and about.per_element else ()
            self.indicated_ = tuple(column.name for column in known if column.missing)

    def transform(self, X: Any) -> Any:
        """X with its holes filled, in its own form: shape (N, D), and a column more for each indicator."""
        rows, layout = self._read(X)
        return self._given_back(self._imputed(rows, None, 0), layout, rows)

    def impute(self, X: Any, num_draws: int, *, random_state: Any = None) -> list[Any]:
        """Several imputations that are draws from p(hidden cells | observed cells).

        Args:
            X: rows with holes.
            num_draws: how many tables.
            random_state: source of the noise; None is that of the estimator.

        Returns:
            Tables in the form of X, each as `transform` gives one.
        """
        rows, layout = self._read(X)
        table = self._imputed(rows, num_draws, self._seed(random_state))
        parts = table.values.reshape(num_draws, len(rows), *table.values.shape[1:])
        tables = [replace(table, values=part, front={}, reasons={}, frame=rows.frame) for part in parts]
        return [self._given_back(each, layout, rows) for each in tables]

    def intervals(self, X: Any, level: float = 0.95, *, random_state: Any = None) -> tuple[Any, Any]:
        """Lower and upper ends of intervals of the hidden cells, in the form of X; empty where a cell was observed.

        Args:
            X: rows with holes.
            level: the probability with which a hidden cell lies in its interval, as far as the model is right.
            random_state: source of the noise; None is that of the estimator.
        """
        rows, layout = self._read(X)
        ends = self._run.intervals(rows, level, self._num_draws(len(rows)), self._seed(random_state))
        lower, upper = (given_back(table, layout) for table in ends)
        return lower, upper

    def _imputed(self, rows: Dataset, num_draws: int | None, seed: int) -> Table:
        return self._run.impute(rows, self._num_draws(len(rows)), num_draws, self.statistic, seed)

    def _given_back(self, table: Table, layout: Layout, rows: Dataset) -> Any:
        filled = given_back(table, layout)
        if not (self.add_indicator and self.indicated_):
            return filled
        names = rows.columns or columns_of(self.run_)
        hole = {_indicator(name): np.isnan(rows.x[:, names.index(name)]) for name in self.indicated_}
        if not layout.is_frame:
            return np.column_stack([filled, *hole.values()])
        import narwhals as nw

        frame = as_frame(filled)
        new = [nw.new_series(name, values.tolist(), backend=frame.implementation) for name, values in hole.items()]
        native = frame.with_columns(*new).to_native()
        return native

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns that `transform` gives: those of X, and `missingindicator_NAME`."""
        check_is_fitted(self, "run_")
        names = _check_feature_names_in(self, input_features)
        own = [_indicator(name) for name in self.indicated_] if self.add_indicator else []
        return np.array([*names, *own], dtype=object)


def _indicator(name: str) -> str:
    return f"missingindicator_{name}"
