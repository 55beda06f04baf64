"""The training loop: one epoch after the other, one step after the other, and nothing hidden."""

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import tee
from pathlib import Path

import torch
from torch import Tensor, nn

from vaekit import engine
from vaekit.engine import world
from vaekit.errors import ArtifactError
from vaekit.models.rows import Batch, given, slices
from vaekit.models.view import View
from vaekit.objectives import Objective
from vaekit.saving import spec
from vaekit.training.callbacks import Callback
from vaekit.training.checkpoint import load_checkpoint, save_checkpoint
from vaekit.training.history import History, Totals
from vaekit.training.settings import INITIAL, NOISE, ORDER, VALID, TrainerSettings
from vaekit.training.step import Step
from vaekit.training.together import Part, StepNoise, start_alike

_VALID_ROWS = 1024
_CHECKPOINT_SECONDS = 10.0
_LOG_DET = "log_det"
_WITHOUT = {"row_noise": False}  # what checkpoints of older versions do not say


class Loop:
    """One run of a trainer: its state, and the loop itself.

    Attributes:
        model: the model.
        objective: the objective.
        history: what happened so far.
        epoch: number of finished epochs.
        step: number of steps so far, skipped ones included.
        max_epochs: where training ends at the latest.
        num_batches: steps per epoch.
        stop: set to True to end after the current epoch.
        signal: name of a signal that asks to end after the current step, or None.
    """

    def __init__(
        self,
        settings: TrainerSettings,
        objective: Objective,
        train: View,
        valid: View | None,
        run: Path | None,
        callbacks: Sequence[Callback],
    ) -> None:
        self.settings, self.objective, self.run = settings, objective, run
        self.train, self.valid = train, valid
        self.model = model = train.model
        self.device, self.dtype = engine.model_device(model), engine.model_dtype(model)
        self.callbacks = callbacks
        self.boundaries = _boundaries(len(train), settings.batch_size)
        self.num_batches, self.max_epochs = len(self.boundaries), settings.max_epochs
        self.is_together = world.size() > 1
        with engine.seeded(engine.block_seed(settings.seed, INITIAL)):
            objective.build(given(model, None if train.context is None else train.context[[0, 0]]))
        first = Part.of(self.boundaries[0]).rows
        num_rows = first.stop - first.start if isinstance(first, slice) else len(first)
        self.stepper = Step(settings, train, objective, self.num_batches * self.max_epochs, num_rows)
        self.history = History()
        self.epoch = self.step = self.batch = 0
        self.stop = False
        self.signal: str | None = None
        self.totals = Totals()
        self.seconds = 0.0
        self.last_checkpoint = time.monotonic()
        self.best_value, self.best_weights = -math.inf, None if valid is None else _weights(model)
        # All noise of the run. It stands in the place of torch's stream for one step at a time, so
        # that other threads get their turn in between.
        self.noise = StepNoise(settings.seed, NOISE, settings.row_noise, objective.num_samples)

    # --- The loop ----------------------------------------------------------------------------------------------------

    def __call__(self, resume: bool = False) -> None:
        """Train until the last epoch, until patience runs out, or until a signal."""
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            engine.network_precision(self.model, self.settings.precision, self.settings.batch_size) as low,
        ):
            if resume and (self.run is not None or self.is_together):
                self._restore()
            self._notify(lambda callback: callback.on_fit_start(self))
            if self.is_together:  # whatever a callback did to them
                start_alike(self.model, self.objective)
            parts, ahead = tee(self._parts())
            batches = self.train.batches(part.rows for part in ahead)
            try:
                while self.epoch < self.max_epochs and not (self.stop or self._is_ending):
                    self._run_epoch(batches, parts)
                if self._is_ending:
                    self.signal = self.signal or "SIGTERM"  # that of another process
                    self._checkpoint()
            finally:
                batches.close()
                dtype = low or self.dtype or torch.get_default_dtype()
                compiled_at = self.stepper.compiled_at
                self.history.engine = engine.describe_run(self.model, dtype, self.settings.compile, compiled_at)
                self._notify(lambda callback: callback.on_fit_end(self))

    @property
    def _is_ending(self) -> bool:
        """Whether a signal asks to end: one that all processes have heard of, where several train together."""
        return self.stepper.together.ends if self.is_together else bool(self.signal)

    def _run_epoch(self, batches: Iterator[Batch], parts: Iterator[Part]) -> None:
        _train_mode(self.model, self.objective)
        started = time.perf_counter()
        for _ in range(self.batch, self.num_batches):
            part = next(parts)
            self.stepper.together.asks_to_end = bool(self.signal)
            with self.noise.at(self.step, part.rows):
                batch = next(batches)
                loss = self.stepper(batch, part if self.is_together else None)
            if loss is not None:  # a skipped step adds nothing
                self._add(self.totals, {"loss": loss.value, **loss.terms}, batch, part.counts)
            self.batch, self.step = self.batch + 1, self.step + 1
            self._notify(lambda callback: callback.on_step_end(self))
            if self._is_ending:
                break
        self.seconds += time.perf_counter() - started
        if self.batch == self.num_batches:
            self._finish_epoch()

    def _finish_epoch(self) -> None:
        self.epoch, self.batch = self.epoch + 1, 0
        totals = self.totals.shared() if self.is_together else self.totals
        record = {"epoch": self.epoch, "step": self.step, "seconds": self.seconds, **self._means("train", totals)}
        record |= {"learning_rate": self.stepper.learning_rate, "skipped": self.stepper.num_skipped}
        self.totals, self.seconds = Totals(), 0.0
        if self.valid is not None:
            record |= self._validate(self.valid)
            self._keep_best(record[f"valid_{self.objective.selects}"])
        self.stepper.end_epoch(record.get(f"valid_{self.objective.selects}"))
        self.history.records.append(record)
        if self._checkpoint_is_due():
            self._checkpoint()
        self._notify(lambda callback: callback.on_epoch_end(self, record))
        self.stop = world.any_of(self.stop)

    def _parts(self) -> Iterator[Part]:
        """Which rows each batch of the rest of the run has: a function of the seed and the epoch alone."""
        first, weight = self.batch, self.train.weight if self.is_together else None
        for epoch in range(self.epoch, self.max_epochs):
            order = self._order(epoch)
            for rows in self.boundaries[first:]:
                yield Part.of(rows if order is None else order[rows], weight)
            first = 0

    def _order(self, epoch: int) -> Tensor | None:
        if not self.settings.shuffle:
            return None
        seed = engine.block_seed(self.settings.seed, ORDER, epoch)
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(seed))
        return order.to(self.train.rows.device) if isinstance(self.train.rows, Tensor) else order

    # --- Sums, validation, best weights ------------------------------------------------------------------------------

    def _means(self, part: str, totals: Totals) -> dict[str, float]:
        """Mean of each term, the log-densities in the units of the data."""
        means = totals.means()
        shift = means.pop(_LOG_DET, 0.0)
        shifted = self.objective.log_densities
        return {f"{part}_{name}": mean + shift if name in shifted else mean for name, mean in means.items()}

    def _validate(self, valid: View) -> dict[str, float]:
        """The bounds on all validation rows, at beta = 1, with the same noise after every epoch."""
        totals, num_samples = Totals(), self.objective.num_samples
        by_row = self.settings.row_noise or self.is_together
        noise = StepNoise(self.settings.seed, VALID, by_row, num_samples)
        part = Part.of(slice(0, len(valid)))
        assert isinstance(part.rows, slice)
        num_rows = part.rows.stop - part.rows.start
        indices = [
            slice(part.rows.start + rows.start, part.rows.start + rows.stop)
            for rows in slices(num_rows, max(1, _VALID_ROWS // num_samples))
        ]
        with world.alone(), engine.evaluating(self.model), closing(valid.batches(indices)) as batches:
            for rows in indices:
                with noise.at(0, rows):
                    batch = next(batches)
                    model = given(self.model, batch.context)
                    self._add(totals, self.objective.validation_terms(model, batch.x), batch, part.counts)
        return self._means("valid", totals.shared() if self.is_together else totals)

    def _add(self, totals: Totals, terms: dict[str, Tensor], batch: Batch, counts: bool = True) -> None:
        if self.train.has_jacobian:
            terms = {**terms, _LOG_DET: batch.log_det}
        totals.add(terms, len(batch), batch.weight if counts else batch.log_det.new_zeros(len(batch)))

    def _keep_best(self, value: float) -> None:
        if not math.isfinite(value):
            warnings.warn(f"the validation bound of epoch {self.epoch} is {value}; its weights cannot be chosen")
        if value > self.best_value:
            self.best_value, self.best_weights = value, _weights(self.model)
            self.history.best_epoch = self.epoch
            return
        patience = self.settings.patience
        if patience is not None and self.epoch - (self.history.best_epoch or 0) >= patience:
            self.stop = self.history.stopped_early = True

    def restore_best(self) -> None:
        """Put the best weights back into the model; without validation data, or where asked, the last ones stay."""
        if self.settings.keep == "best" and self.best_weights is not None and self.history.best_epoch is not None:
            self.model.load_state_dict(self.best_weights)

    def tell_choice(self) -> None:
        """Tell callbacks that the model has the weights that it keeps."""
        self._notify(lambda callback: callback.on_weights_chosen(self))

    # --- Checkpoints -------------------------------------------------------------------------------------------------

    def _notify(self, tell: Callable[[Callback], None]) -> None:
        with world.alone():  # a callback may belong to one process
            for callback in self.callbacks:
                tell(callback)  # without the run's noise: a callback may wait for another thread that needs the stream

    def _fingerprint(self) -> dict[str, object]:
        """What a checkpoint must agree with for a resumed run to be the same run."""
        return {
            **self.settings.fingerprint(),
            "num_rows": len(self.train),
            "objective": spec.in_words(spec.describe(self.objective, "objective")),
        }

    def _checkpoint_is_due(self) -> bool:
        if self.settings.checkpoint_every is None:
            return time.monotonic() - self.last_checkpoint >= _CHECKPOINT_SECONDS
        return self.epoch % self.settings.checkpoint_every == 0

    def _checkpoint(self) -> None:
        totals = self.totals.shared() if self.is_together and self.batch else self.totals
        if self.run is None or world.rank():
            return
        self.last_checkpoint = time.monotonic()
        save_checkpoint(
            self.run,
            {
                "fingerprint": self._fingerprint(),
                "model": _weights(self.model),
                "objective": dict(self.objective.state_dict()),
                "stepper": self.stepper.state_dict(),
                "random": self.noise.stream.state_dict(),
                "best": (self.best_value, self.best_weights, self.history.best_epoch),
                "place": (self.epoch, self.batch, self.step, self.stop, self.history.stopped_early),
                "totals": (totals.state_dict(), self.seconds),
                "history": self.history.records,
            },
        )

    def _restore(self) -> None:
        state = load_checkpoint(self.run)
        if state is None:
            return
        for name, now in self._fingerprint().items():
            if state["fingerprint"].get(name, _WITHOUT.get(name)) != now:
                raise ArtifactError(
                    f"the checkpoint in {self.run} was made with {name}={state['fingerprint'].get(name)!r}, now it is "
                    f"{now!r}. Resume with the same settings, or start another run."
                )
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError as error:
            raise ArtifactError(f"the checkpoint in {self.run} belongs to another model; fit anew") from error
        self.objective.load_state_dict(state["objective"])
        self.stepper.load_state_dict(state["stepper"])
        self.noise.stream.load_state_dict(state["random"])
        self.best_value, self.best_weights, self.history.best_epoch = state["best"]
        self.epoch, self.batch, self.step, self.stop, self.history.stopped_early = state["place"]
        totals, self.seconds = state["totals"]
        self.totals.load_state_dict(totals)
        if world.rank():
            self.totals.emptied()
        self.history.records = state["history"]


def _boundaries(num_rows: int, batch_size: int) -> list[slice]:
    """Batches of one epoch. A last batch of a single row joins the one before it: batch norm cannot use one row."""
    parts = slices(num_rows, batch_size)
    if len(parts) > 1 and parts[-1].stop - parts[-1].start == 1:
        parts[-2:] = [slice(parts[-2].start, parts[-1].stop)]
    return parts


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _train_mode(model: nn.Module, objective: nn.Module) -> None:
    model.train()
    objective.train()
