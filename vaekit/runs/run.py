"""A run as an object: the fitted model, its settings, what its data were, and its answers for other rows."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaekit import data, evaluation
from vaekit.columns import RowsAbout
from vaekit.data import Dataset
from vaekit.data.sources import Part
from vaekit.errors import ColumnError, ConfigError, DataError
from vaekit.models.rows import as_tensor
from vaekit.models.view import View
from vaekit.recipes import Settings, settings
from vaekit.runs.folder import DataAbout
from vaekit.runs.reading import describe, records
from vaekit.runs.table import Table, check_key, element_names
from vaekit.runs.training_rows import stored_rows
from vaekit.saving import artifact
from vaekit.traits import Data


class Run:
    """A fitted model with its data's description; `vk.runs.open` makes one.

    Its questions (`score`, `encode`, `reconstruct`, `sample`) answer with a `Table`, under the seed alone: the same
    question has the same answer each time. The command line and a service ask them as a notebook does.

    Args:
        folder: the folder of the run.
        config: what its `config.json` holds.

    Attributes:
        folder: the folder of the run.
        config: what its `config.json` holds.
        data: what its data were; empty where the model was only saved.
    """

    def __init__(self, folder: Path, config: artifact.Config) -> None:
        self.folder, self.config = folder, config
        self.data = DataAbout.of(config.metadata, folder)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @cached_property
    def model(self) -> Any:
        """The model in eval mode, on the CPU; read when it is first asked for.

        Raises:
            ArtifactError: if the weights are missing or altered.
        """
        return artifact.restore(self.folder, self.config)

    @property
    def settings(self) -> Settings | None:
        """The settings of the fit; None where the model was only saved."""
        stored = self.config.metadata.get("settings")
        return None if stored is None else settings(stored)

    @cached_property
    def training_rows(self) -> RowsAbout | None:
        """What the training rows were like, column by column; None where the run does not say.

        Raises:
            ArtifactError: if that part of its `config.json` is damaged.
        """
        return stored_rows(self.config.metadata, self.folder)

    @property
    def records(self) -> list[dict[str, float]]:
        """The epochs of the fit; empty where there are none."""
        return records(self.folder)

    def describe(self) -> dict[str, Any]:
        """Everything worth knowing of the run, as plain values."""
        return describe(self.folder, self.config)

    # --- Rows --------------------------------------------------------------------------------------------------------

    def rows(
        self,
        source: Any = None,
        part: Part = "test",
        *,
        data_dir: str | Path | None = None,
        label: str | None = None,
        key: str | None = None,
    ) -> Dataset:
        """Rows read and checked as the training data were; one row is enough.

        Args:
            source: name or path; a data frame, a list of dictionaries, an array or a data set; None takes what the run
                was fitted to.
            part: which part of a named set.
            data_dir: where named sets are looked for first.
            label: column of a table with labels, if it has another name than in the training data.
            key: column of a table with the identifiers of the rows, likewise.

        Raises:
            ConfigError: if no source is given and the run does not know one.
            DataError: if the data cannot be read, or have other columns.
        """
        if source is None:
            source = self._own_source()
        named = {"label": label or self.data.label, "key": key or self.data.key}
        remembered = {name for name, given in (("label", label), ("key", key)) if given is None and named[name]}
        dataset = _leniently(partial(self._read, source, part, data_dir), named, remembered)
        self._check(dataset)
        return dataset

    def _own_source(self) -> str:
        if self.data.name in data.available():  # without the part that it was fitted to: what is wanted now is `part`
            return self.data.name
        if self.data.source is None:
            raise ConfigError(f"{self.folder} does not say what it was fitted to; name the data")
        return self.data.source

    def _read(
        self, source: Any, part: Part, data_dir: str | Path | None, *, label: str | None, key: str | None
    ) -> Dataset:
        if isinstance(source, str | Path):
            return data.load(source, part=part, data_dir=data_dir, size=self.data.size, label=label, key=key)
        if isinstance(source, Dataset):
            return source
        if isinstance(source, torch.Tensor):
            values = as_tensor(source).detach().cpu()
            source = (values.float() if values.dtype in (torch.bfloat16, torch.float16) else values).numpy()
        if isinstance(source, np.ndarray):
            return Dataset(source)
        if isinstance(source, Sequence) and all(isinstance(record, Mapping) for record in source):
            return data.from_records(source, label, key=key)
        return data.from_frame(source, label, key=key)

    def _check(self, dataset: Dataset) -> None:
        if self.data.value_range and not _is_whole(dataset):
            low, high = self.data.value_range
            raise DataError(
                f"the run was fitted to integers in {low:g}..{high:g}; got {dataset.dtype} that are not whole."
            )
        own, found = self.data.columns, dataset.columns
        if own and found and own != found:
            different = [c for c in own if c not in found] or [c for c in found if c not in own]
            raise DataError(f"the columns differ from those the run was fitted to: {different[:5] or 'their order'}")

    # --- Questions ---------------------------------------------------------------------------------------------------

    def _asked(self, rows: Data) -> Dataset:
        """The rows of a question: a data set as it is, or what `rows` makes of anything else."""
        return rows if isinstance(rows, Dataset) else self.rows(rows)

    def score(self, rows: Data, *, num_samples: int = 100, seed: int = 0, progress: bool = False) -> Table:
        """log p(x) of each row in nats: columns `log_p`, `stderr` (Monte Carlo) and `ess`, float64.

        A row without a number has NaN or -inf as `log_p`. `Table.reasons` says why, and which rows not to believe.

        Args:
            rows: a data set, as `rows` gives it, or what `rows` makes one of.
            num_samples: K, draws of z per row.
            seed: source of all noise.
            progress: whether to report on stderr.

        Raises:
            ConfigError: if the rows' column of identifiers has the name of one of these, as in the other questions.
        """
        rows, columns = self._asked(rows), ("log_p", "stderr", "ess")
        check_key(rows.key, columns)
        found = evaluation.log_marginal(
            self.model, rows, num_samples=num_samples, generator=_generator(seed), progress=progress
        )
        values = torch.stack([found.value, found.stderr, found.ess], dim=1).numpy()
        reasons = {text: bad.numpy() for text, bad in found.reasons.items()}
        return Table(values, columns, rows.key, rows.row_keys, reasons)

    def encode(self, rows: Data, *, mean: bool = True, seed: int = 0) -> Table:
        """E[z|x] of each row, or a draw from q(z|x): columns `z0`, `z1`, ..."""
        rows, columns = self._asked(rows), element_names(View.of(self.model).latent_shape, "z")
        check_key(rows.key, columns)
        codes = self.model.encode(rows, mean=mean, generator=_generator(seed)).cpu().numpy()
        return Table(codes, columns, rows.key, rows.row_keys)

    def reconstruct(self, rows: Data, *, mean: bool = True, seed: int = 0) -> Table:
        """E[x'|z] at z = E[z|x] of each row, or draws throughout, in the units of the data, under their columns."""
        rows = self._asked(rows)
        columns = self._columns(rows.event_shape)
        check_key(rows.key, columns)
        x = self.model.reconstruct(rows, mean=mean, generator=_generator(seed)).cpu().numpy()
        return Table(x, columns, rows.key, rows.row_keys)

    def sample(self, n: int, *, mean: bool = False, seed: int = 0) -> Table:
        """Draws from p(x), or means of p(x|z), in the units of the data, under their columns and without keys."""
        x = self.model.sample(n, mean=mean, generator=_generator(seed)).cpu().numpy()
        return Table(x, self._columns(x.shape[1:]))

    def _columns(self, event_shape: tuple[int, ...]) -> tuple[str, ...]:
        return self.data.columns or element_names(event_shape, "x")


def open(folder: str | Path) -> Run:
    """The run in a folder, or any model that `vk.save` wrote; weights are read when they are first needed.

    Args:
        folder: the folder.

    Raises:
        ArtifactError: if it holds no saved model, or one of a newer vaekit.

    Example:
        Log-densities of new rows, beside their identifiers::

            run = vk.runs.open("RUN")
            table = run.score(run.rows("new.csv"), num_samples=100, seed=0)
            table.write("scores.csv")
    """
    return Run(Path(folder), artifact.read_config(folder))


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _leniently(read: Callable[..., Dataset], named: dict[str, str | None], remembered: set[str]) -> Dataset:
    """Read with the columns that the run remembers; new rows may come without their labels or identifiers."""
    while True:
        try:
            return read(**named)
        except ColumnError as error:
            if error.option not in remembered:
                raise
            named, remembered = {**named, error.option: None}, remembered - {error.option}


def _is_whole(dataset: Dataset) -> bool:
    return dataset.dtype.kind in "ui" or all(np.array_equal(x, np.round(x)) for x in dataset.blocks())
