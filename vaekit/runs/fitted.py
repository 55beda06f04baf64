"""A fitted model and what is known of it, in a folder or in memory."""

import copy
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from torch import Tensor

from vaekit import engine
from vaekit.columns import RowsAbout
from vaekit.models.view import View
from vaekit.paths import as_text
from vaekit.recipes import Settings, settings
from vaekit.runs.calibration import Calibration, stored_calibrations
from vaekit.runs.classes import CLASS_CALIBRATION, TEMPERATURE
from vaekit.runs.folder import DENSITIES, DataAbout, Stored, save_run
from vaekit.runs.own_data import IN_MEMORY, OwnData
from vaekit.runs.reading import describe, records
from vaekit.runs.training_rows import stored_rows
from vaekit.saving import artifact


class Fitted:
    """What a run is, beside the rows that it reads and the questions that it answers; see `Run` for the arguments."""

    def __init__(
        self,
        folder: Path | None,
        config: artifact.Config,
        *,
        weights: bytes | None = None,
        epochs: Sequence[dict[str, float]] = (),
    ) -> None:
        self.folder, self.config = folder, config
        self.data = DataAbout.of(config.metadata, folder)
        self.called = IN_MEMORY if folder is None else as_text(folder)
        self._own, self._weights, self._epochs = OwnData(self.data, folder), weights, epochs

    def __repr__(self) -> str:
        return "Run(in memory)" if self.folder is None else f"Run({str(self.folder)!r})"

    def __getstate__(self) -> dict[str, Any]:
        """Without the restored model: a pickle holds JSON and safetensors."""
        return {name: value for name, value in self.__dict__.items() if name not in ("model", "in_float64", "_met")}

    @cached_property
    def model(self) -> Any:
        """The model in eval mode, on the CPU; read when it is first asked for.

        Raises:
            ArtifactError: if the weights are missing or altered.
        """
        with engine.seeded(0):  # modules are made with weights that are then replaced: no stream of others moves
            return artifact.put_together(self.config, self.weights, where=str(self._own.place))

    @property
    def weights(self) -> bytes:
        """The weights as they are stored: safetensors.

        Raises:
            ArtifactError: if they are missing or altered.
        """
        return artifact.read_weights(self._own.place, self.config) if self._weights is None else self._weights

    @cached_property
    def in_float64(self) -> Self:
        """The same run, whose model computes in float64: a row's answers are then the same alone and among others.

        In float32 they are so up to rounding, which is 1e-6 of log p, and faster.
        """
        run = copy.copy(self)
        run.__dict__.pop("_met", None)
        run.__dict__["model"] = copy.deepcopy(self.model).double()
        return run

    @cached_property
    def _met(self) -> View:
        """The model without rows: one dry run for all questions."""
        view = View.of(self.model)
        view.at_prior  # noqa: B018  (before there are copies, which share what is known)
        return view

    def in_memory(self) -> Self:
        """The run without its folder, which may go."""
        return type(self)(None, self.config, weights=self.weights, epochs=self.records)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the run to a folder, as `vaekit fit` writes it.

        Raises:
            ConfigError: if the folder holds something else, or a run that is not to be replaced.
            BusyError: if another process writes into it.
            ArtifactError: if it cannot be written.
        """
        stored = Stored(settings=self.config.metadata.get("settings") or {}, data=self.data)
        save_run(Path(folder), self.config, self.weights, stored, self.records, overwrite)

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
        return stored_rows(self.config.metadata, self._own.place)

    @property
    def calibrations(self) -> list[Calibration]:
        """What log p is of rows that were not trained on, for some numbers of draws; none where the run does not say.

        Raises:
            ArtifactError: if that part of its `config.json` is damaged.
        """
        return stored_calibrations(self.config.metadata, self._own.place)

    @property
    def class_calibrations(self) -> list[Calibration]:
        """What log p(x), summed over the classes, is of such rows, of a run with classes; see `calibrations`."""
        return stored_calibrations(self.config.metadata, self._own.place, CLASS_CALIBRATION)

    @property
    def temperature(self) -> float:
        """What log p(x|y) is divided by in p(y|x), as held-out rows chose it; 1 where the run does not say."""
        return float(self.config.metadata.get(TEMPERATURE) or 1.0)

    @property
    def records(self) -> list[dict[str, float]]:
        """The epochs of the fit; empty where there are none."""
        return records(self._own.place) if self.folder is not None else list(self._epochs)

    def describe(self) -> dict[str, Any]:
        """Everything worth knowing of the run, as plain values."""
        return describe(self.config, lambda: self.model)

    def _in_units(self, x: Tensor) -> np.ndarray:
        """Values of shape (N, *X) as an answer has them: whole where the data were, if p(x|z) is a density."""
        is_density = View.of(self.model).quantity in DENSITIES
        return self.data.rounded(x.cpu().numpy()) if is_density else x.cpu().numpy()
