"""The trainer: settings of a run, and `fit`."""

import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vaekit import engine
from vaekit.engine import world
from vaekit.errors import ConfigError, DataError
from vaekit.models.view import View
from vaekit.objectives import Objective
from vaekit.training.callbacks import Callback, EpochLog, MetricsFile, progress_callback
from vaekit.training.history import History
from vaekit.training.loop import Loop
from vaekit.training.settings import TrainerSettings
from vaekit.training.together import refuse_differences
from vaekit.traits import Data


class Trainer(TrainerSettings):
    """Fits a model to data by stochastic gradient descent on an objective.

    Args:
        max_epochs: passes over the training data at most.
        batch_size: rows per step.
        learning_rate: handed to the optimiser as `lr`.
        optimizer: any factory `optimizer(parameters, lr=learning_rate)`; None is Adam.
        scheduler: any factory `scheduler(optimizer)` of a learning-rate schedule.
        scheduler_moves: whether the schedule moves once per "epoch" or once per "step".
        precision: "float32", "bf16" (matrix products inside networks only), or "auto": bf16 where the hardware is fast
            at it and the networks are large enough to gain.
        compile: "on" compiles the loss with torch.compile; "auto" starts without, and compiles it where the steps
            that are left are worth the time that it takes (a resumed run may then differ in the last bits); "off".
            Objectives, models and posteriors whose `can_compile` is False, such as `DReG`, stay as they are.
        device: "auto" (CUDA where there is one), "cpu", "cuda", ...
        seed: source of the order of rows and of all noise while training; global random state is left alone.
        patience: end after so many epochs without a better validation bound; None never does.
        max_grad_norm: clip the gradient's norm; None does not.
        em_steps: (E, M): in turn E updates of the posterior alone and M of the rest (equations 13.15 and 13.19); None
            updates both at once. More E than M steps help an encoder that lags behind (He et al. 2019).
        shuffle: a new order of rows in each epoch.
        callbacks: see `Callback`.
        progress: whether to report on stderr.
        checkpoint_every: epochs between checkpoints, for `fit(..., run=)`; None writes one at the end of an epoch when
            the last one is ten seconds old.
        keep: whose weights the model has in the end: "best", those of the best validation bound at beta = 1, or "last",
            for experiments that this choice would hide, such as training without the KL.
        row_noise: whether all noise of training is a function of seed, step and the row's number, so that any number of
            processes gives the loss curve of one. It takes time, and nothing is compiled.

    Raises:
        ConfigError: for a setting that cannot be.

    Example:
        >>> import torch, vaekit as vk
        >>> model, objective = vk.presets.vae((4,), latent_dim=2, hidden=(8,), likelihood="normal")
        >>> x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
        >>> history = Trainer(max_epochs=2, progress=False).fit(model, objective, x)
        >>> len(history["train_elbo"])
        2
    """

    def fit(
        self,
        model: Any,
        objective: Objective,
        train: Data,
        valid: Data = None,
        *,
        weight: Data = None,
        run: str | Path | None = None,
        resume: bool = False,
    ) -> History:
        """Train; with `valid`, leave the model with the weights of the best validation bound (at beta = 1); see `keep`.

        A signal (Ctrl-C, SIGTERM) ends training after the current step: a checkpoint is written, the best weights are
        put back, and then KeyboardInterrupt or SystemExit(143) is raised; at an interactive prompt `fit` returns
        instead.

        In a group of `torch.distributed`, which is joined here where a launcher's variables are set, all processes call
        `fit` with the same rows and settings. Each takes its share of every batch, so that `batch_size` stays what the
        gradient is made of; process 0 alone writes and reports. Callbacks are told on every process, and compute there
        without the others (`vaekit.distributed.alone`).

        Args:
            model: an nn.Module with `posterior`, `prior` and `likelihood`.
            objective: what to minimise.
            train: training data in their own units, shape (N, *X): an array, a tensor, or a data set. Rows that stay on
                disk (`vaekit.data.load(..., in_memory=False)`) are read a batch at a time; the result is the same.
            valid: validation data, or None to keep the last weights.
            weight: weight of each training row in the loss, shape (N,), not negative; None weighs all alike.
            run: folder for `metrics.jsonl` and checkpoints; None writes nothing.
            resume: continue from the checkpoint in `run`; without one, start from the beginning. On a CPU the final
                weights are those of an uninterrupted run, bit for bit.

        Returns:
            Lists per epoch; see `History`.

        Raises:
            ShapeError, SupportError, DataError: if the data do not fit the model.
            ConfigError: if the settings do not go together, or within torch.autocast.
            TrainingError: after three steps in a row that were not finite; the model then has its best weights.
            ArtifactError: if the checkpoint is damaged or belongs to other settings.
            GroupError: if processes that train together have other rows or settings, or one of them ended or hangs.
            BusyError: if the model is being evaluated, or another thread trains it or another model by this objective.
        """
        if not isinstance(model, nn.Module):
            raise ConfigError(f"only an nn.Module can be trained; got {type(model).__name__}")
        if self.patience is not None and valid is None:
            raise ConfigError("patience counts epochs without a better validation bound; hand over `valid` or drop it")
        engine.settle_heap()
        engine.join()
        device = engine.resolve_device(self.device)
        if torch.is_autocast_enabled(device.type):
            raise ConfigError(
                "fit() was called within torch.autocast, which would keep the weights of the first step and reach the "
                'densities; call it outside, and choose Trainer(precision="bf16") for low precision inside networks'
            )
        model.to(device)
        objective.to(device)
        is_first = world.rank() == 0
        view = View.of(model, train, where="train", requires=objective.requires, weight=weight)
        if len(view) < 2:
            raise DataError(f"train has {len(view)} rows; training needs at least 2")
        held_out = None if valid is None else view.beside(valid, "valid").resident()
        if world.size() > 1:
            refuse_differences(view, held_out, self)
        folder = None if run is None or not is_first else Path(run)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        with (
            engine.training(model),
            engine.training(objective, "objective"),
            engine.batch_norm_together(model) if world.size() > 1 else nullcontext(),
            nullcontext() if is_first else _unspoken(),
        ):
            objective.prepare(view.total_weight)
            loop = Loop(self, objective, view.resident(), held_out, folder, self._callbacks(folder))
            try:
                with _signals(loop):
                    num_threads = engine.threads_for(model, self.batch_size)
                    engine.run_flushing_denormals(partial(loop, resume), num_threads, loop.device)
            finally:
                loop.restore_best()
                model.eval()
            loop.tell_choice()
        return self._finish(loop)

    @staticmethod
    def _finish(loop: Loop) -> History:
        loop.history.interrupted = loop.signal
        if loop.signal and not engine.in_notebook():
            raise KeyboardInterrupt if loop.signal == "SIGINT" else SystemExit(128 + signal.SIGTERM)
        return loop.history

    def _callbacks(self, folder: Path | None) -> list[Callback]:
        if world.rank():
            return list(self.callbacks)
        files = [] if folder is None else [MetricsFile(folder / "metrics.jsonl")]
        return [*files, EpochLog(), *self.callbacks, *([progress_callback()] if self.progress else [])]


@contextmanager
def _unspoken() -> Iterator[None]:
    """No warnings: process 0 has the same ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _signals(loop: Loop) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM end the loop after its step; a second one acts at once. Handlers are put back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: object) -> None:
        if loop.signal:
            raise KeyboardInterrupt
        loop.signal = signal.Signals(number).name

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
