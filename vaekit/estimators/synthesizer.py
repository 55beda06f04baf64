"""Synthetic rows: draws from p(x), and from p(x | some cells)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Unpack

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from vaekit import engine
from vaekit.data import Dataset
from vaekit.data.column import WITH_LEVELS
from vaekit.errors import ConfigError
from vaekit.estimators.base import VAEEstimator
from vaekit.estimators.shared import Shared, spelled_out
from vaekit.estimators.tables import columns_of, given_back
from vaekit.evaluation.samples.closest import ClosestRecords, closest_records
from vaekit.runs import Table


class VAESynthesizer(VAEEstimator):
    """Rows like those of the fit: draws, none of whose cells is taken by argmax.

    Rows come in the form of X: names, dtypes, rounding and bounds are those of the table. Identifiers are counted anew,
    constants filled in, free text is empty.

    References:
        Xu et al., "Modeling tabular data using conditional GAN", 2019, https://arxiv.org/abs/1907.00503 (TVAE).

    Args:
        **shared: see `VAEEstimator`, which names them all.

    Example:
        >>> import pandas as pd
        >>> rng = np.random.default_rng(0)
        >>> X = pd.DataFrame({"kind": rng.choice(["u", "v"], 80), "size": rng.normal(size=80).round(2)})
        >>> rows = VAESynthesizer(hidden=8, max_epochs=2, compile="off", random_state=0).fit(X).sample(3)
        >>> list(rows.columns), rows.shape, bool(rows["kind"].isin(["u", "v"]).all())
        (['kind', 'size'], (3, 2), True)
    """

    @spelled_out
    def __init__(self, **shared: Unpack[Shared]) -> None:
        super().__init__(**shared)

    def sample(
        self,
        n: int = 1,
        given: Mapping[Any, Any] | None = None,
        *,
        balance: Any = None,
        random_state: Any = None,
    ) -> Any:
        """Rows drawn from p(x), or from p(other cells | given cells).

        Args:
            n: number of rows.
            given: cells that all rows have, by column (of an array by its number).
            balance: a column with levels, each of which gets as many rows as the others, whatever its share in the
                data; rows come in random order.
            random_state: source of the noise; None is that of the estimator, with which an int gives the same rows
                each time.

        Returns:
            n rows in the form of X.

        Raises:
            ConfigError: if there is no such column, it cannot have such a cell, or it has no levels to balance.
            DataError: if the model gives the condition no mass.
        """
        check_is_fitted(self, "run_")
        seed = self._seed(random_state)
        named = {self._name(column): cell for column, cell in (given or {}).items()}
        table = self._drawn(n, named, seed) if balance is None else self._balanced(n, named, self._name(balance), seed)
        return given_back(table, self.layout_)

    def _drawn(self, n: int, given: Mapping[str, Any], seed: int) -> Table:
        return self.run_.sample(n, given=given, seed=seed) if given else self.run_.sample(n, seed=seed)

    def _balanced(self, n: int, given: Mapping[str, Any], name: str, seed: int) -> Table:
        schema = self.run_.data.columns_schema
        column = None if schema is None else schema[name]
        if column is None or column.kind not in WITH_LEVELS or name in given:
            why = "is given" if name in given else "has no levels" if column is None else f"is {column.kind}"
            raise ConfigError(f"balance takes a column with levels that is not given; {name!r} {why}")
        shares = [len(part) for part in np.array_split(np.arange(n), len(column.levels))]
        tables = [
            self._drawn(share, {**given, name: level}, engine.block_seed(seed, i))
            for i, (level, share) in enumerate(zip(column.levels, shares, strict=True))
            if share
        ]
        order = check_random_state(seed % 2**32).permutation(n)
        return replace(tables[0], values=np.concatenate([table.values for table in tables])[order])

    def _name(self, column: Any) -> str:
        """The column in the words of the schema: that of an array may be told by its number."""
        names = columns_of(self.run_)
        if column not in names and isinstance(column, int | np.integer) and 0 <= column < len(names):
            return names[column]
        return str(column)

    def sample_like(self, X: Any, *, random_state: Any = None) -> Any:
        """Rows that complete partial ones: the cells of X stay, each hole gets a draw, a row's holes together.

        Args:
            X: rows with NaN or null in the cells that are to be drawn.
            random_state: see `sample`.
        """
        rows, layout = self._read(X)
        table = self.run_.impute(rows, self._num_draws(len(rows)), 1, seed=self._seed(random_state))
        return given_back(replace(table, front={}), layout)

    def privacy(self, X: Any, held_out: Any, *, n: int | None = None, random_state: Any = None) -> ClosestRecords:
        """Whether synthetic rows lie nearer to the rows of the fit than to other rows of their kind.

        Distances are Euclidean over numbers in units of their standard deviations and levels as 0 or 1; a hole lies at
        the mean. It is a check against rows known by heart, and no proof of privacy.

        Args:
            X: rows of the fit.
            held_out: rows of the same kind that the fit did not see, the more the better.
            n: synthetic rows to draw; None takes as many as are held out, 1,000 at least.
            random_state: see `sample`.

        Returns:
            See `vaekit.evaluation.samples.closest.ClosestRecords`.
        """
        known, others = self._rows(X), self._rows(held_out)
        seed = self._seed(random_state)
        made = self.run_.sample(n or max(1000, len(others)), seed=seed).values
        places = _Places(known, others)
        return closest_records(*(places.of(np.asarray(x)) for x in (made, known.x, others.x)), seed=seed % 2**32)


class _Places:
    """Rows as points of a space in which distances mean something: numbers standardised, levels in corners."""

    def __init__(self, *known: Dataset) -> None:
        x = np.concatenate([np.asarray(rows.x, np.float64) for rows in known])
        schema = known[0].schema
        columns = [None] * x.shape[1] if schema is None else schema.modelled
        self.num_codes = [0 if c is None or c.kind not in WITH_LEVELS else c.num_codes for c in columns]
        self.mean, spread = np.nanmean(x, axis=0), np.nanstd(x, axis=0)
        self.spread = np.where(spread > 0, spread, 1.0)

    def of(self, x: np.ndarray) -> np.ndarray:
        """Points of rows (N, D)."""
        z = np.nan_to_num((x - self.mean) / self.spread)
        parts = [
            (x[:, [j]] == np.arange(num)) / np.sqrt(2) if num else z[:, [j]] for j, num in enumerate(self.num_codes)
        ]
        return np.concatenate(parts, axis=1)
