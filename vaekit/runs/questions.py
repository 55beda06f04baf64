"""What a run answers beside scores and draws: what stood in holes, what goes with given cells, which cells are odd.

And which component of the prior a row comes from.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vaekit import evaluation, queries
from vaekit.data import Dataset
from vaekit.data.cells import naming_cells
from vaekit.errors import ConfigError, DataError, NonFiniteError
from vaekit.frames import as_frame
from vaekit.models import checks
from vaekit.models.rows import as_tensor
from vaekit.models.view import View
from vaekit.queries.cells import Statistic
from vaekit.runs.folder import DataAbout
from vaekit.runs.given import partial_row, split_given
from vaekit.runs.table import Table, check_key, element_names
from vaekit.traits import Data

SHARE = "share_"
"""What stands before a column's name where -log p(x_j | the others) is meant."""


class TableQuestions(ABC):
    """Questions about single cells of rows; a mixin of `Run`."""

    data: DataAbout
    called: str

    @property
    @abstractmethod
    def model(self) -> Any:
        """The model."""

    @abstractmethod
    def _asked(self, rows: Data) -> Dataset:
        """The rows of a question."""

    @abstractmethod
    def _in_units(self, x: Tensor) -> np.ndarray:
        """Values of shape (N, *X) as an answer has them."""

    @abstractmethod
    def _view(self, rows: Dataset) -> View:
        """The rows as the model meets them."""

    def impute(
        self,
        rows: Data,
        num_samples: int = 100,
        num_draws: int | None = None,
        statistic: Statistic = "mean",
        seed: int = 0,
        *,
        progress: bool = False,
    ) -> Table:
        """The rows with their holes filled, or `num_draws` such tables one after another, under a column `draw`.

        Of a run with a schema, frames and files hold the columns of the rows as they were read, free text and all:
        cells that were observed stay as they are, and cells that are filled have the column's levels, rounding and
        bounds. Other runs answer with numbers, whole ones where the column is whole. It is assumed that cells are
        missing at random; see `queries.impute`.

        Args:
            rows: a data set, as `rows` gives it, or what `rows` makes one of.
            num_samples: K, draws of z per row.
            num_draws: M, imputations that are draws; None makes one table of means or medians, most probable levels,
                and for ordinal columns of numbers, the levels nearest to the means.
            statistic: "mean" or "median" of numbers.
            seed: source of all noise.
            progress: whether to report on stderr.

        Returns:
            N rows, or M times N; `notes` say what was filled and assumed, `reasons` which rows not to believe.

        Raises:
            DataError: if the rows do not fit the model, or have holes that it cannot bear.
        """
        rows = self._asked(rows)
        with naming_cells(rows):
            found = queries.impute(
                self.model,
                self._view_with_holes(rows),
                num_samples,
                num_draws,
                statistic=statistic,
                level_values=None if self.data.columns_schema is None else self.data.columns_schema.level_values,
                generator=torch.Generator().manual_seed(seed),
                progress=progress,
            )
        num = 1 if num_draws is None else num_draws
        tables = found.filled.unsqueeze(0) if found.draws is None else found.draws
        hole = ~found.lower.isnan()
        values = self._rounded(tables.flatten(0, 1), hole.repeat(num, *[1] * (hole.ndim - 1)))
        front = {} if num_draws is None else {"draw": np.repeat(np.arange(1, num + 1), len(rows))}
        few = found.unreliable.numpy()
        reasons = {f"fewer than {queries.FEWEST} effective draws of z": np.tile(few, num)} if few.any() else {}
        columns = rows.columns or element_names(rows.event_shape, "x")
        made = Table(values, columns, reasons=reasons, notes=_said(found, statistic, rows), front=front)
        if rows.schema is not None and rows.frame is not None:
            frame = rows.frame[np.tile(np.arange(len(rows)), num).tolist()] if num_draws else rows.frame
            return replace(made, schema=rows.schema, frame=frame)
        key, keys = (None, None) if rows.keys is None else (rows.key, np.tile(rows.keys, num))
        return replace(made, key=key, keys=keys, schema=self.data.columns_schema)

    def intervals(self, rows: Data, level: float = 0.95, num_samples: int = 100, seed: int = 0) -> tuple[Table, Table]:
        """Lower and upper ends of intervals that hold each empty cell with a probability; see `queries.impute`.

        Args:
            rows: as in `impute`.
            level: the probability, of which as much is left out on either side.
            num_samples: K, draws of z per row.
            seed: source of all noise.

        Returns:
            Two tables of N rows: cells in holes, and nothing where a cell was observed.
        """
        rows = self._asked(rows)
        with naming_cells(rows):
            noise = torch.Generator().manual_seed(seed)
            view = self._view_with_holes(rows)
            found = queries.impute(self.model, view, num_samples, level=level, generator=noise)
        columns, schema = rows.columns or element_names(rows.event_shape, "x"), self.data.columns_schema
        lower = Table(found.lower.numpy(), columns, rows.key, rows.row_keys, schema=schema)
        return lower, replace(lower, values=found.upper.numpy())

    def score_elements(self, rows: Data, num_samples: int = 100, seed: int = 0, *, progress: bool = False) -> Table:
        """-log p(x_j | the other cells of its row) of each cell in nats: columns `share_NAME`; NaN in holes.

        See `queries.score_elements`, which also says what was to be expected in each cell.

        Args:
            rows: as in `impute`.
            num_samples: K, draws of z per cell.
            seed: source of all noise.
            progress: whether to report on stderr.
        """
        rows = self._asked(rows)
        columns = tuple(f"{SHARE}{name}" for name in rows.columns or element_names(rows.event_shape, "x"))
        check_key(rows.key, columns)
        with naming_cells(rows):
            found = queries.score_elements(
                self.model,
                self._view_with_holes(rows),
                num_samples,
                generator=torch.Generator().manual_seed(seed),
                progress=progress,
            )
        notes = [f"columns {SHARE}...: -log p(the cell | the other cells of its row) in nats, K = {num_samples}"]
        count = int(found.unreliable.sum())
        if count:
            notes.append(f"{count:,} shares rest on fewer than {queries.FEWEST} effective draws of z")
        return Table(found.surprisal.numpy(), columns, rows.key, rows.row_keys, notes=tuple(notes))

    def clusters(
        self,
        rows: Data,
        num_samples: int = 100,
        method: Literal["posterior", "importance"] = "posterior",
        seed: int = 0,
        *,
        progress: bool = False,
        transform_seed: int = 0,
    ) -> Table:
        """The most probable component of the prior for each row, and p(c|x) of all: `cluster`, `p_0`, `p_1`, ...

        See `queries.clusters`, which also gives their Monte Carlo errors. Where the rows have labels, `notes` say how
        well clusters agree with them.

        Args:
            rows: as in `impute`.
            num_samples: K, draws of z per row.
            method: "posterior" takes draws from q(z|x) as they are, "importance" weighs them.
            seed: source of all noise but that of a random transform.
            progress: whether to report on stderr.
            transform_seed: as in `Run.score`.

        Raises:
            ConfigError: if the prior has no components.
        """
        rows = self._asked(rows)
        with naming_cells(rows):
            view = self._view_with_holes(rows)
            view = view.under(transform_seed) if isinstance(view, View) else view
            noise = torch.Generator().manual_seed(seed)
            found = queries.clusters(self.model, view, num_samples, method=method, generator=noise, progress=progress)
        columns = ("cluster", *(f"p_{c}" for c in range(len(found.sizes))))
        check_key(rows.key, columns)
        values = torch.cat([found.cluster.double().unsqueeze(1), found.probabilities], 1).numpy()
        few = found.unreliable.numpy()
        reasons = {f"fewer than {queries.FEWEST} effective draws of z": few} if few.any() else {}
        notes = _said_of_clusters(found, rows.labels)
        return Table(values, columns, rows.key, rows.row_keys, reasons, notes, whole=("cluster",))

    def _sample_given(self, n: int, given: Data, seed: int, mean: bool = False, **how: Any) -> Table:
        """n rows that agree with `given`: values by column, or for each of some partial rows; see `Run.sample`."""
        model, said = self.model, ""
        front: dict[str, np.ndarray] = {}
        if isinstance(given, Mapping):
            context, given = split_given(given, self.data)
            if context is not None:
                model, front, said = self._under(torch.from_numpy(context))
            if context is not None and not given:
                return self.sample_under(np.repeat(context, n, 0), mean=mean, seed=seed)
            model = model if context is None else model.model.given(model.context[0])
        if mean:
            raise ConfigError("a condition on cells asks for draws; means of p(x|z) know none")
        columns = self.data.columns or element_names(self.data.event_shape or View.of(self.model).event_shape, "x")
        if isinstance(given, Mapping):
            row = partial_row(given, columns, self.data.columns_schema)
            x: Data = row.reshape(1, *View.of(self.model).event_shape)
        else:
            x = self._view_with_holes(self._asked(given))
        generator = torch.Generator().manual_seed(seed)
        rows = x.rows if isinstance(x, View) else torch.as_tensor(x)
        found = queries.sample_given(model, x, n, generator=generator, **how)
        hole = torch.as_tensor(rows[:]).isnan().unsqueeze(1).expand(found.shape)
        values = self._rounded(found.flatten(0, 1), hole.flatten(0, 1))
        count = int((~hole[:, 0]).sum())
        by = "Hamiltonian Monte Carlo" if how.get("method") == "hmc" else "importance resampling"
        cells = f"{count} given cell{'s' * (count != 1)}"
        notes = [f"{len(values):,} rows drawn from p(the other cells | {said}{', ' * bool(said)}{cells}), by {by}"]
        notes += [f"{said} is given exactly: the model is conditioned on it"] if said else []
        front = {name: np.repeat(cell, len(values)) for name, cell in front.items()}
        return Table(values, columns, notes=tuple(notes), schema=self.data.columns_schema, front=front)

    def sample_under(self, contexts: Data, *, mean: bool = False, seed: int = 0) -> Table:
        """A row drawn from p(x | context) for each context, or a mean of p(x|z): in front of it what it was given.

        Args:
            contexts: codes and numbers as the model takes them, shape (N, C); see `data.contexts`.
            mean: means of p(x|z) at draws of z instead of draws.
            seed: source of all noise.

        Raises:
            ConfigError: if the model is conditioned on nothing.
            ShapeError, DataError: if these are no contexts of the model.
        """
        rows = as_tensor(contexts)
        model, front, said = self._under(rows)
        generator = torch.Generator().manual_seed(seed)
        x = self._in_units(View.of(model).wide().sample(len(rows), mean, generator))
        columns = self.data.columns or element_names(x.shape[1:], "x")
        notes = (f"{len(x):,} rows drawn from p(x | {said}), exactly: the model is conditioned on it",)
        return Table(x, columns, notes=notes, schema=self.data.columns_schema, front=front)

    def _under(self, contexts: Tensor) -> tuple[Any, dict[str, np.ndarray], str]:
        """The model under contexts of shape (N, C), the cells that they stand for, and these in words."""
        schema = self.data.context_schema
        if schema is None:
            raise ConfigError(
                f"{self.called} is a model of x alone; fit one of x given labels: --preset conditional-vae"
            )
        try:
            checks.contexts_of(self.model, contexts, len(contexts))
        except DataError as error:
            unknown = [column.name for column, c in zip(schema.modelled, contexts.T, strict=True) if c.isnan().any()]
            if not unknown:
                raise
            names = " and ".join(column.name for column in schema.modelled)
            raise ConfigError(
                f"the model is given {names}, none of which was missing in its fit, and {unknown[0]} is not given: "
                f"--given {unknown[0]}=VALUE"
            ) from error
        cells = as_frame(schema.decode(contexts.double().numpy(), "pyarrow"))
        front = {name: np.array(cells[name].to_list()) for name in cells.columns}
        alike = bool((contexts == contexts[:1]).all())
        said = ", ".join(f"{name} = {cell[0]}" if alike else f"{name} of each row" for name, cell in front.items())
        return self.model.given(contexts), front, said

    def _view_with_holes(self, rows: Dataset) -> View | np.ndarray:
        """The rows as the model meets them; where it bears no holes the question says so."""
        try:
            return self._view(rows)
        except NonFiniteError:
            return rows.x

    def _rounded(self, values: Tensor, where: Tensor) -> np.ndarray:
        """Values of shape (N, *X) with whole numbers where the data had no others, and where some are no data."""
        x = values.numpy()
        if self.data.columns_schema is not None:  # which rounds by itself
            return x
        return np.where(where.numpy(), self.data.rounded(x), x)


def _said_of_clusters(found: queries.Clusters, labels: np.ndarray | None) -> tuple[str, ...]:
    """How large the clusters are, where they come from, and how well they agree with labels."""
    sizes = found.sizes.tolist()
    of = "q(z|x)" if found.method == "posterior" else "p(z|x), by importance weights"
    notes = [
        f"p_c is p(c|x), the mean of p(c|z) over {found.num_samples} draws from {of}",
        f"{sum(size > 0 for size in sizes)} of {len(sizes)} clusters have rows: {', '.join(map(str, sizes))}",
    ]
    few = int(found.unreliable.sum())
    if few:
        notes.append(f"{few:,} rows rest on fewer than {queries.FEWEST} effective draws of z: raise the draws of z")
    if labels is not None and len(set(np.asarray(labels).tolist())) > 1:
        beside = evaluation.cluster_agreement(labels, found.cluster)
        notes.append(
            f"beside the labels of these rows: accuracy {beside.value:.4f} ± {beside.stderr:.4f} with a label for each "
            f"cluster, NMI {beside.details['nmi']:.4f}, ARI {beside.details['ari']:.4f}"
        )
    return tuple(notes)


def _said(found: queries.Imputation, statistic: Statistic, rows: Dataset) -> tuple[str, ...]:
    """What was filled, and what that assumes."""
    if not found.num_filled:
        return (f"no cell of the {len(rows):,} rows is empty; they are written as they are",)
    num_rows = int((~found.ess.isnan()).sum())
    draws = found.draws
    if draws is None:
        how = f"the {statistic} of numbers, the level nearest to it of grades, and the most probable of other levels"
        if rows.schema is None or not rows.schema.level_values:
            how = f"the {statistic} of numbers and the most probable level"
    else:
        how = f"{len(draws)} draws from p(empty cells | the others)"
    notes = [
        f"filled {found.num_filled:,} cells of {num_rows:,} rows with {how}, K = {found.num_samples} draws of z",
        "assumed: given the cells that are there, whether a cell is empty does not depend on its value",
    ]
    few = int(found.unreliable.sum())
    if few:
        notes.append(f"{few:,} rows rest on fewer than {queries.FEWEST} effective draws of z: raise the draws of z")
    return tuple(notes)
